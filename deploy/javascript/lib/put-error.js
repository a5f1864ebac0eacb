// Why a store did not acknowledge a put: the five cases of `put-error` in `alldata:peer/put-sink`.

import { property, textOf } from "./thrown.js";

/** The cases that a store may tell by `code`. */
const CODES = new Set(["conflict", "rejected", "unavailable", "unknown", "failed"]);

/** When to try again, where a store does not tell: long enough for a restart, short enough for a person. */
export const RETRY_AFTER_SECONDS = 1;

/** The largest number that `unavailable` takes: it is a `u32`. */
const MAX_RETRY_AFTER_SECONDS = 2 ** 32 - 1;

/** What a client is told where a store rejects an event without a reason. */
const NO_REASON = "The store refuses this event.";

export class PutError extends Error {
  constructor(code, message = code, { retryAfterSeconds, ...options } = {}) {
    if (!CODES.has(code)) throw new TypeError(`${JSON.stringify(code)} is none of ${[...CODES].join(", ")}.`);
    super(message, options);
    this.name = "PutError";
    this.code = code;
    if (code === "unavailable") this.retryAfterSeconds = retryAfterSeconds ?? RETRY_AFTER_SECONDS;
  }

  static conflict() {
    return new PutError("conflict", "The key holds a different event.");
  }

  static rejected(reason) {
    return new PutError("rejected", reason);
  }

  static unavailable(retryAfterSeconds, message = "The store is not available.") {
    return new PutError("unavailable", message, { retryAfterSeconds });
  }

  static unknown(message = "The event may or may not be stored.") {
    return new PutError("unknown", message);
  }

  static failed(reason, options) {
    return new PutError("failed", reason, options);
  }
}

/** What a store threw, as `error-response` takes it. Whatever is none of the five cases is `failed`. */
export function requestError(thrown) {
  const told = property(thrown, "code");
  const code = CODES.has(told) ? told : "failed";
  return { tag: "put", val: { tag: code, val: payload(code, thrown) } };
}

function payload(code, thrown) {
  if (code === "rejected") return textOf(property(thrown, "message") || NO_REASON, NO_REASON);
  if (code === "unavailable") return seconds(property(thrown, "retryAfterSeconds"));
  // The response does not have the reason: it is for the log.
  return code === "failed" ? "" : undefined;
}

function seconds(value) {
  const whole = Math.ceil(Number(textOf(value)));
  return whole >= 0 && whole <= MAX_RETRY_AFTER_SECONDS ? whole : RETRY_AFTER_SECONDS;
}
