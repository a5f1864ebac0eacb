import type { Store } from "./lib/common.js";

export * from "./lib/common.js";

/**
 * A store in a database of IndexedDB, `alldata-events` by default. 201 means that the browser has completed a transaction
 * with the durability `strict`. It may remove all data of a site, unless `navigator.storage.persist()` has returned true.
 */
export function indexedDb(name?: string): Store & {
  get(key: string): Promise<string | undefined>;
  entries(): Promise<[string, string][]>;
};
