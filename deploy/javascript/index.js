// The package on Node.js, Deno and Bun: `peer` is a fetch handler, `createServer` serves it on Node.js, and
// `AllDataPeerServer` has the interface of the original module.

import "./lib/component-file.js";

export { AllDataPeerServer, AllDataPeerServer as default } from "./lib/all-data-peer-server.js";
// What `require` returns, as of the original module.
export { AllDataPeerServer as "module.exports" } from "./lib/all-data-peer-server.js";
export * from "./lib/common.js";
export { denoKv } from "./lib/deno-kv.js";
export { createServer } from "./lib/node.js";
export { sqlite } from "./lib/sqlite.js";
