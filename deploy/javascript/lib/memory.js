// A store in memory, for tests. 201 means: in the memory of this process, until it ends.

import { byteLength } from "./byte-length.js";
import { sameEvent } from "./protocol.js";
import { PutError } from "./put-error.js";

/** The most bytes of keys and events, as the memory sink of the server in Rust has it. */
const MAX_BYTES = 256 * 1024 * 1024;

/** When to try again: nothing frees the memory but a restart. */
const FULL_RETRY_SECONDS = 60;

export function memory({ maxBytes = MAX_BYTES } = {}) {
  const events = new Map();
  let bytes = 0;
  return {
    async put(key, event) {
      const present = events.get(key);
      if (present === undefined) {
        const more = byteLength(key) + byteLength(event);
        if (bytes + more > maxBytes) throw PutError.unavailable(FULL_RETRY_SECONDS, "The memory is full.");
        bytes += more;
        events.set(key, event);
      } else if (!(await sameEvent(present, event))) {
        throw PutError.conflict();
      }
    },
    get: (key) => events.get(key),
    entries: () => events.entries(),
  };
}
