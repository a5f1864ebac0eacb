// Puts what is entered, and shows the response and all events.

import { indexedDb } from "../browser.js";

const form = document.querySelector("form");
const [response, events, state] = ["response", "events", "state"].map((id) => document.getElementById(id));
const store = indexedDb();

form.addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const { key, event } = form.elements;
  // The event is sent as it was entered, so that an invalid one is answered by the peer.
  await put(`{"key":${JSON.stringify(key.value)},"event":${event.value}}`);
});

try {
  await start();
  state.textContent = "ready";
  form.querySelector("button").disabled = false;
  await showEvents();
} catch (error) {
  state.textContent = `The peer has not started: ${error.message}`;
}

/** Waits until the service worker answers the requests of this page. */
async function start() {
  await navigator.serviceWorker.register("./worker.js", { type: "module" });
  if (!navigator.serviceWorker.controller) {
    const controlled = new Promise((resolve) => {
      navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true });
    });
    // A worker that was there before does not claim a page that is reloaded without it (Shift+Reload) by itself.
    const { active } = await navigator.serviceWorker.ready;
    active.postMessage("claim");
    await controlled;
  }
  const isKept = await navigator.storage.persist();
  document.getElementById("kept").hidden = isKept;
}

async function put(body) {
  response.textContent = "…";
  const answer = await fetch("./_put", { method: "POST", body });
  const text = await answer.text();
  response.textContent = `${answer.status}\n${text && JSON.stringify(JSON.parse(text), null, 2)}`;
  response.dataset.status = answer.status;
  await showEvents();
}

async function showEvents() {
  const rows = (await store.entries()).map(([key, event]) => {
    const row = document.createElement("tr");
    for (const text of [key, event]) row.insertCell().textContent = text;
    return row;
  });
  events.replaceChildren(...rows);
}
