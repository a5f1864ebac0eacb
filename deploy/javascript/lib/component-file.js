// The component as a file, for Node.js, Deno and Bun.

import { readFile } from "node:fs/promises";

import { setComponent } from "./protocol.js";

setComponent(async () => {
  return WebAssembly.compile(await readFile(new URL("./generated/protocol.core.wasm", import.meta.url)));
});
