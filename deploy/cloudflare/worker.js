// A peer as a Cloudflare Worker, with its events in a Durable Object with SQLite.

import { env } from "cloudflare:workers";
import { durableObjects, peer } from "alldata-peer-server-http";

export { EventStore } from "alldata-peer-server-http";

/** The memory for bodies: a Worker has 128 MB in all, and a body is there more than once while it is decoded. */
const MAX_BUFFERED_BYTES = 32 * 1024 * 1024;

/** Above what the store takes. */
const MAX_BODY_BYTES = 4 * 1024 * 1024;

/** How much of a larger body is read: the connection of a client that is still sending is reset by workerd. */
const MAX_DRAINED_BYTES = 64 * 1024 * 1024;

const limits = {
  maxBufferedBytes: MAX_BUFFERED_BYTES,
  maxBodyBytes: MAX_BODY_BYTES,
  maxDrainedBytes: MAX_DRAINED_BYTES,
};

export default { fetch: peer(durableObjects(env.EVENTS), limits) };
