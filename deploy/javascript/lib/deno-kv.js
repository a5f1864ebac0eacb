// A store in Deno KV.
//
// 201 means: Deno KV has committed the event. In a file that is after a sync to the disk.

import { sameEvent } from "./protocol.js";
import { PutError } from "./put-error.js";

/** The first part of all keys. */
const PREFIX = "alldata_event";

/** The key of what is written only to have something synced. */
const REPEATED = ["alldata_repeated"];

/** The most bytes of a value. */
const MAX_EVENT_BYTES = 65_536;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The store of `peer` in a `Deno.Kv`. */
export function denoKv(kv) {
  const get = async (key) => {
    const { value } = await kv.get(toPath(key));
    return value === null ? undefined : decoder.decode(value);
  };
  // Whether this process has written, so that all that was written before is synced with it.
  let hasWritten = false;
  return {
    async put(key, event) {
      const value = encoder.encode(event);
      if (value.byteLength > MAX_EVENT_BYTES) {
        const bytes = value.byteLength;
        throw PutError.rejected(`The event has ${bytes} bytes: the store takes at most ${MAX_EVENT_BYTES}.`);
      }
      // Fails if the key is there.
      const path = toPath(key);
      const insert = kv.atomic().check({ key: path, versionstamp: null }).set(path, value);
      const { ok } = await insert.commit().catch(rethrow);
      // What a killed process has written may not be synced, but is read as stored.
      if (!ok && !hasWritten) await kv.set(REPEATED, true);
      hasWritten = true;
      if (!ok && !(await sameEvent(await get(key), event))) throw PutError.conflict();
    },
    get,
    async *entries() {
      for await (const { key, value } of kv.list({ prefix: [PREFIX] })) yield [key[1], decoder.decode(value)];
    },
  };
}

function toPath(key) {
  return [PREFIX, key];
}

/** Deno KV writes U+0000 as two bytes, so that a key of many is too large for it. */
function rethrow(error) {
  if (error instanceof TypeError) throw PutError.rejected("The key is too large for the store.");
  throw error;
}
