// The package on workerd, and so on Cloudflare Workers: a fetch handler, and a store in Durable Objects.

import "./lib/component-module.js";

export * from "./lib/common.js";
export { durableObjects, EventStore } from "./lib/durable-objects.js";
