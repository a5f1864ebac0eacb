// The component as a file beside this one on a web server, for browsers.

import { setComponent } from "./protocol.js";

setComponent(() => {
  return WebAssembly.compileStreaming(fetch(new URL("./generated/protocol.core.wasm", import.meta.url)));
});
