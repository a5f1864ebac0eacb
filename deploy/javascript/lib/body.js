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
  const tooLarge = () => new BodyError({ tag: "content-too-large", val: BigInt(limit) });
  if (Number(request.headers.get("content-length")) > limit) {
    await discardBody(request, maxDrainedBytes);
    throw tooLarge();
  }
  // Some browsers have no stream for it, and read it whole.
  if (!request.body) return wholeBody(request, { tooLarge, limit, reserve });
  const reader = request.body.getReader();
  const parts = [];
  let bytes = 0;
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new BodyError({ tag: "request-timeout" })), timeoutMs);
  });
  try {
    for (;;) {
      const { done, value } = await Promise.race([read(reader), late]);
      if (done) return concat(parts, bytes);
      bytes += value.byteLength;
      if (bytes > limit) throw tooLarge();
      reserve(value.byteLength);
      parts.push(value);
    }
  } catch (error) {
    const isTooSlow = error instanceof BodyError && error.request.tag === "request-timeout";
    await discard(reader, isTooSlow ? 0 : maxDrainedBytes);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** Reads up to `maxBytes` of a body that is not needed. */
export async function discardBody(request, maxBytes) {
  if (request.body) await discard(request.body.getReader(), maxBytes);
}

async function discard(reader, maxBytes) {
  let timer;
  const late = new Promise((resolve) => {
    if (maxBytes > 0) timer = setTimeout(resolve, DRAIN_TIMEOUT_MS, { done: true });
  });
  try {
    for (let bytes = 0; bytes < maxBytes; ) {
      const { done, value } = await Promise.race([reader.read(), late]);
      if (done) break;
      bytes += value.byteLength;
    }
  } catch {
    // The client has gone.
  } finally {
    clearTimeout(timer);
  }
  // Nobody waits for this: the response must not be delayed by a client that sends nothing.
  reader.cancel().catch(() => {});
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

function concat(parts, bytes) {
  if (parts.length === 1) return parts[0];
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}
