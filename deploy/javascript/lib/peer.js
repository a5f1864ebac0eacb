// The fetch handler: a request to its response, by the functions of the component and a store.
//
// Makes no status code and no text: each outcome is answered by the component.

import { BodyError, FetchBody, readBody } from "./body.js";
import { byteLength } from "./byte-length.js";
import { describe, limited } from "./log-limiter.js";
import { protocol } from "./protocol.js";
import { PutError, RETRY_AFTER_SECONDS, requestError } from "./put-error.js";

/** The largest body that the component decodes, in bytes. */
export const MAX_BODY_BYTES = 16 * 1024 * 1024;

/** The memory for the bodies of all requests, in bytes: that of the server in Rust. */
const MAX_BUFFERED_BYTES = 256 * 1024 * 1024;

/** The time for a body and for the store, in milliseconds: those of the server in Rust. */
const TIMEOUT_MS = 30_000;

/** The longest time of a timer: a longer one ends at once. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

const PROBLEM_MEDIA_TYPE = "application/problem+json";

/** What answers for each handler, for servers that have no `Request`. */
const answers = new WeakMap();

export function peer(store, options = {}) {
  if (typeof store?.put !== "function") throw new TypeError("The store has no function `put`.");
  const settings = {
    limit: setting(options, "maxBodyBytes", MAX_BODY_BYTES, MAX_BODY_BYTES),
    maxBufferedBytes: setting(options, "maxBufferedBytes", MAX_BUFFERED_BYTES, Number.MAX_SAFE_INTEGER),
    bodyTimeoutMs: setting(options, "bodyTimeoutMs", TIMEOUT_MS, MAX_TIMEOUT_MS),
    putTimeoutMs: setting(options, "putTimeoutMs", TIMEOUT_MS, MAX_TIMEOUT_MS),
    maxDrainedBytes: setting(options, "maxDrainedBytes", 0, Number.MAX_SAFE_INTEGER, 0),
    log: limited(options.log ?? ((message) => console.error(message))),
    bufferedBytes: 0,
  };
  const answer = async (request) => {
    const memory = { bytes: 0 };
    try {
      return await answerWithin(request, store, settings, memory);
    } finally {
      settings.bufferedBytes -= memory.bytes;
    }
  };
  const fetch = async (request) => {
    const { method, headers } = request;
    const coding = headers.get("content-encoding") ?? "";
    return toResponse(await answer({ method, coding, body: new FetchBody(request) }));
  };
  answers.set(fetch, answer);
  return fetch;
}

/**
 * The function behind a handler of `peer`: it takes a method, the value of `Content-Encoding` and a body, and returns a
 * promise of the component's response. It is undefined for any other handler.
 */
export function answerOf(fetch) {
  return answers.get(fetch);
}

/** The response of the component to a case of `request-error`. */
export async function errorResponse(error) {
  return (await protocol()).errorResponse(error);
}

/** The header fields of a response, in the order of their names, as a `Response` has them. */
export function fieldsOf({ header, body }) {
  if (body === "" && header === undefined) return [["content-length", "0"]];
  const fields = [["content-length", String(byteLength(body))]];
  if (body !== "") fields.push(["content-type", PROBLEM_MEDIA_TYPE]);
  if (header !== undefined) fields.push(header);
  return fields.sort(([left], [right]) => (left < right ? -1 : 1));
}

async function answerWithin(request, store, settings, memory) {
  const error = requestProblem(request);
  if (error !== undefined) {
    await request.body.discard(settings.maxDrainedBytes);
    return errorResponse(error);
  }
  let decoded;
  try {
    const body = await readWithin(request, settings, memory);
    // Not before: an instance that trapped meanwhile is not called again.
    decoded = (await protocol()).decode(body);
  } catch (thrown) {
    if (thrown instanceof BodyError) return errorResponse(thrown.request);
    // The component trapped: nothing was put. Another instance makes the response.
    settings.log(`A body was not decoded: ${describe(thrown)}`);
    return errorResponse(requestError(PutError.unavailable(RETRY_AFTER_SECONDS)));
  }
  const { put, stored, response } = decoded;
  if (put === undefined) return response;
  try {
    await storeWithin(store, put, settings);
    return stored;
  } catch (thrown) {
    const failure = requestError(thrown);
    if (failure.val.tag === "failed") settings.log(`A put failed: ${describe(thrown)}`);
    return errorResponse(failure);
  }
}

/** Why a request is refused without its body. */
function requestProblem(request) {
  if (request.method !== "POST") return { tag: "method-not-allowed" };
  if (request.coding === "") return undefined;
  const codings = request.coding.split(",").map((coding) => coding.trim());
  const other = codings.find((coding) => coding !== "" && coding.toLowerCase() !== "identity");
  if (other === undefined) return undefined;
  // One character for each byte, as the component counts them.
  return { tag: "unsupported-content-coding", val: other.replace(/[^!-~]/g, "?") };
}

function readWithin(request, settings, memory) {
  const reserve = (bytes) => {
    if (settings.bufferedBytes + bytes > settings.maxBufferedBytes) {
      throw new BodyError(requestError(PutError.unavailable(RETRY_AFTER_SECONDS)));
    }
    settings.bufferedBytes += bytes;
    memory.bytes += bytes;
  };
  const { limit, bodyTimeoutMs: timeoutMs, maxDrainedBytes } = settings;
  return readBody(request.body, { limit, timeoutMs, reserve, maxDrainedBytes });
}

/** Puts, and throws `unknown` where the store has not answered in time. */
async function storeWithin(store, { key, event }, { putTimeoutMs, log }) {
  const returned = store.put(key, event);
  // It has answered.
  if (typeof returned?.then !== "function") return;
  let timer;
  let isLate = false;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => {
      isLate = true;
      reject(PutError.unknown("The store did not answer in time."));
    }, putTimeoutMs);
  });
  const stored = Promise.resolve(returned);
  stored.catch((error) => {
    if (isLate) log(`A put failed after its time-out: ${describe(error)}`);
  });
  try {
    await Promise.race([stored, late]);
  } finally {
    clearTimeout(timer);
  }
}

function toResponse(response) {
  const { status, body } = response;
  return new Response(body === "" ? null : body, { status, headers: fieldsOf(response) });
}

function setting(options, name, preset, most, least = 1) {
  const value = options[name] ?? preset;
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`${name} is ${value}: it must be a whole number from ${least} to ${most}.`);
  }
  return value;
}
