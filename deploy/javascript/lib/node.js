// node:http in front of a fetch handler.
//
// A handler of `peer` reads the body from node:http itself: a `Request` with its stream takes longer than a put. For
// any other handler, the body is read as fast as it takes it. A client that has gone ends the body with an error, and
// its response is dropped.

import http from "node:http";
import { setImmediate } from "node:timers/promises";

import { describe, limited } from "./log-limiter.js";
import { NodeBody, drained } from "./node-body.js";
import { Connection } from "./node-connection.js";
import { fromResponse, toRequest } from "./node-fetch.js";
import { answerOf, errorResponse, fieldsOf } from "./peer.js";

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

/** For how long a connection that is closed waits for the client to close it. */
const LINGER_MS = 2_000;

/** The cases of `request-error` for errors of Node's parser; all others are `malformed-request`. */
const PARSER_ERRORS = {
  HPE_HEADER_OVERFLOW: { tag: "header-fields-too-large" },
  HPE_INVALID_EOF_STATE: { tag: "incomplete-body" },
  HPE_INVALID_CHUNK_SIZE: { tag: "incomplete-body" },
  HPE_CHUNK_EXTENSIONS_OVERFLOW: { tag: "incomplete-body" },
  ERR_HTTP_REQUEST_TIMEOUT: { tag: "request-timeout" },
};

/** Methods of which no `Request` may be made. */
const FORBIDDEN = new Set(["CONNECT", "TRACE", "TRACK"]);

const log = limited((line) => console.error(line));

const ignore = () => {};

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
  // A client that has sent its last request gets the response to it.
  server.httpAllowHalfOpen = true;
  const connections = new WeakMap();
  const connectionOf = (socket) => {
    if (!connections.has(socket)) connections.set(socket, new Connection(server, socket));
    return connections.get(socket);
  };
  const respond = responder(fetch);
  const serve = (incoming, outgoing, onRead) => {
    const connection = connectionOf(incoming.socket);
    const exchange = connection.add(incoming, outgoing);
    if (exchange === undefined) incoming.resume();
    else handle(respond, connection, exchange, onRead);
  };
  server.on("request", (incoming, outgoing) => serve(incoming, outgoing));
  // A client that expects `100 Continue` gets it when its body is read, and not with a refusal.
  server.on("checkContinue", (incoming, outgoing) => serve(incoming, outgoing, () => outgoing.writeContinue()));
  // Any other expectation.
  server.on("checkExpectation", (incoming, outgoing) => serve(incoming, outgoing));
  server.on("clientError", (error, socket) => {
    const request = PARSER_ERRORS[error.code] ?? { tag: "malformed-request" };
    const connection = connectionOf(socket);
    const refused = () => refuse(request, socket, connection);
    if (error.code === "ECONNRESET") socket.destroy();
    else if (error.code === "ERR_HTTP_REQUEST_TIMEOUT") connection.headerTimeout(refused);
    else refused();
  });
  // Node has no response for CONNECT, and no longer listens to the connection.
  server.on("connect", (incoming, socket) => {
    socket.on("error", () => socket.destroy());
    // What is not read would reset the connection at its end.
    socket.resume();
    refuse({ tag: "method-not-allowed" }, socket, connectionOf(socket));
  });
  return server;
}

async function handle(respond, connection, exchange, onRead) {
  const { incoming, outgoing, begin } = exchange;
  // What happens to the connection is seen where the body is read.
  incoming.on("error", ignore);
  outgoing.on("error", ignore);
  if (begin !== undefined) {
    await begin.opened;
    if (incoming.socket.destroyed) return;
  }
  let response;
  try {
    response = await respond(incoming, onRead);
  } catch (error) {
    log(`A request failed: ${describe(error)}`);
    response = await failure({ tag: "put", val: { tag: "failed", val: "" } }).catch(ignore);
  }
  if (response === undefined) outgoing.destroy();
  else await send(response, connection, exchange).catch(() => outgoing.destroy());
}

/** A function from a request to the status, fields and body of its response. */
function responder(fetch) {
  const answer = answerOf(fetch);
  return async (incoming, onRead) => {
    const { method, url, httpVersion } = incoming;
    const { hosts, length, coding } = scan(incoming.rawHeaders);
    if (hosts > 1 || (hosts === 0 && httpVersion === "1.1")) return failure({ tag: "invalid-host" });
    if (FORBIDDEN.has(method)) return failure({ tag: "method-not-allowed" });
    if (!url.startsWith("/") && !isUrl(url)) return failure({ tag: "invalid-target" });
    if (answer === undefined) return fromResponse(await fetch(toRequest(incoming, onRead)));
    return sendable(await answer({ method, coding, body: new NodeBody(incoming, length, onRead) }));
  };
}

/** What a request says of its body, and how many `Host` it has. */
function scan(rawHeaders) {
  const found = { hosts: 0, length: NaN, coding: "" };
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at].toLowerCase();
    const value = rawHeaders[at + 1];
    if (name === "host") found.hosts += 1;
    else if (name === "content-length") found.length = Number(value);
    else if (name === "content-encoding") found.coding += `,${value}`;
  }
  return found;
}

async function failure(error) {
  return sendable(await errorResponse(error));
}

function sendable(response) {
  return { status: response.status, fields: fieldsOf(response), body: response.body };
}

/** Whether a text is a URL that a `Request` may have: one without a user name. */
function isUrl(text) {
  if (!URL.canParse(text)) return false;
  const { username, password } = new URL(text);
  return username === "" && password === "";
}

async function send({ status, fields, body }, connection, exchange) {
  const { incoming, outgoing } = exchange;
  const turn = connection.turn(exchange);
  if (turn !== undefined) await turn;
  // The rest of a body in the same packet is parsed after this.
  if (!incoming.complete) await setImmediate();
  const isUnread = !incoming.complete;
  if (outgoing.destroyed || incoming.socket.destroyed || (isUnread && connection.isRefused)) return;
  if (isUnread || connection.isLastTurn()) {
    connection.isEnding = true;
    fields.push(["connection", "close"]);
  }
  outgoing.writeHead(status, fields.flat());
  if (isUnread) {
    // The response is complete by its length, and the connection stays open for the drain.
    outgoing.write(body);
    // Nothing is written where the response has no body, as that to HEAD.
    outgoing.flushHeaders();
    await drained(incoming, MAX_DRAINED_BYTES);
    outgoing.end();
  } else {
    // One write, where there is no body.
    outgoing.end(body.length === 0 ? undefined : body);
    // A body that was not read is thrown away.
    incoming.resume();
  }
}

/**
 * Answers what gets no `outgoing` from Node, after the responses to the requests before it, and closes the connection.
 * Node reports the same error again for whatever comes later, and for the end of the connection.
 */
async function refuse(request, socket, connection) {
  if (connection.isRefused) return;
  connection.isRefused = true;
  connection.isEnding = true;
  const { last } = connection;
  const isWithinRequest = last?.incoming.complete === false;
  await connection.turn(isWithinRequest ? last : connection.enter({}));
  const response = await failure(request).catch(ignore);
  // It is being drained, and then closed.
  if (isWithinRequest && last.outgoing.headersSent) return;
  if (response === undefined || !socket.writable) {
    socket.destroy();
    return;
  }
  const fields = response.fields.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const phrase = http.STATUS_CODES[response.status];
  const head = `HTTP/1.1 ${response.status} ${phrase}\r\n${fields}connection: close\r\n\r\n`;
  socket.end(head + response.body);
  // The client may not end its side.
  setTimeout(() => socket.destroy(), LINGER_MS).unref();
}
