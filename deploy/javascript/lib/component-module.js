// The component as a module that the platform has compiled, for workerd.

import module from "./generated/protocol.core.wasm";
import { protocol, setComponent } from "./protocol.js";

setComponent(() => module);

// At the start, so that no request waits for what another one has begun.
await protocol();
