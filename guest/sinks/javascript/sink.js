// A sink in another language: `alldata:peer/put-sink`, in JavaScript.
//
// An example to start from. It forwards each event to another peer, which keeps it and decides which event was
// first under a key. The sink itself keeps nothing: a platform may run many instances at a time, and may use a new one
// for each request, as `wasmtime serve` does. So events and locks in the memory of an instance are lost.
//
// To build it and to run it:
//
//     alldata-peer component --wit > alldata-peer.wit
//     npx jco componentize sink.js --wit alldata-peer.wit --world-name sink \
//         --disable random stdio fetch-event -o sink.wasm
//     alldata-peer component --plug sink.wasm -o peer.wasm
//     wasmtime serve -S cli --addr 127.0.0.1:8080 peer.wasm
//
// The interface's `put-error` is thrown as an object: `tag` is the case, and `val` its payload, for cases that have one.
// Any other exception ends the instance, and the client gets a 500 of the host's. So it does in about one put of twenty
// while the peer refuses connections: the runtime of jco componentize then ends the instance before `fetch` has failed.
// The client may put again.

// The peer that keeps the events.
const PEER_URL = "http://127.0.0.1:8081/_put";

// After how many seconds a client should try again where the peer does not say.
const DEFAULT_RETRY_SECONDS = 1;

export const putSink = {
  async put(key, event) {
    // The event is JSON already. `JSON.parse` would round its numbers.
    const body = `{"key":${JSON.stringify(key)},"event":${event}}`;
    let response;
    try {
      response = await fetch(PEER_URL, { method: "POST", body });
    } catch {
      // The connection may have been lost after the peer had stored the event.
      throw { tag: "unknown" };
    }
    switch (response.status) {
      case 201:
        return;
      case 409:
        throw { tag: "conflict" };
      case 413:
      case 422:
        throw { tag: "rejected", val: await detail(response) };
      case 503: {
        const seconds = Number(response.headers.get("retry-after"));
        throw { tag: "unavailable", val: seconds || DEFAULT_RETRY_SECONDS };
      }
      case 504:
        throw { tag: "unknown" };
      default:
        throw { tag: "failed", val: `the peer answered ${response.status}` };
    }
  },
};

// The sentence in a problem document (RFC 9457).
async function detail(response) {
  try {
    return String((await response.json()).detail);
  } catch {
    return `The peer answered ${response.status}.`;
  }
}
