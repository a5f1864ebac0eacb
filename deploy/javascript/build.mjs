// Makes lib/generated/ from the component: the functions of `alldata:peer/protocol` as one core module, and the
// JavaScript that calls them.
//
//     alldata-peer component -o peer.wasm
//     alldata-peer component --wit > peer.wit
//     npm ci && npm run build && npm pack
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

import { componentEmbed, componentNew } from "@bytecodealliance/jco";

const INTERFACE = "alldata:peer/protocol@0.1.0";

/** What is changed in the output of jco. */
const CHANGES = [
  // It drops a U+FEFF at the start of a key, so that two keys become one.
  [/new TextDecoder(?=[,;])/, 'new TextDecoder("utf-8",{ignoreBOM:!0})'],
  // It reads the environment several times in each call: slow, and forbidden on Deno unless allowed.
  [/globalThis\?\.process\?\.env\?\.JCO_DEBUG/, "!1"],
];

const here = dirname(fileURLToPath(import.meta.url));
const generated = join(here, "lib/generated");
const require = createRequire(import.meta.url);

if (process.argv[2] === "--check") {
  if (!exists(join(generated, "protocol.js"))) fail("lib/generated/ is missing: run `npm run build` first.");
} else {
  await build();
}

async function build() {
  for (const [file, command] of [
    ["peer.wasm", "alldata-peer component -o peer.wasm"],
    ["peer.wit", "alldata-peer component --wit > peer.wit"],
  ]) {
    if (!exists(join(here, file))) fail(`${file} is missing in ${here}: run \`${command}\` there first.`);
  }
  const work = mkdtempSync(join(tmpdir(), "alldata-peer-"));
  try {
    const component = await withoutWasi(work);
    transpile(component, join(work, "out"));
    rmSync(generated, { recursive: true, force: true });
    mkdirSync(generated);
    for (const [name, content] of outputs(join(work, "out"))) writeFileSync(join(generated, name), content);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  report();
}

/** A component with only the exports of `INTERFACE`, and without imports. */
async function withoutWasi(work) {
  transpile(join(here, "peer.wasm"), join(work, "whole"));
  const exports = [];
  for (const name of ["decode", "error-response", "same-event"]) exports.push(`${INTERFACE}#${name}`);
  for (const name of ["decode", "error-response"]) exports.push(`cabi_post_${INTERFACE}#${name}`);
  exports.push("memory", "cabi_realloc");
  const graph = [{ name: "root", root: true, reaches: exports }, ...exports.map((name) => ({ name, export: name }))];
  const [graphFile, core] = [join(work, "graph.json"), join(work, "core.wasm")];
  writeFileSync(graphFile, JSON.stringify(graph));
  const metadce = join(dirname(require.resolve("binaryen")), "bin/wasm-metadce");
  run([metadce, join(work, "whole/protocol.core.wasm"), "--graph-file", graphFile, "-all", "-o", core]);
  const imports = WebAssembly.Module.imports(new WebAssembly.Module(readFileSync(core)));
  if (imports.length > 0) fail(`${INTERFACE} calls imports: ${JSON.stringify(imports)}`);
  const witSource = `${readFileSync(join(here, "peer.wit"), "utf8")}\nworld functions { export protocol; }\n`;
  const embedded = await componentEmbed({ binary: readFileSync(core), witSource, world: "functions" });
  const component = join(work, "component.wasm");
  writeFileSync(component, await componentNew(embedded));
  return component;
}

function transpile(component, directory) {
  const options = ["--instantiation", "async", "--no-nodejs-compat", "--no-wasi-shim", "--no-typescript", "--minify"];
  jco("transpile", component, ...options, "--name", "protocol", "-o", directory);
}

/** What the package takes of what jco wrote. */
function outputs(directory) {
  const modules = readdirSync(directory).filter((name) => name.endsWith(".wasm"));
  if (modules.join() !== "protocol.core.wasm") fail(`jco wrote other modules than expected: ${modules}`);
  const text = readFileSync(join(directory, "protocol.js"), "utf8");
  const changed = CHANGES.reduce((changed, [from, to]) => {
    const parts = changed.split(from);
    if (parts.length !== 2) fail(`jco's output has ${from} ${parts.length - 1} times, and not once.`);
    return parts.join(to);
  }, text);
  return [
    ["protocol.js", changed],
    ["protocol.core.wasm", readFileSync(join(directory, modules[0]))],
  ];
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

function jco(...args) {
  run([join(dirname(require.resolve("@bytecodealliance/jco")), "jco.js"), ...args]);
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
