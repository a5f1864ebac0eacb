// The component as a file beside this one on a web server, for browsers.

import { setComponent } from "./protocol.js";

setComponent(async () => {
  const response = await fetch(new URL("./generated/protocol.core.wasm", import.meta.url));
  if (!response.ok) throw new Error(`${response.url} has the status ${response.status}.`);
  // Not `compileStreaming`: many servers do not know the media type.
  return WebAssembly.compile(await response.arrayBuffer());
});
