// The body of a request, whole and within the limits, or the reason why not.

/** For how long a body that was refused is read to its end. */
export const DRAIN_TIMEOUT_MS = 2_000;

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
 *
 * `body.read` passes each part to a function and returns a promise of the end, `body.discard` reads up to a number of bytes
 * that are not needed, and `body.length` is what `Content-Length` says, or NaN.
 */
export async function readBody(body, { limit, timeoutMs, reserve, maxDrainedBytes }) {
  const parts = new Parts(body.length, limit, reserve);
  if (body.length > limit) {
    await body.discard(maxDrainedBytes);
    throw parts.tooLarge();
  }
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new BodyError({ tag: "request-timeout" })), timeoutMs);
  });
  try {
    // One race for all parts: a promise keeps something for each race that it is in.
    await Promise.race([body.read((part) => parts.push(part)), late]);
    return parts.whole();
  } catch (error) {
    const isTooSlow = error instanceof BodyError && error.request.tag === "request-timeout";
    await body.discard(isTooSlow ? 0 : maxDrainedBytes);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** All parts in one buffer, since a part of one byte takes hundreds. */
class Parts {
  #buffer = new Uint8Array(0);
  #bytes = 0;
  #length;
  #limit;
  #reserve;

  constructor(length, limit, reserve) {
    this.#length = length;
    this.#limit = limit;
    this.#reserve = reserve;
  }

  tooLarge() {
    return new BodyError({ tag: "content-too-large", val: this.#limit });
  }

  push(part) {
    const most = this.#bytes + part.byteLength;
    if (most > this.#limit) throw this.tooLarge();
    if (most > this.#buffer.byteLength) {
      // Twice the size each time, so that each byte is copied a few times at most, but not more than the body has.
      const size = Math.max(most, Math.min(2 * this.#buffer.byteLength, this.#length || this.#limit, this.#limit));
      this.#reserve(size - this.#buffer.byteLength);
      // The whole body in one part.
      if (most === this.#length && this.#bytes === 0) this.#buffer = part;
      else this.#grow(size);
    }
    if (this.#buffer !== part) this.#buffer.set(part, this.#bytes);
    this.#bytes = most;
  }

  #grow(size) {
    const larger = new Uint8Array(size);
    larger.set(this.whole());
    this.#buffer = larger;
  }

  whole() {
    return this.#buffer.subarray(0, this.#bytes);
  }
}

/** The body of a `Request`. */
export class FetchBody {
  #request;
  #reader;

  constructor(request) {
    this.#request = request;
    this.length = Number(request.headers.get("content-length") ?? NaN);
  }

  /** Ends when the reader is cancelled. */
  async read(take) {
    // Some browsers have no stream for it, and read it whole.
    if (!this.#request.body) return take(new Uint8Array(await this.#request.arrayBuffer()));
    this.#reader = this.#request.body.getReader();
    for (;;) {
      const { done, value } = await this.#next();
      if (done) return;
      take(value);
    }
  }

  async #next() {
    try {
      return await this.#reader.read();
    } catch (cause) {
      throw Object.assign(new BodyError({ tag: "incomplete-body" }), { cause });
    }
  }

  async discard(maxBytes) {
    if (!this.#request.body) return;
    // Reading sends `100 Continue` to a client that waits for it: it gets the refusal instead.
    const most = this.#reader === undefined && this.#request.headers.has("expect") ? 0 : maxBytes;
    this.#reader ??= this.#request.body.getReader();
    let timer;
    const late = new Promise((resolve) => {
      if (most > 0) timer = setTimeout(resolve, DRAIN_TIMEOUT_MS);
    });
    try {
      await Promise.race([this.#drop(most), late]);
    } catch {
      // The client has gone.
    } finally {
      clearTimeout(timer);
    }
    // Nobody waits for this: the response must not be delayed by a client that sends nothing.
    this.#reader.cancel().catch(() => {});
  }

  async #drop(maxBytes) {
    for (let bytes = 0; bytes < maxBytes; ) {
      const { done, value } = await this.#reader.read();
      if (done) return;
      bytes += value.byteLength;
    }
  }
}
