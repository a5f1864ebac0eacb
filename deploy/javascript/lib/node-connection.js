// The requests of one connection of node:http: how many are worked on at once, the order of their responses, and which
// response is the last.
//
// Node parses further requests while responses are due, and emits all requests that it has read at once. Whether a
// response has `Connection: close` is known only when it is sent: until then a request may come, and the server may be closed.

/**
 * How many requests of a connection are worked on at once: enough for a store that commits puts together. While there
 * are more, nothing is read.
 */
const MAX_PIPELINED = 64;

/**
 * The most requests of a connection to which responses are due: Node reads 64 KiB at once, which have fewer. Where more
 * are read, the connection ends with the response to the last of these.
 */
const MAX_DUE = 4096;

/** Whether reading can be stopped. Bun 1.4.5 may end a connection that was paused and resumed, and lose responses. */
const CAN_PAUSE = process.versions.bun === undefined;

export class Connection {
  /** The last request that is worked on, with its response. */
  last;
  /** Whether the last response is known. A client does not expect one to what it sends after that request. */
  isEnding = false;
  /** Whether that is a response to what could not be parsed. */
  isRefused = false;
  #server;
  #socket;
  /** The socket's own function, while nothing is read. */
  #resume;
  /** When reading was last resumed, by `performance.now()`. */
  #readAt = -Infinity;
  /** What is called where a header section is late after all, and the timer of that. */
  #late;
  #lateTimer;
  /** What is to be answered, in the order of the requests. */
  #due = [];

  constructor(server, socket) {
    this.#server = server;
    this.#socket = socket;
    socket.once("close", () => {
      this.#forgetLate();
      for (const { begin, turn } of this.#due.splice(0)) {
        begin?.open();
        turn?.open();
      }
    });
  }

  /** A request with its response, or undefined if it gets none. It is worked on once `begin` is open, if that is there. */
  add(incoming, outgoing) {
    if (this.#late !== undefined) this.#forgetLate();
    const before = this.#due.at(-1)?.outgoing;
    const isClosed = !this.#server.listening || this.#due.length >= MAX_DUE;
    // The response before is then the last, unless it was sent without `Connection: close`.
    if (isClosed && before?.headersSent === false) this.isEnding = true;
    if (this.isEnding) return undefined;
    const exchange = this.enter({ incoming, outgoing });
    this.last = exchange;
    outgoing.once("finish", () => this.#leave(exchange));
    if (this.#due.length > MAX_PIPELINED) {
      exchange.begin = gate();
      this.#stopReading();
    }
    return exchange;
  }

  /** Adds what is to be answered after all requests that have come. */
  enter(exchange) {
    this.#due.push(exchange);
    return exchange;
  }

  /**
   * Calls `late` for a header section that Node reports as late, which it does once. Node also counts the time in which
   * nothing was read: after that, the client has the whole time.
   */
  headerTimeout(late) {
    const leftMs = this.#readAt + this.#server.headersTimeout - performance.now();
    const isRead = this.#resume === undefined;
    if (isRead && leftMs <= 0) {
      late();
      return;
    }
    this.#late = late;
    if (isRead) this.#awaitLate(leftMs);
  }

  #awaitLate(ms) {
    this.#lateTimer = setTimeout(this.#late, ms).unref();
  }

  #forgetLate() {
    clearTimeout(this.#lateTimer);
    this.#late = undefined;
  }

  /** A promise of the end of all responses before this one, or undefined where they have ended. */
  turn(exchange) {
    if (this.#due[0] === exchange || this.#socket.destroyed) return undefined;
    exchange.turn ??= gate();
    return exchange.turn.opened;
  }

  /** Whether the connection ends with the response whose turn it is. That of a server that was closed waits for no request. */
  isLastTurn() {
    return this.#due.length === 1 && (this.isEnding || !this.#server.listening);
  }

  #leave(exchange) {
    const at = this.#due.indexOf(exchange);
    if (at === -1) return;
    this.#due.splice(at, 1);
    this.#due[0]?.turn?.open();
    // A server that was closed begins nothing.
    if (!this.#server.listening) this.#due.splice(MAX_PIPELINED - 1);
    this.#due[MAX_PIPELINED - 1]?.begin?.open();
    if (this.#due.length <= MAX_PIPELINED) this.#read();
  }

  #stopReading() {
    const socket = this.#socket;
    if (!CAN_PAUSE || this.#resume !== undefined) return;
    this.#resume = socket.resume;
    socket.pause();
    // Node resumes it at the end of each request.
    socket.resume = () => socket;
  }

  #read() {
    const socket = this.#socket;
    if (this.#resume === undefined) return;
    socket.resume = this.#resume;
    this.#resume = undefined;
    this.#readAt = performance.now();
    if (this.#late !== undefined) this.#awaitLate(this.#server.headersTimeout);
    socket.resume();
  }
}

/** A promise, `opened`, and the function that resolves it. */
function gate() {
  let open;
  const opened = new Promise((resolve) => {
    open = resolve;
  });
  return { open, opened };
}
