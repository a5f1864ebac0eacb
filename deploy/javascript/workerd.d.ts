// The types of `cloudflare:workers` are those that `wrangler types` writes.
import { DurableObject } from "cloudflare:workers";

import type { Store } from "./lib/common.js";

export * from "./lib/common.js";

/** A namespace of Durable Objects whose class is `EventStore`. */
export interface EventNamespace {
  getByName(name: string): { put(key: string, event: string): PromiseLike<boolean> };
}

/**
 * A store in the Durable Objects of a namespace. 201 means that the platform has confirmed the write. A key and its
 * event may have 1999900 bytes together; above, the put gets 422.
 */
export function durableObjects(
  namespace: EventNamespace,
  options?: {
    /**
     * The name of the object that has the event of a key: `events` for all keys by default. It has to be the same
     * function for ever, or a key may be written twice.
     */
    objectName?: (key: string) => string;
  },
): Store;

/** The class of the Durable Objects: a Worker has to export it. It needs SQLite (`new_sqlite_classes`). */
export class EventStore extends DurableObject {
  /** Stores an event if the key has none. Returns whether the key has this event now. */
  put(key: string, event: string): Promise<boolean>;
  /** The event of a key as it was sent. */
  get(key: string): string | undefined;
  /** Events in the order of their keys: the first `limit` (at most 1000) of those after the key `after`. */
  list(options?: { after?: string; limit?: number }): { key: string; event: string }[];
}
