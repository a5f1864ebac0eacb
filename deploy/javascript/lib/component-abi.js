// The canonical ABI for the interface `alldata:peer/protocol`: its values in the memory of the core module.
//
// jco makes the same from any component, but with all that other interfaces need: nine times the size. A test
// compares `LAYOUT` with the WIT, and all others run through this.

const INTERFACE = "alldata:peer/protocol@0.1.0";

/** Offsets in bytes and numbers of cases, as the canonical ABI computes them from the types. */
export const LAYOUT = {
  response: { status: 0, header: 4, body: 24 },
  put: { key: 0, event: 8 },
  byteRange: { offset: 0, length: 4 },
  header: { name: 0, value: 8 },
  /** Of what is behind the case: in the result of `decode`, and in the option of a response's header. */
  payload: 4,
  requestError: [
    "malformed-request",
    "invalid-target",
    "invalid-host",
    "incomplete-body",
    "method-not-allowed",
    "request-timeout",
    "content-too-large",
    "uri-too-long",
    "unsupported-content-coding",
    "header-fields-too-large",
    "unsupported-transfer-coding",
    "http-version-not-supported",
    "put",
  ],
  putError: ["conflict", "rejected", "unavailable", "unknown", "failed"],
};

const encoder = new TextEncoder();

/** A U+FEFF at the start of a key is a part of it. */
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The functions of an instance. Each throws if the instance traps, which then must not be called again. */
export function bind({ exports }) {
  const { memory, cabi_realloc: allocate } = exports;
  const [decode, storedResponse, errorResponse, sameEvent] = ["decode", "stored-response", "error-response", "same-event"].map(named);
  const [freeDecoded, freeStored, freeError] = ["decode", "stored-response", "error-response"].map(
    (name) => exports[`cabi_post_${INTERFACE}#${name}`],
  );
  let view = new DataView(memory.buffer);
  /** The response to every put that was stored, once it is known. */
  let stored;

  function named(name) {
    return exports[`${INTERFACE}#${name}`];
  }

  /** The view of the memory, which a call may have replaced by a larger one. */
  function current() {
    if (view.buffer !== memory.buffer) view = new DataView(memory.buffer);
    return view;
  }

  /** Copies bytes into memory of the component's, which frees it. */
  function lower(bytes) {
    const length = bytes.byteLength;
    const at = allocate(0, 0, 1, length) >>> 0;
    new Uint8Array(memory.buffer, at, length).set(bytes);
    return [at, length];
  }

  function lowerText(text) {
    return lower(encoder.encode(text));
  }

  function liftText(at) {
    const length = view.getUint32(at + 4, true);
    return length === 0 ? "" : decoder.decode(new Uint8Array(memory.buffer, view.getUint32(at, true), length));
  }

  function liftResponse(at) {
    const { response, header, payload } = LAYOUT;
    const fields = at + response.header;
    const isThere = view.getUint8(fields) === 1;
    const texts = fields + payload;
    return {
      status: view.getUint16(at + response.status, true),
      header: isThere ? [liftText(texts + header.name), liftText(texts + header.value)] : undefined,
      body: liftText(at + response.body),
    };
  }

  function liftPut(at, body) {
    const { put, byteRange } = LAYOUT;
    const event = at + put.event;
    const [offset, length] = [byteRange.offset, byteRange.length].map((field) => view.getUint32(event + field, true));
    return { key: liftText(at + put.key), event: decoder.decode(body.subarray(offset, offset + length)) };
  }

  /** Lifts the response that a function has returned, and frees it. */
  function takeResponse(at, free) {
    current();
    const response = liftResponse(at >>> 0);
    free(at);
    return response;
  }

  return {
    /** `{ put, stored }`, where `stored` is the response to send once the put is stored; or `{ response }` for a body that is no put. */
    decode(body) {
      stored ??= takeResponse(storedResponse(), freeStored);
      const at = decode(...lower(body)) >>> 0;
      const isPut = current().getUint8(at) === 0;
      const payload = at + LAYOUT.payload;
      const decoded = isPut ? { put: liftPut(payload, body), stored } : { response: liftResponse(payload) };
      freeDecoded(at);
      return decoded;
    },
    /** `error` is `{ tag, val }`: the case and its payload. That of the case `put` is such an object, too. */
    errorResponse({ tag, val }) {
      return takeResponse(errorResponse(LAYOUT.requestError.indexOf(tag), ...lowerPayload(tag, val)), freeError);
    },
    sameEvent(left, right) {
      return sameEvent(...lowerText(left), ...lowerText(right)) !== 0;
    },
  };

  /** The three values in which the payloads of all cases are passed. */
  function lowerPayload(tag, val) {
    if (tag === "content-too-large") return val === undefined ? [0, 0n, 0] : [1, BigInt(val), 0];
    if (tag === "unsupported-content-coding") {
      const [at, length] = lowerText(val);
      return [at, BigInt(length), 0];
    }
    return tag === "put" ? lowerPutError(val) : [0, 0n, 0];
  }

  function lowerPutError({ tag, val }) {
    const number = LAYOUT.putError.indexOf(tag);
    if (tag === "unavailable") return [number, BigInt(val), 0];
    if (tag !== "rejected" && tag !== "failed") return [number, 0n, 0];
    const [at, length] = lowerText(val);
    return [number, BigInt(at), length];
  }
}
