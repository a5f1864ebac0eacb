// A service worker that is a peer: it answers the puts of the page beside it, without a network.

import { indexedDb, peer } from "../browser.js";

const handler = peer(indexedDb());

addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("message", (event) => {
  if (event.data === "claim") event.waitUntil(clients.claim());
});
addEventListener("fetch", (event) => {
  if (new URL(event.request.url).pathname.endsWith("/_put")) event.respondWith(handler(event.request));
});
