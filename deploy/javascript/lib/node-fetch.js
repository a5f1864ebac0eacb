// A request of node:http as a `Request`, for a fetch handler that `peer` has not made.

/** Methods that have no body in a `Request`. */
const WITHOUT_BODY = new Set(["GET", "HEAD"]);

/** `onRead` is called before the body is read for the first time. */
export function toRequest(incoming, onRead) {
  const { method, rawHeaders, url } = incoming;
  const headers = new Headers();
  for (let at = 0; at < rawHeaders.length; at += 2) headers.append(rawHeaders[at], rawHeaders[at + 1]);
  const body = WITHOUT_BODY.has(method) ? undefined : bodyOf(incoming, onRead);
  const target = url.startsWith("/") ? `http://localhost${url}` : url;
  return new Request(target, { method, headers, body, duplex: "half" });
}

/** What is sent of a `Response`. */
export async function fromResponse(response) {
  const { status, headers } = response;
  return { status, fields: [...headers], body: Buffer.from(await response.arrayBuffer()) };
}

/** The body as a stream that reads only when it is read. */
function bodyOf(incoming, onRead) {
  let isOpen = true;
  const end = (close) => {
    if (isOpen) close();
    isOpen = false;
  };
  return new ReadableStream(
    {
      start(controller) {
        incoming.pause();
        incoming.on("data", (part) => {
          // After a cancel the rest is thrown away.
          if (!isOpen) return;
          incoming.pause();
          controller.enqueue(part);
        });
        incoming.once("end", () => end(() => controller.close()));
        incoming.once("close", () => end(() => controller.error(new Error("The connection ended within a body."))));
      },
      pull() {
        onRead?.();
        onRead = undefined;
        incoming.resume();
      },
      cancel() {
        isOpen = false;
      },
    },
    { highWaterMark: 0 },
  );
}
