// node:http in front of a fetch handler.
//
// The body is read as fast as the handler takes it. A client that has gone ends the body with an error, and its
// response is dropped.

import http from "node:http";
import { finished } from "node:stream/promises";
import { setImmediate } from "node:timers/promises";

import { describe, limited } from "./log-limiter.js";
import { errorResponse } from "./peer.js";

/** The time for a header section: that of the server in Rust. */
const HEADER_TIMEOUT_MS = 10_000;

/** How often that time is checked. Node's own interval is 30 s. */
const HEADER_CHECK_MS = 1_000;

/** The time between two requests. Longer than that of common clients, so that they close first. */
const IDLE_TIMEOUT_MS = 75_000;

/**
 * How much of a body that was not read is drained, so that the client reads its response instead of a reset: as much
 * as by the server in Rust.
 */
const MAX_DRAINED_BYTES = 64 * 1024 * 1024;

/** For how long that is drained, as by the server in Rust. */
const DRAIN_TIMEOUT_MS = 2_000;

/** The cases of `request-error` for errors of Node's parser; all others are `malformed-request`. */
const PARSER_ERRORS = {
  HPE_HEADER_OVERFLOW: { tag: "header-fields-too-large" },
  HPE_INVALID_EOF_STATE: { tag: "incomplete-body" },
  HPE_INVALID_CHUNK_SIZE: { tag: "incomplete-body" },
  HPE_CHUNK_EXTENSIONS_OVERFLOW: { tag: "incomplete-body" },
  ERR_HTTP_REQUEST_TIMEOUT: { tag: "request-timeout" },
};

/** Methods that have no body in a `Request`, or none of them may be made. */
const WITHOUT_BODY = new Set(["GET", "HEAD"]);
const FORBIDDEN = new Set(["CONNECT", "TRACE", "TRACK"]);

const log = limited((line) => console.error(line));

export function createServer(fetch) {
  const server = http.createServer({
    headersTimeout: HEADER_TIMEOUT_MS,
    connectionsCheckingInterval: HEADER_CHECK_MS,
    keepAliveTimeout: IDLE_TIMEOUT_MS,
    // The handler has the time-out of bodies, which the component answers.
    requestTimeout: 0,
    // The component answers a request without `Host`.
    requireHostHeader: false,
  });
  // The last request of each connection, and when its response has been sent.
  const exchanges = new WeakMap();
  const serve = (incoming, outgoing, onRead) => {
    const sent = handle(fetch, server, incoming, outgoing, onRead);
    exchanges.set(incoming.socket, { incoming, outgoing, sent });
  };
  server.on("request", (incoming, outgoing) => serve(incoming, outgoing));
  // A client that expects `100 Continue` gets it when its body is read, and not with a refusal.
  server.on("checkContinue", (incoming, outgoing) => serve(incoming, outgoing, () => outgoing.writeContinue()));
  // Any other expectation.
  server.on("checkExpectation", (incoming, outgoing) => serve(incoming, outgoing));
  server.on("clientError", (error, socket) => {
    const request = PARSER_ERRORS[error.code] ?? { tag: "malformed-request" };
    refuse(request, socket, exchanges.get(socket), error.code === "ECONNRESET");
  });
  // Node has no response for CONNECT, and no longer listens to the connection.
  server.on("connect", (incoming, socket) => {
    socket.on("error", () => socket.destroy());
    refuse({ tag: "method-not-allowed" }, socket, exchanges.get(socket));
  });
  return server;
}

async function handle(fetch, server, incoming, outgoing, onRead) {
  // What happens to the connection is seen where the body is read.
  incoming.on("error", () => {});
  outgoing.on("error", () => {});
  let response;
  try {
    response = await respond(fetch, incoming, onRead);
  } catch (error) {
    log(`A request failed: ${describe(error)}`);
    response = await errorResponse({ tag: "put", val: { tag: "failed", val: "" } }).catch(() => undefined);
  }
  if (response === undefined) outgoing.destroy();
  else await send(response, server, incoming, outgoing).catch(() => outgoing.destroy());
  // It may also have been cut off.
  await finished(outgoing).catch(() => {});
}

function respond(fetch, incoming, onRead) {
  const { method, url, httpVersion, headersDistinct } = incoming;
  const hosts = headersDistinct.host?.length ?? 0;
  if (hosts > 1 || (hosts === 0 && httpVersion === "1.1")) return errorResponse({ tag: "invalid-host" });
  if (FORBIDDEN.has(method)) return errorResponse({ tag: "method-not-allowed" });
  const headers = new Headers();
  for (let at = 0; at < incoming.rawHeaders.length; at += 2) {
    headers.append(incoming.rawHeaders[at], incoming.rawHeaders[at + 1]);
  }
  const isPath = url.startsWith("/");
  if (!isPath && !isUrl(url)) return errorResponse({ tag: "invalid-target" });
  const body = WITHOUT_BODY.has(method) ? undefined : bodyOf(incoming, onRead);
  return fetch(new Request(isPath ? `http://localhost${url}` : url, { method, headers, body, duplex: "half" }));
}

/** Whether a text is a URL that a `Request` may have: one without a user name. */
function isUrl(text) {
  if (!URL.canParse(text)) return false;
  const { username, password } = new URL(text);
  return username === "" && password === "";
}

/** The body as a stream that reads only when it is read. `onRead` is called before the first time. */
function bodyOf(incoming, onRead) {
  let isOpen = true;
  const end = (close) => {
    if (isOpen) close();
    isOpen = false;
  };
  return new ReadableStream(
    {
      start(controller) {
        incoming.pause();
        incoming.on("data", (part) => {
          // After a cancel the rest is thrown away.
          if (!isOpen) return;
          incoming.pause();
          controller.enqueue(part);
        });
        incoming.once("end", () => end(() => controller.close()));
        incoming.once("close", () => end(() => controller.error(new Error("The connection ended within a body."))));
      },
      pull() {
        onRead?.();
        onRead = undefined;
        incoming.resume();
      },
      cancel() {
        isOpen = false;
      },
    },
    { highWaterMark: 0 },
  );
}

async function send(response, server, incoming, outgoing) {
  const body = Buffer.from(await response.arrayBuffer());
  // The rest of a body in the same packet is parsed after this.
  if (!incoming.complete) await setImmediate();
  if (outgoing.destroyed) return;
  const isUnread = !incoming.complete;
  const fields = [...response.headers];
  // A server that was closed waits for its connections.
  if (isUnread || !server.listening) fields.push(["connection", "close"]);
  outgoing.writeHead(response.status, fields.flat());
  if (isUnread) {
    // The response is complete by its length, and the connection stays open for the drain.
    outgoing.write(body);
    await drained(incoming);
    outgoing.end();
  } else {
    outgoing.end(body);
    // A body that was not read is thrown away.
    incoming.resume();
  }
}

/** Waits until a body has ended, or enough of it was thrown away. */
function drained(incoming) {
  return new Promise((resolve) => {
    let bytes = 0;
    const timer = setTimeout(resolve, DRAIN_TIMEOUT_MS);
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    // A handler that did not read the body, and did not cancel it, gets no more of it.
    incoming.removeAllListeners("data");
    incoming.on("data", (part) => {
      bytes += part.length;
      if (bytes > MAX_DRAINED_BYTES) done();
    });
    incoming.once("end", done).once("close", done).resume();
    if (incoming.readableEnded || incoming.destroyed) done();
  });
}

/**
 * Answers what gets no `outgoing` from Node, after the responses to the requests before it, and closes the connection.
 */
async function refuse(request, socket, last, isGone = false) {
  const isBetweenRequests = last === undefined || last.incoming.complete;
  if (isBetweenRequests) await last?.sent;
  const response = await errorResponse(request).catch(() => undefined);
  const isAnswered = !isBetweenRequests && last.outgoing.headersSent;
  if (response === undefined || isAnswered || !socket.writable || isGone) {
    socket.destroy();
    return;
  }
  const fields = [...response.headers].map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const phrase = http.STATUS_CODES[response.status];
  const head = `HTTP/1.1 ${response.status} ${phrase}\r\n${fields}connection: close\r\n\r\n`;
  socket.end(head + (await response.text()));
  // The client may not end its side.
  setTimeout(() => socket.destroy(), DRAIN_TIMEOUT_MS).unref();
}
