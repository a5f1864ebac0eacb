// The package: `peer` is a fetch handler, `createServer` serves it on Node.js, and `AllDataPeerServer` has the
// interface of the original module.

export { AllDataPeerServer, AllDataPeerServer as default } from "./lib/all-data-peer-server.js";
// What `require` returns, as of the original module.
export { AllDataPeerServer as "module.exports" } from "./lib/all-data-peer-server.js";
export { memory } from "./lib/memory.js";
export { createServer } from "./lib/node.js";
export { peer } from "./lib/peer.js";
export { sameEvent } from "./lib/protocol.js";
export { PutError } from "./lib/put-error.js";
