// What a store or a handler has thrown. That may be any value, also one whose properties or text throw.

/** A property, or undefined where it throws. */
export function property(value, name) {
  try {
    return value?.[name];
  } catch {
    return undefined;
  }
}

/** A value as text, or another text where it has none. */
export function textOf(value, otherwise = "a value without a text") {
  try {
    return String(value);
  } catch {
    return otherwise;
  }
}
