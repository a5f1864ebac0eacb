// The functions of the component: what a body means, and the response to each outcome.
//
// They keep no state, so one instance serves all requests. An instance that trapped is replaced.
// How the component is loaded depends on the platform: each entry point of the package sets it.

import { instantiate } from "./generated/protocol.js";

let load;
let compiled;
let instance;

/** Sets how the component is loaded: a function that returns a `WebAssembly.Module`, or a promise of one. */
export function setComponent(loadComponent) {
  load = loadComponent;
}

/** The functions, once they are compiled. */
export async function protocol() {
  instance ??= create();
  try {
    return await instance;
  } catch (error) {
    // A later call may succeed: the file was not readable, or there was no memory.
    instance = undefined;
    throw error;
  }
}

/** Whether two JSON texts are the same event: the same bytes, or the same JSON value. */
export async function sameEvent(left, right) {
  const functions = await protocol();
  return functions.sameEvent(left, right);
}

async function create() {
  compiled ??= (async () => load())();
  const module = await compiled.catch((error) => {
    compiled = undefined;
    throw error;
  });
  const exports = await instantiate(() => module, {}, instantiateCore);
  const { decode, errorResponse, sameEvent: same } = exports.protocol;
  return {
    decode: (body) => call(decode, body),
    errorResponse: (error) => call(errorResponse, error),
    sameEvent: (left, right) => call(same, left, right),
  };
}

/** Nothing is compiled here, which workerd forbids. */
function instantiateCore(module, imports) {
  return new WebAssembly.Instance(module, imports);
}

function call(callee, ...args) {
  try {
    return callee(...args);
  } catch (error) {
    // An error with a payload is one that the function returned. Any other is a trap.
    if (error?.payload === undefined) instance = undefined;
    throw error;
  }
}
