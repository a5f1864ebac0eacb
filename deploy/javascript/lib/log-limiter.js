// A limit on how often the same line is logged: at once, and then one after each pause with the number of those left out.

import { property, textOf } from "./thrown.js";

/** How long the same line is left out, in milliseconds: as in the server in Rust. */
const PAUSE_MS = 5_000;

/** How many different lines are remembered: the one first logged is forgotten first. */
const MAX_LINES = 8;

/** The longest description of an error, in characters: a store may put an event into its message. */
const MAX_DESCRIPTION = 500;

class LogLimiter {
  #logged = new Map();

  /** How often a line was left out since it was logged last, or `undefined` where it is left out now. */
  check(line, now = performance.now()) {
    const logged = this.#logged.get(line);
    if (logged !== undefined && now < logged.when + PAUSE_MS) {
      logged.suppressed += 1;
      return undefined;
    }
    if (logged === undefined && this.#logged.size === MAX_LINES) {
      const [oldest] = this.#logged.keys();
      this.#logged.delete(oldest);
    }
    this.#logged.set(line, { when: now, suppressed: 0 });
    return logged?.suppressed ?? 0;
  }
}

/** Calls `log` with a line, unless the same line was logged shortly before. */
export function limited(log) {
  const limiter = new LogLimiter();
  return (line) => {
    const suppressed = limiter.check(line);
    if (suppressed !== undefined) log(suppressed === 0 ? line : `${line} (and ${suppressed} times more before)`);
  };
}

/** An error with its causes and the place where it was made, or any other value, in one line. */
export function describe(error) {
  const place = /\n\s*at (.*)/.exec(textOf(property(error, "stack")))?.[1];
  let text = textOf(error);
  let cause = property(error, "cause");
  while (cause !== undefined && text.length < MAX_DESCRIPTION) {
    text += `: ${textOf(cause)}`;
    cause = property(cause, "cause");
  }
  text = text.replace(/\s+/g, " ").slice(0, MAX_DESCRIPTION);
  return place === undefined ? text : `${text} (at ${place})`;
}
