// The package in browsers, without a bundler too: a fetch handler for a service worker, and a store in IndexedDB.

import "./lib/component-fetch.js";

export * from "./lib/common.js";
export { indexedDb } from "./lib/indexed-db.js";
