// A store in Durable Objects with SQLite.
//
// 201 means: the platform has confirmed the write. Cloudflare does so once it is on several machines; workerd
// by itself once it is synced to the disk.

import { DurableObject } from "cloudflare:workers";

import { byteLength } from "./byte-length.js";
import { sameEvent } from "./protocol.js";
import { PutError } from "./put-error.js";

/** The most bytes of a key and its event: Cloudflare allows 2 MB for a row. Below that, for the row's own header. */
const MAX_ROW_BYTES = 1_999_900;

/** The most events that `list` returns, so that they fit into the memory of a Worker. */
const MAX_LISTED = 1000;

/** When to try again where an object has more calls than it can serve. */
const OVERLOADED_RETRY_SECONDS = 5;

/** The object that has the events, unless `objectName` says otherwise. */
const DEFAULT_NAME = "events";

/**
 * The store of `peer` in the objects of a namespace whose class is `EventStore`. `objectName` is a function from a key
 * to the name of its object: it has to be the same one for ever, or a key may be written twice.
 */
export function durableObjects(namespace, { objectName = () => DEFAULT_NAME } = {}) {
  return {
    async put(key, event) {
      const bytes = byteLength(key) + byteLength(event);
      if (bytes > MAX_ROW_BYTES) {
        throw PutError.rejected(`Key and event have ${bytes} bytes: the store takes at most ${MAX_ROW_BYTES}.`);
      }
      let isStored;
      try {
        isStored = await namespace.getByName(objectName(key)).put(key, event);
      } catch (error) {
        throw toPutError(error);
      }
      if (!isStored) throw PutError.conflict();
    },
  };
}

/** The class of the objects. Its methods are called by the Workers that have a binding to the namespace. */
export class EventStore extends DurableObject {
  #sql;

  /** Whether this instance has written, so that all that was written before is confirmed with it. */
  #hasWritten = false;

  constructor(ctx, env) {
    super(ctx, env);
    this.#sql = ctx.storage.sql;
    // One row is written for each event, since there is no index beside the table.
    this.#sql.exec(
      "CREATE TABLE IF NOT EXISTS event (key TEXT NOT NULL PRIMARY KEY, event TEXT NOT NULL) STRICT, WITHOUT ROWID",
    );
    this.#sql.exec("CREATE TABLE IF NOT EXISTS repeated (id INTEGER PRIMARY KEY, number INTEGER NOT NULL) STRICT");
  }

  /** Stores an event if the key has none. Returns whether the key has this event now. */
  async put(key, event) {
    const insert = "INSERT INTO event (key, event) VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING 1";
    const isNew = this.#sql.exec(insert, key, event).toArray().length > 0;
    // What an instance that was killed has written may not be synced, but is read as stored.
    if (!isNew && !this.#hasWritten) this.#write();
    this.#hasWritten = true;
    const isStored = isNew || (await sameEvent(this.get(key), event));
    // An earlier put of the same event may be on its way to the disk, too.
    await this.ctx.storage.sync();
    return isStored;
  }

  /** The event of a key, as it was sent, or undefined. */
  get(key) {
    return this.#sql.exec("SELECT event FROM event WHERE key = ?", key).toArray()[0]?.event;
  }

  #write() {
    const upsert = "INSERT INTO repeated VALUES (1, 1) ON CONFLICT DO UPDATE SET number = number + 1";
    this.#sql.exec(upsert);
  }

  /** Events in the order of their keys, as `{ key, event }`: the first `limit` ones after the key `after`. */
  list({ after = "", limit = MAX_LISTED } = {}) {
    const select = "SELECT key, event FROM event WHERE key > ? ORDER BY key LIMIT ?";
    return this.#sql.exec(select, after, Math.min(limit, MAX_LISTED)).toArray();
  }
}

/** What a call to an object threw. A call that was not begun has stored nothing; of any other nothing is known. */
function toPutError(error) {
  if (error?.overloaded) return PutError.unavailable(OVERLOADED_RETRY_SECONDS, "The object is overloaded.");
  return PutError.failed("The call to the object failed.", { cause: error });
}
