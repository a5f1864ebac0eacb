// The body of a request of node:http, which is read from its events.

import { BodyError, DRAIN_TIMEOUT_MS } from "./body.js";

export class NodeBody {
  #incoming;
  #onRead;

  /** `onRead` is called before the body is read for the first time. */
  constructor(incoming, length, onRead) {
    this.#incoming = incoming;
    this.length = length;
    this.#onRead = onRead;
  }

  read(take) {
    const incoming = this.#incoming;
    return new Promise((resolve, reject) => {
      // A connection refers to its last request, which is not to refer to what was read.
      const settle = (end, value) => {
        incoming.off("data", onData).off("end", onEnd).off("close", onClose);
        end(value);
      };
      const onData = (part) => {
        try {
          take(part);
        } catch (error) {
          incoming.pause();
          settle(reject, error);
        }
      };
      const onEnd = () => settle(resolve);
      const onClose = () => settle(reject, new BodyError({ tag: "incomplete-body" }));
      incoming.on("end", onEnd).on("close", onClose).on("data", onData);
      this.#begin();
      // It may have ended before anybody listened.
      if (incoming.destroyed && !incoming.readableEnded) onClose();
    });
  }

  async discard(maxBytes) {
    this.#incoming.pause();
    this.#incoming.removeAllListeners("data");
    // A client that waits for `100 Continue` gets the refusal instead.
    if (maxBytes === 0 || this.#onRead !== undefined) return;
    await drained(this.#incoming, maxBytes);
    this.#incoming.pause();
  }

  #begin() {
    this.#onRead?.();
    this.#onRead = undefined;
  }
}

/** Waits until a body has ended, or more than `maxBytes` of it were thrown away. */
export function drained(incoming, maxBytes) {
  return new Promise((resolve) => {
    let bytes = 0;
    const timer = setTimeout(resolve, DRAIN_TIMEOUT_MS);
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    // Whoever did not read the body to its end gets no more of it.
    incoming.removeAllListeners("data");
    incoming.on("data", (part) => {
      bytes += part.length;
      if (bytes > maxBytes) done();
    });
    incoming.once("end", done).once("close", done).resume();
    if (incoming.readableEnded || incoming.destroyed) done();
  });
}
