// A sink in another language: `alldata:peer/put-sink`, in JavaScript.
//
// An example to start from, and no store: it keeps events in the memory of its instance, which
// are gone with it. A platform may use several instances at a time, and replace them as it likes.
//
// To build it and to run it:
//
//     alldata-peer component --wit > alldata-peer.wit
//     npx jco componentize sink.js --wit alldata-peer.wit --world-name sink --disable all -o sink.wasm
//     alldata-peer component --plug sink.wasm -o peer.wasm
//     alldata-peer serve --component peer.wasm
//
// What is thrown is the `put-error` of the interface: a `tag`, and a `val` where that case has
// one. Anything else that is thrown ends the instance, and the client is told that the put failed.

// The first event under each key, by its key.
const events = new Map();

export const putSink = {
  put(key, text) {
    // A number beyond the precision of JavaScript's is rounded here: a real sink compares, and
    // keeps, the text.
    const event = JSON.parse(text);
    if (typeof event !== "object" || event === null || Array.isArray(event)) {
      throw { tag: "rejected", val: "The event is not a JSON object." };
    }
    const held = events.get(key);
    if (held !== undefined && !isSame(held, event)) {
      throw { tag: "conflict" };
    }
    events.set(key, held ?? event);
  },
};

// Whether two JSON values are the same, whatever the order of their members.
function isSame(a, b) {
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) {
    return a === b;
  }
  const names = Object.keys(a);
  return (
    Array.isArray(a) === Array.isArray(b) &&
    names.length === Object.keys(b).length &&
    names.every((name) => Object.hasOwn(b, name) && isSame(a[name], b[name]))
  );
}
