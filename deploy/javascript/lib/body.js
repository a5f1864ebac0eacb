// The body of a request, whole and within the limits, or the reason why not.

/** For how long a body that was refused is read to its end. */
const DRAIN_TIMEOUT_MS = 2_000;

/** A body that is not decoded. `request` is the case of `request-error`. */
export class BodyError extends Error {
  constructor(request) {
    super(request.tag);
    this.request = request;
  }
}

/**
 * Reads a body. `limit` is the most bytes, `timeoutMs` the most time, and `reserve` takes each part before it is kept
 * and throws where the memory of all bodies is used up.
 */
export async function readBody(request, { limit, timeoutMs, reserve, maxDrainedBytes }) {
  const tooLarge = () => new BodyError({ tag: "content-too-large", val: limit });
  if (Number(request.headers.get("content-length")) > limit) {
    await discardBody(request, maxDrainedBytes);
    throw tooLarge();
  }
  // Some browsers have no stream for it, and read it whole.
  if (!request.body) return wholeBody(request, { tooLarge, limit, reserve });
  const reader = request.body.getReader();
  const length = Number(request.headers.get("content-length") ?? NaN);
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new BodyError({ tag: "request-timeout" })), timeoutMs);
  });
  try {
    // One race for all parts: a promise keeps something for each race that it is in.
    return await Promise.race([readAll(reader, { length, limit, tooLarge, reserve }), late]);
  } catch (error) {
    const isTooSlow = error instanceof BodyError && error.request.tag === "request-timeout";
    await discard(reader, isTooSlow ? 0 : maxDrainedBytes);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** Reads all parts into one buffer, since a part of one byte takes hundreds. Ends when the reader is cancelled. */
async function readAll(reader, { length, limit, tooLarge, reserve }) {
  let buffer = new Uint8Array(0);
  let bytes = 0;
  for (;;) {
    const { done, value } = await read(reader);
    if (done) return buffer.subarray(0, bytes);
    const most = bytes + value.byteLength;
    if (most > limit) throw tooLarge();
    if (most > buffer.byteLength) {
      // Twice the size each time, so that each byte is copied a few times at most, but not more than the body has.
      const size = Math.max(most, Math.min(2 * buffer.byteLength, length || limit, limit));
      reserve(size - buffer.byteLength);
      // The whole body in one part.
      if (most === length && bytes === 0) buffer = value;
      else buffer = grown(buffer.subarray(0, bytes), size);
    }
    if (buffer !== value) buffer.set(value, bytes);
    bytes = most;
  }
}

function grown(buffer, size) {
  const larger = new Uint8Array(size);
  larger.set(buffer);
  return larger;
}

/** Reads up to `maxBytes` of a body that is not needed. */
export async function discardBody(request, maxBytes) {
  if (request.body) await discard(request.body.getReader(), maxBytes);
}

async function discard(reader, maxBytes) {
  let timer;
  const late = new Promise((resolve) => {
    if (maxBytes > 0) timer = setTimeout(resolve, DRAIN_TIMEOUT_MS);
  });
  try {
    await Promise.race([drop(reader, maxBytes), late]);
  } catch {
    // The client has gone.
  } finally {
    clearTimeout(timer);
  }
  // Nobody waits for this: the response must not be delayed by a client that sends nothing.
  reader.cancel().catch(() => {});
}

async function drop(reader, maxBytes) {
  for (let bytes = 0; bytes < maxBytes; ) {
    const { done, value } = await reader.read();
    if (done) return;
    bytes += value.byteLength;
  }
}

async function wholeBody(request, { tooLarge, limit, reserve }) {
  const body = new Uint8Array(await request.arrayBuffer());
  if (body.byteLength > limit) throw tooLarge();
  reserve(body.byteLength);
  return body;
}

async function read(reader) {
  try {
    return await reader.read();
  } catch (cause) {
    throw Object.assign(new BodyError({ tag: "incomplete-body" }), { cause });
  }
}
