import type { EventEmitter } from "node:events";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";

export * from "./lib/common.js";

/** A server of `node:http` that answers by a fetch handler. Call its `listen`. */
export function createServer(fetch: (request: Request) => Promise<Response>): Server;

/** The interface of the original module. */
export class AllDataPeerServer extends EventEmitter {
  static listen(options?: AllDataPeerServerOptions, callback?: () => void): AllDataPeerServer;
  constructor(options?: AllDataPeerServerOptions);
  hostname: string;
  port: number;
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

export interface AllDataPeerServerOptions {
  /** Any IPv4 address by default. */
  hostname?: string;
  /** 8080 by default; 0 is a free port. */
  port?: number;
}

export default AllDataPeerServer;
