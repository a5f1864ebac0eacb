// The functions of the component: what a body means, and the response to each outcome.
//
// They keep no state, so one instance serves all requests. An instance that trapped is replaced.
// How the component is loaded depends on the platform: each entry point of the package sets it.

import { bind } from "./component-abi.js";

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
  for (const text of [left, right]) {
    if (typeof text !== "string") throw new TypeError(`An event is a text, and not of the type ${typeof text}.`);
  }
  const functions = await protocol();
  return functions.sameEvent(left, right);
}

async function create() {
  compiled ??= (async () => load())();
  const module = await compiled.catch((error) => {
    compiled = undefined;
    throw error;
  });
  // Nothing is compiled here, which workerd forbids.
  const functions = bind(new WebAssembly.Instance(module));
  return Object.fromEntries(Object.entries(functions).map(([name, callee]) => [name, replacedAfterTrap(callee)]));
}

function replacedAfterTrap(callee) {
  return (...args) => {
    try {
      return callee(...args);
    } catch (error) {
      instance = undefined;
      throw error;
    }
  };
}
