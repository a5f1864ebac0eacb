// Serves the package to a browser, and uses its page as a person does.
//
//     node browser.mjs PROFILE PACKAGE BODIES
//
// PROFILE is the directory of the browser, PACKAGE that of the package, BODIES a file with an array of bodies. Prints
// `state TEXT` once the page is ready; `put TEXT` for the response that the page shows to each of three puts, and
// `events TEXT` for its table; `put TEXT` after a forced reload; then, after the browser was killed and started again, `events TEXT` and `put TEXT`; last,
// `response JSON` with status and text for each body.

import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { extname, join, normalize } from "node:path";

const [profile, directory, bodies] = process.argv.slice(2);
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm" };
const FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"];

const files = http.createServer(async (request, response) => {
  const path = normalize(new URL(request.url, "http://localhost").pathname);
  try {
    const content = await readFile(join(directory, path));
    response.writeHead(200, { "content-type": TYPES[extname(path)] ?? "application/octet-stream" }).end(content);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => files.listen(0, "127.0.0.1", resolve));
const address = `http://127.0.0.1:${files.address().port}/browser/index.html`;

/** A browser with one page, in which `run` evaluates an expression. It ends with this process, since its pipe does. */
async function open() {
  const flags = [...FLAGS, "--remote-debugging-pipe", `--user-data-dir=${profile}`, "about:blank"];
  const chromium = spawn("chromium", flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
  const waiting = new Map();
  let text = "";
  chromium.stdio[4].setEncoding("utf8").on("data", (part) => {
    const messages = (text + part).split("\0");
    text = messages.pop();
    for (const message of messages) {
      const { id, result } = JSON.parse(message);
      waiting.get(id)?.(result);
      waiting.delete(id);
    }
  });
  let calls = 0;
  const call = (method, params, sessionId) => {
    const id = ++calls;
    const result = new Promise((resolve) => waiting.set(id, resolve));
    chromium.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return result;
  };
  const { targetId } = await call("Target.createTarget", { url: address });
  const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
  const run = async (expression) => {
    const params = { expression, awaitPromise: true, returnByValue: true };
    return (await call("Runtime.evaluate", params, sessionId))?.result?.value;
  };
  const kill = () => new Promise((resolve) => chromium.once("exit", resolve).kill("SIGKILL"));
  const reload = () => call("Page.reload", { ignoreCache: true }, sessionId);
  return { run, reload, kill };
}

/** Waits until an expression is true in the page. The test has the deadline. */
async function until(run, expression) {
  while (!(await run(expression))) await new Promise((resolve) => setTimeout(resolve, 20));
}

const READY = `document.getElementById("state")?.textContent === "ready"`;
const PUT = (event) => `(() => {
  const form = document.querySelector("form");
  document.getElementById("response").textContent = "";
  form.elements.event.value = ${JSON.stringify(event)};
  form.querySelector("button").click();
})()`;
const say = (name, text) => console.log(`${name} ${String(text).replaceAll("\n", " ")}`);

async function put(run, event) {
  await run(PUT(event));
  await until(run, `/^\\d/.test(document.getElementById("response").textContent)`);
  say("put", await run(`document.getElementById("response").textContent`));
}

async function events(run) {
  // The table follows the response.
  await until(run, `document.querySelectorAll("#events tr").length > 0`);
  say("events", await run(`document.getElementById("events").innerText`));
}

let page = await open();
await until(page.run, READY);
say("state", "ready");
for (const event of ['{"a": 1}', '{"a":1.0}', '{"a":2}']) await put(page.run, event);
await events(page.run);
// As by Shift+Reload: the service worker does not control the new page.
await page.run(`document.getElementById("state").textContent = "old"`);
await page.reload();
await until(page.run, READY);
await put(page.run, '{"a":4}');
await page.kill();
page = await open();
await until(page.run, READY);
await events(page.run);
await put(page.run, '{"a":3}');
for (const body of JSON.parse(await readFile(bodies, "utf8"))) {
  const send = `fetch("./_put", { method: "POST", body: ${JSON.stringify(body)} })`;
  const response = `${send}.then(async (response) => JSON.stringify([response.status, await response.text()]))`;
  say("response", await page.run(response));
}
await page.kill();
process.exit(0);
