// The interface of the original module `alldata-peer-server-http`, on the component.
//
// Stores nothing: 201 means that the listener of `_put` has called back without an error.

import { EventEmitter } from "node:events";

import { createServer } from "./node.js";
import { peer } from "./peer.js";
import { PutError } from "./put-error.js";

const DEFAULT_PORT = 8080;

/** Any IPv4 address. */
const DEFAULT_HOSTNAME = "0.0.0.0";

export class AllDataPeerServer extends EventEmitter {
  #server;
  #limits;

  static listen(options, callback) {
    const server = new AllDataPeerServer(options);
    server.listen(callback);
    return server;
  }

  constructor(options = {}) {
    super();
    this.hostname = options?.hostname ?? DEFAULT_HOSTNAME;
    this.port = options?.port ?? DEFAULT_PORT;
    this.#limits = options ?? {};
  }

  /** The server of `node:http` from `listen` to `close`, otherwise null, as of the original module. */
  get server() {
    return this.#server ?? null;
  }

  listen(callback) {
    if (this.#server !== undefined) throw new Error("The server listens already: close it first.");
    const server = createServer(peer({ put: (key, event) => this.#put(key, event) }, this.#limits));
    this.#server = server;
    server.on("error", (error) => {
      if (!server.listening && this.#server === server) this.#server = undefined;
      this.emit("error", error);
    });
    server.listen({ port: this.port, host: this.hostname }, () => {
      callback?.();
    });
  }

  close(callback) {
    const server = this.#server;
    this.#server = undefined;
    // A server that does not listen is closed.
    if (server === undefined) queueMicrotask(() => callback?.());
    else server.close(() => callback?.());
  }

  /** The address and port that are listened on, or null. */
  address() {
    return this.#server?.address() ?? null;
  }

  /** Returns once the listener has called back: at once where it did so at once. */
  #put(key, event) {
    let result;
    let settle = (error) => {
      result ??= { error };
    };
    try {
      const isHeard = this.emit("_put", key, JSON.parse(event), (error) => settle(error));
      if (!isHeard) settle(PutError.unavailable(undefined, "Nothing listens to `_put`."));
    } catch (error) {
      // What was called back before counts.
      settle(error || new Error(`A listener of \`_put\` threw ${error}.`));
    }
    if (result?.error) throw result.error;
    if (result !== undefined) return undefined;
    return new Promise((resolve, reject) => {
      settle = (error) => (error ? reject(error) : resolve());
    });
  }
}
