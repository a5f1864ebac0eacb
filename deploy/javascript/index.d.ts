import type { EventEmitter } from "node:events";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";

import type { PeerOptions, Store } from "./lib/common.js";

export * from "./lib/common.js";

/**
 * A server of `node:http` that answers by a fetch handler. Call its `listen`. No `Request` is made for a handler of
 * `peer`, which takes a quarter of the time then. Up to 64 pipelined requests of a connection are worked on at once. After
 * `close` these are answered, the last one with `Connection: close`.
 */
export function createServer(fetch: (request: Request) => Promise<Response>): Server;

/** A database of node:sqlite (`DatabaseSync`), better-sqlite3 or bun:sqlite (`Database`). */
export interface SqliteDatabase {
  exec(sql: string): unknown;
  prepare(sql: string): {
    run(...values: any[]): { changes: number | bigint };
    get(...values: any[]): any;
    all(...values: any[]): any[];
  };
}

/**
 * A store in the table `alldata_event` of a database, which has to be a file. 201 means that the transaction is synced to
 * the disk. Sets the database to WAL and `synchronous = FULL`: nothing may change that, nor write the table.
 */
export function sqlite(database: SqliteDatabase): Store & {
  get(key: string): string | undefined;
  entries(): IterableIterator<[string, string]>;
};

/** The functions of `Deno.Kv` that the store uses. */
export interface DenoKv {
  get(key: string[]): Promise<{ value: unknown }>;
  list(selector: { prefix: string[] }): AsyncIterable<{ key: readonly unknown[]; value: unknown }>;
  set(key: string[], value: unknown): Promise<unknown>;
  atomic(): any;
}

/**
 * A store in Deno KV, which `Deno.openKv` opens. 201 means that Deno KV has committed the event; in a file, that is after
 * a sync to the disk. An event has at most 65536 bytes; above, the put gets 422.
 */
export function denoKv(kv: DenoKv): Store & {
  get(key: string): Promise<string | undefined>;
  entries(): AsyncIterableIterator<[string, string]>;
};

/** The interface of the original module. */
export class AllDataPeerServer extends EventEmitter {
  static listen(options?: AllDataPeerServerOptions, callback?: () => void): AllDataPeerServer;
  constructor(options?: AllDataPeerServerOptions);
  hostname: string;
  port: number;
  /** The server of `node:http` from `listen` to `close`, otherwise null. */
  readonly server: Server | null;
  /** Listens. A failure, such as a port that is in use, is the event `error`. */
  listen(callback?: () => void): void;
  /** Stops to listen, and calls back when all requests have been answered. */
  close(callback?: () => void): void;
  /** The address and port that are listened on, or null. */
  address(): AddressInfo | string | null;
  /** Emitted for each put. The client gets 201 once `callback` is called without an error, else 500. */
  on(event: "_put", listener: (key: string, event: any, callback: (error?: unknown) => void) => void): this;
  on(event: "error", listener: (error: Error) => void): this;
  on(event: string | symbol, listener: (...args: any[]) => void): this;
}

/** The limits of `peer` may be given, too. */
export interface AllDataPeerServerOptions extends PeerOptions {
  /** Any IPv4 address by default. */
  hostname?: string;
  /** 8080 by default; 0 is a free port. */
  port?: number;
}

export default AllDataPeerServer;
