// A store in IndexedDB.
//
// 201 means: the browser has completed a transaction with the durability `strict`.

import { sameEvent } from "./protocol.js";
import { PutError } from "./put-error.js";

const DEFAULT_NAME = "alldata-events";

/** The name of the object store. */
const EVENTS = "events";

/** When to try again where the browser gives no more space. */
const FULL_RETRY_SECONDS = 60;

export function indexedDb(name = DEFAULT_NAME) {
  let opened;
  const database = () => {
    opened ??= open(name, () => (opened = undefined));
    return opened;
  };
  return {
    async put(key, event) {
      const present = await insert(await database(), key, event);
      if (present !== undefined && !(await sameEvent(present, event))) throw PutError.conflict();
    },
    async get(key) {
      const events = (await database()).transaction(EVENTS, "readonly").objectStore(EVENTS);
      return result(events.get(key));
    },
    async entries() {
      const events = (await database()).transaction(EVENTS, "readonly").objectStore(EVENTS);
      // Both in one transaction, so that they belong together.
      const [keys, values] = await Promise.all([result(events.getAllKeys()), result(events.getAll())]);
      return keys.map((key, at) => [key, values[at]]);
    },
  };
}

/** Stores an event if the key has none. Returns the event that the key had before. */
function insert(database, key, event) {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(EVENTS, "readwrite", { durability: "strict" });
    const events = transaction.objectStore(EVENTS);
    const present = events.get(key);
    present.onsuccess = () => {
      if (present.result === undefined) events.add(event, key);
    };
    transaction.oncomplete = () => resolve(present.result);
    transaction.onabort = () => reject(toPutError(transaction.error));
  });
}

function open(name, onClose) {
  const request = indexedDB.open(name, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(EVENTS);
  const database = result(request);
  database.then((connection) => {
    connection.onclose = onClose;
    connection.onversionchange = () => {
      connection.close();
      onClose();
    };
  }, onClose);
  return database;
}

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** An aborted transaction has stored nothing. */
function toPutError(error) {
  if (error?.name === "QuotaExceededError") return PutError.unavailable(FULL_RETRY_SECONDS, "The browser has no space.");
  return PutError.failed("The transaction was aborted.", { cause: error });
}
