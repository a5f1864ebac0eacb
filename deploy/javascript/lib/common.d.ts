/** Where a peer stores events. */
export interface Store {
  /**
   * Stores an event. Returning, or resolving, means that it is stored: by this put or by an earlier put of the same
   * key and event. Then the client gets 201.
   *
   * `key` has 1 to 1024 bytes of UTF-8. `event` is the JSON text of the event as it was sent. A store is write-once:
   * where the key has a different event (see `sameEvent`), throw `PutError.conflict()`. Any value other than a
   * `PutError` is `failed`.
   */
  put(key: string, event: string): void | Promise<void>;
}

/**
 * Why a put was not acknowledged: `conflict` is 409, `rejected` 422, `unavailable` 503, `unknown` 504 and `failed`
 * 500. After `unknown` and `failed` the client is told that the event may be stored.
 */
export type PutErrorCode = "conflict" | "rejected" | "unavailable" | "unknown" | "failed";

/** What a store throws. An object of another class with the same `code` is taken as well. */
export class PutError extends Error {
  constructor(code: PutErrorCode, message?: string, options?: ErrorOptions & { retryAfterSeconds?: number });
  readonly code: PutErrorCode;
  readonly retryAfterSeconds?: number;
  /** The key holds a different event, which stays. */
  static conflict(): PutError;
  /** This event is never accepted. The reason, one sentence, is sent to the client. */
  static rejected(reason: string): PutError;
  /** The event is not stored, but may be later. */
  static unavailable(retryAfterSeconds?: number, message?: string): PutError;
  /** The event may or may not be stored. */
  static unknown(message?: string): PutError;
  /** The store failed, and the event may or may not be stored. The reason is logged, and not sent. */
  static failed(reason: string, options?: ErrorOptions): PutError;
}

export interface PeerOptions {
  /** The largest body in bytes: up to 16 MiB, which is the default. Over it: 413. */
  maxBodyBytes?: number;
  /** The most bytes of the bodies of all requests in memory: 256 MiB by default. Over it: 503. */
  maxBufferedBytes?: number;
  /** The time for a body: 30000 by default. After it: 408. */
  bodyTimeoutMs?: number;
  /** The time for the store: 30000 by default. After it: 504. */
  putTimeoutMs?: number;
  /**
   * How much of a body that is refused is read, for up to 2 s, before the response: 0 by default. For platforms on which
   * a client that is still sending gets no response otherwise, such as workerd. Nothing is read from a client that waits for
   * `100 Continue`.
   */
  maxDrainedBytes?: number;
  /** Takes lines for the log: `console.error` by default. The same line is logged once in 5 s, then with a count. */
  log?: (message: string) => void;
}

/** A fetch handler that answers puts, by a store. */
export function peer(store: Store, options?: PeerOptions): (request: Request) => Promise<Response>;

/** Whether two JSON texts are the same event: the same bytes, or the same JSON value, to the last digit. */
export function sameEvent(left: string, right: string): Promise<boolean>;

/** A store in memory, for tests. Over `maxBytes`, 256 MiB by default, puts get 503. */
export function memory(options?: { maxBytes?: number }): Store & {
  get(key: string): string | undefined;
  entries(): IterableIterator<[string, string]>;
};
