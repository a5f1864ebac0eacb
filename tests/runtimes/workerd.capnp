# What `wrangler dev` tells workerd of deploy/cloudflare/wrangler.jsonc, and a Worker that shows what is stored.

using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "puts", worker = .puts),
    (name = "events", worker = .events),
    (name = "disk", disk = (writable = true)),
  ],
  sockets = [
    (name = "puts", address = "127.0.0.1:0", http = (), service = "puts"),
    (name = "events", address = "127.0.0.1:0", http = (), service = "events"),
  ],
);

const puts :Workerd.Worker = (
  modules = [
    (name = "worker.js", esModule = embed "worker.js"),
    (name = "WASM", wasm = embed "WASM"),
  ],
  compatibilityDate = "2026-11-01",
  bindings = [(name = "EVENTS", durableObjectNamespace = "EventStore")],
  durableObjectNamespaces = [(className = "EventStore", uniqueKey = "events", enableSql = true)],
  durableObjectStorage = (localDisk = "disk"),
);

const events :Workerd.Worker = (
  modules = [(name = "events.js", esModule = embed "events.js")],
  compatibilityDate = "2026-11-01",
  bindings = [(name = "EVENTS", durableObjectNamespace = (className = "EventStore", serviceName = "puts"))],
);
