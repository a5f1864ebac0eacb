// Makes lib/generated/ from the component: the functions of `alldata:peer/protocol` as one core module.
//
//     alldata-peer component -o peer.wasm
//     npm ci && npm run build && npm pack
//
// `npm pack` builds again, by `--check`, and compares: an old module answers otherwise than the component.
//
// The component also exports `wasi:http/incoming-handler`, which the package does not use. It is removed first:
// what is left imports nothing, and has half of the size.

import { spawnSync } from "node:child_process";
import { mkdtempSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const INTERFACE = "alldata:peer/protocol@0.1.0";

/** The exports of the core module that lib/component-abi.js uses. */
const EXPORTS = [
  ...["decode", "stored-response", "error-response", "same-event"].map((name) => `${INTERFACE}#${name}`),
  ...["decode", "stored-response", "error-response"].map((name) => `cabi_post_${INTERFACE}#${name}`),
  "memory",
  "cabi_realloc",
];

/** The first bytes of a component, and the number of its sections that are core modules. */
const COMPONENT = Buffer.from([0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00]);
const CORE_MODULE = 1;

const here = dirname(fileURLToPath(import.meta.url));
const generated = join(here, "lib/generated");
const module = join(generated, "protocol.core.wasm");

if (process.argv[2] === "--check") {
  check();
} else {
  build();
}

function build() {
  const reduced = currentModule();
  rmSync(generated, { recursive: true, force: true });
  mkdirSync(generated);
  writeFileSync(module, reduced);
  report();
}

/** Fails unless lib/generated/ is what a build makes now. */
function check() {
  if (!exists(module)) fail("lib/generated/ is missing: run `npm run build` first.");
  const isCurrent = currentModule().equals(readFileSync(module));
  if (!isCurrent) fail("lib/generated/ is built from another component than peer.wasm: run `npm run build` again.");
}

/** What the package has of the component. */
function currentModule() {
  const file = join(here, "peer.wasm");
  if (!exists(file)) fail(`peer.wasm is missing in ${here}: run \`alldata-peer component -o peer.wasm\` there first.`);
  const hasProtocol = (core) => names(WebAssembly.Module.exports(new WebAssembly.Module(core))).includes(EXPORTS[0]);
  const core = coreModules(readFileSync(file)).find(hasProtocol);
  if (core === undefined) fail(`peer.wasm exports no ${INTERFACE}: is it composed with a sink?`);
  return withoutWasi(core);
}

/** The core modules of a component: each is a section of its binary format, which is a number, a length and the content. */
function coreModules(component) {
  if (!component.subarray(0, COMPONENT.length).equals(COMPONENT)) fail("peer.wasm is not a component.");
  const modules = [];
  for (let at = COMPONENT.length; at < component.length; ) {
    const id = component[at];
    const [length, start] = leb128(component, at + 1);
    if (id === CORE_MODULE) modules.push(component.subarray(start, start + length));
    at = start + length;
  }
  return modules;
}

/** A number of the binary format, and the offset behind it. */
function leb128(bytes, at) {
  for (let value = 0, scale = 1; ; scale *= 128) {
    const byte = bytes[at++];
    value += (byte % 128) * scale;
    if (!(byte >= 128)) return [value, at];
  }
}

/** The module with the exports of `EXPORTS` only, and without imports. */
function withoutWasi(core) {
  const work = mkdtempSync(join(tmpdir(), "alldata-peer-"));
  try {
    const [input, output, graph] = ["core.wasm", "reduced.wasm", "graph.json"].map((name) => join(work, name));
    const nodes = EXPORTS.map((name) => ({ name, export: name }));
    writeFileSync(graph, JSON.stringify([{ name: "root", root: true, reaches: EXPORTS }, ...nodes]));
    writeFileSync(input, core);
    const binaryen = dirname(createRequire(import.meta.url).resolve("binaryen"));
    run([join(binaryen, "bin/wasm-metadce"), input, "--graph-file", graph, "-all", "-o", output]);
    const reduced = readFileSync(output);
    const compiled = new WebAssembly.Module(reduced);
    const [imports, exports] = [WebAssembly.Module.imports(compiled), names(WebAssembly.Module.exports(compiled))];
    if (imports.length > 0) fail(`${INTERFACE} calls imports: ${JSON.stringify(imports)}`);
    const missing = EXPORTS.filter((name) => !exports.includes(name));
    if (missing.length > 0) fail(`The component does not export ${missing.join(", ")}.`);
    return reduced;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function names(exports) {
  return exports.map(({ name }) => name);
}

function report() {
  let [bytes, compressed] = [0, 0];
  for (const directory of [here, join(here, "lib"), generated]) {
    for (const name of readdirSync(directory)) {
      const path = join(directory, name);
      if (!/\.js$/.test(name) && directory !== generated) continue;
      bytes += statSync(path).size;
      compressed += gzipSync(readFileSync(path), { level: 9 }).length;
    }
  }
  const kilobytes = (count) => `${(count / 1000).toFixed(1)} kB`;
  console.log(`JavaScript and WebAssembly: ${kilobytes(bytes)}, compressed ${kilobytes(compressed)}`);
}

function run(args) {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  if (status !== 0) fail(`${args.join(" ")} failed:\n${stdout}${stderr}`);
}

function exists(path) {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
