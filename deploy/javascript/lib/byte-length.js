// The length of a text as UTF-8, on every platform.

const encoder = new TextEncoder();

export function byteLength(text) {
  return encoder.encode(text).byteLength;
}
