// Uses everything that the package exports in browsers, as a program with strict types does. It is compiled only.

import { indexedDb, memory, peer, PutError, sameEvent, type Store } from "alldata-peer-server-http";

const store = indexedDb("events");
const handler: (request: Request) => Promise<Response> = peer(store satisfies Store);
const entries: [string, string][] = await store.entries();
const event: string | undefined = await store.get("key1");
const isSame: boolean = await sameEvent("1", event ?? "");
if (!isSame) throw PutError.conflict();
await handler(new Request("/_put", { method: "POST", body: String(entries.length) }));
await peer(memory())(new Request("/"));
