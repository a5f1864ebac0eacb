// Uses everything that the package exports on Cloudflare Workers, as a program with strict types does. It is compiled only.

import { DurableObject } from "cloudflare:workers";
import {
  durableObjects,
  EventStore,
  memory,
  peer,
  PutError,
  sameEvent,
  type EventNamespace,
  type Store,
} from "alldata-peer-server-http";

export { EventStore };

interface Env {
  EVENTS: DurableObjectNamespace<EventStore>;
}

export class Other extends DurableObject<Env> {
  async first(): Promise<string | undefined> {
    const store = this.env.EVENTS.getByName("events");
    const [first] = await store.list({ after: "", limit: 1 });
    return first === undefined ? undefined : await store.get(first.key);
  }
}

export default {
  async fetch(request, env) {
    const namespace: EventNamespace = env.EVENTS;
    const store: Store = durableObjects(namespace, { objectName: (key) => key.slice(0, 8) });
    if (await sameEvent("1", "1.0")) await memory().put("key1", "1");
    return peer(store)(request).catch((error: PutError) => new Response(error.code));
  },
} satisfies ExportedHandler<Env>;
