// The body of a request, whole and within the limits, or the reason why not.

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
export async function readBody(request, { limit, timeoutMs, reserve }) {
  const tooLarge = () => new BodyError({ tag: "content-too-large", val: BigInt(limit) });
  if (Number(request.headers.get("content-length")) > limit) {
    request.body?.cancel().catch(() => {});
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
    // Nobody waits for this: the answer must not be delayed by a client that sends nothing.
    reader.cancel().catch(() => {});
    throw error;
  } finally {
    clearTimeout(timer);
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
