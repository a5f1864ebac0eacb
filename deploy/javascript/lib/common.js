// What the package has on every platform.

export { memory } from "./memory.js";
export { peer } from "./peer.js";
export { sameEvent } from "./protocol.js";
export { PutError } from "./put-error.js";
