// Uses everything that the package exports on Node.js, as a program with strict types does. It is compiled only.

import type { Server } from "node:http";
import { DatabaseSync } from "node:sqlite";

import OriginalServer, {
  AllDataPeerServer,
  createServer,
  denoKv,
  memory,
  peer,
  PutError,
  sameEvent,
  sqlite,
  type AllDataPeerServerOptions,
  type DenoKv,
  type PeerOptions,
  type PutErrorCode,
  type SqliteDatabase,
  type Store,
} from "alldata-peer-server-http";

const options: PeerOptions = {
  maxBodyBytes: 1024,
  maxBufferedBytes: 4096,
  bodyTimeoutMs: 1000,
  putTimeoutMs: 1000,
  maxDrainedBytes: 0,
  log: (message) => console.error(message.length),
};

const events = new Map<string, string>();
const store: Store = {
  async put(key, event) {
    const present = events.get(key);
    if (present === undefined) events.set(key, event);
    else if (!(await sameEvent(present, event))) throw PutError.conflict();
  },
};

const handler: (request: Request) => Promise<Response> = peer(store, options);
const server: Server = createServer(handler);
server.listen(8080);

const inMemory = memory({ maxBytes: 1024 });
const event: string | undefined = inMemory.get("key1");
for (const [key, text] of inMemory.entries()) console.log(key.length + text.length, event);

const database: SqliteDatabase = new DatabaseSync("events.db");
const inFile = sqlite(database);
const keys: string[] = [...inFile.entries()].map(([key]) => key);
peer(inFile);

declare const kv: DenoKv;
const inKv = denoKv(kv);
const found: Promise<string | undefined> = inKv.get(keys[0] ?? "");
for await (const [key] of inKv.entries()) console.log(key, found);
peer(inKv);

const errors: PutError[] = [
  PutError.conflict(),
  PutError.rejected("The event has no customer."),
  PutError.unavailable(),
  PutError.unavailable(5, "The disk is full."),
  PutError.unknown(),
  PutError.failed("The disk is broken.", { cause: new Error("EIO") }),
  new PutError("unavailable", "Later.", { retryAfterSeconds: 1 }),
];
const codes: PutErrorCode[] = errors.map(({ code }) => code);
const seconds: (number | undefined)[] = errors.map(({ retryAfterSeconds }) => retryAfterSeconds);

const original: AllDataPeerServerOptions = { hostname: "localhost", port: 0, putTimeoutMs: 1000 };
const dropIn = new OriginalServer(original);
dropIn.on("_put", (key: string, event: unknown, callback: (error?: unknown) => void) => {
  callback(key === "" ? new Error(String(event)) : undefined);
});
dropIn.on("error", (error: Error) => console.error(error.message, codes, seconds));
dropIn.listen(() => console.log(dropIn.address(), dropIn.hostname, dropIn.port, dropIn.server?.listening));
dropIn.close(() => {});
const listening: AllDataPeerServer = AllDataPeerServer.listen({}, () => listening.close());

// @ts-expect-error A store has to have `put`.
peer({});
// @ts-expect-error The case does not exist.
new PutError("lost");
