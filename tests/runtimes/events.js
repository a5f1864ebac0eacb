// Shows what is in the store: the event of `?key=`, or all events as lines of JSON.
export default {
  async fetch(request, { EVENTS }) {
    const store = EVENTS.getByName("events");
    const key = new URL(request.url).searchParams.get("key");
    if (key !== null) {
      const event = await store.get(key);
      return new Response(event, { status: event === undefined ? 404 : 200 });
    }
    let [lines, after] = ["", ""];
    for (;;) {
      const events = await store.list({ after });
      if (events.length === 0) return new Response(lines);
      for (const { key, event } of events) lines += `{"key":${JSON.stringify(key)},"event":${event}}\n`;
      after = events.at(-1).key;
    }
  },
};
