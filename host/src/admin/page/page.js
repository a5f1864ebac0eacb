// The page for operators: polls status.json, and shows rates from the differences of two answers.
"use strict";

const POLL_MS = 1000; // How often the status is asked for.
const TIMEOUT_MS = 5000; // How long an answer may take.
const POINTS = 120; // How many points a chart has: two minutes.
const QUANTILE_POLLS = 10; // Over how many polls quantiles are taken.
const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);
const history = []; // The last answers.
const series = { stored: [], refused: [], p50: [], p99: [] };

const number = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return number(value) + " " + units[unit];
}

function time(seconds) {
  if (seconds === null) return "–";
  if (seconds < 1e-3) return number(seconds * 1e6) + " µs";
  if (seconds < 1) return number(seconds * 1e3) + " ms";
  return number(seconds) + " s";
}

function ago(now, then) {
  const seconds = Math.max(0, (now - then) / 1000);
  if (seconds < 60) return Math.floor(seconds) + " s ago";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min ago";
  return Math.floor(seconds / 3600) + " h ago";
}

// The quantile of a histogram between two answers, by interpolation within a bucket.
function quantile(before, after, fraction) {
  const counts = after.counts.map((count, at) => count - before.counts[at]);
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total <= 0) return null;
  let rank = fraction * total;
  for (let at = 0; at < counts.length; at += 1) {
    if (counts[at] > 0 && rank <= counts[at]) {
      const low = at === 0 ? 0 : after.bounds[at - 1];
      const high = at < after.bounds.length ? after.bounds[at] : low;
      return low + (high - low) * rank / counts[at];
    }
    rank -= counts[at];
  }
  return after.bounds[after.bounds.length - 1];
}

function push(name, value) {
  series[name].push(value);
  if (series[name].length > POINTS) series[name].shift();
}

function chart(id, names, label) {
  const svg = byId(id + "-chart");
  const max = Math.max(...names.flatMap((name) => series[name].map((value) => value ?? 0)), 0);
  byId(id + "-max").textContent = max > 0 ? "max " + label(max) : "";
  const lines = names.flatMap((name) => {
    // A gap where there was nothing to measure.
    const parts = [[]];
    series[name].forEach((value, at) => {
      if (value === null) { parts.push([]); return; }
      const x = 300 - (series[name].length - 1 - at) * 300 / (POINTS - 1);
      const y = 78 - (max > 0 ? value / max * 74 : 0);
      parts[parts.length - 1].push(x.toFixed(1) + "," + y.toFixed(1));
    });
    return parts.filter((part) => part.length > 0).map((part) => {
      if (part.length === 1) part.push((Number(part[0].split(",")[0]) + 2) + "," + part[0].split(",")[1]);
      const line = document.createElementNS(SVG, "polyline");
      line.setAttribute("points", part.join(" "));
      line.setAttribute("class", name);
      return line;
    });
  });
  svg.replaceChildren(...lines);
}

function cell(text, name, small) {
  const cell = document.createElement("td");
  cell.textContent = text;
  if (name) cell.className = name;
  if (small) {
    const detail = document.createElement("small");
    detail.textContent = small;
    cell.append(detail);
  }
  return cell;
}

function rows(id, found, columns, none) {
  const lines = found.map((item) => {
    const row = document.createElement("tr");
    row.append(...columns(item));
    return row;
  });
  if (lines.length === 0) {
    const row = document.createElement("tr");
    const empty = cell(none, "none");
    empty.colSpan = 4;
    row.append(empty);
    lines.push(row);
  }
  byId(id).replaceChildren(...lines);
}

function showLimits(limits) {
  byId("limits").replaceChildren(...limits.map((limit) => {
    const box = document.createElement("div");
    box.className = "limit";
    const line = document.createElement("div");
    const name = document.createElement("span");
    name.textContent = limit.name + " ";
    const flag = document.createElement("small");
    flag.textContent = limit.flag;
    name.append(flag);
    const used = document.createElement("span");
    const text = limit.unit === "bytes" ? bytes : number;
    used.textContent = text(limit.used) + " of " + text(limit.limit);
    line.append(name, used);
    const meter = document.createElement("meter");
    meter.max = limit.limit;
    meter.value = limit.used;
    meter.high = limit.limit * 0.8;
    meter.optimum = 0;
    meter.setAttribute("aria-label", limit.name);
    box.append(line, meter);
    return box;
  }));
}

const refused = (status) =>
  status.outcomes.filter((one) => one.outcome !== "stored").reduce((sum, one) => sum + one.total, 0);
const stored = (status) =>
  status.outcomes.filter((one) => one.outcome === "stored").reduce((sum, one) => sum + one.total, 0);

function showRates(before, status) {
  const seconds = Math.max((status.time_ms - before.time_ms) / 1000, 0.001);
  const rate = (stored(status) - stored(before)) / seconds;
  const refusals = (refused(status) - refused(before)) / seconds;
  const received = (status.body_bytes - before.body_bytes) / seconds;
  const old = history[Math.max(0, history.length - QUANTILE_POLLS)];
  const [p50, p99] = [0.5, 0.99].map((of) => quantile(old.latency.request, status.latency.request, of));
  push("stored", rate); push("refused", refusals); push("p50", p50); push("p99", p99);
  byId("rate").textContent = number(rate);
  byId("refused").textContent = number(refusals);
  byId("p50").textContent = time(p50);
  byId("p99").textContent = time(p99);
  byId("received").textContent = bytes(received);
  chart("rate", ["stored", "refused"], number);
  chart("latency", ["p50", "p99"], time);
}

function show(status) {
  const before = history[history.length - 1];
  byId("version").textContent = status.version;
  byId("state").textContent = status.ready ? "ready" : "not ready";
  byId("state").className = "state " + (status.ready ? "ready" : "unready");
  byId("reasons").hidden = status.ready;
  byId("reasons").replaceChildren(...status.reasons.map((reason) => {
    const item = document.createElement("li");
    item.textContent = reason;
    return item;
  }));
  if (!status.outcomes) return;
  // After a restart of the server the numbers start again.
  if (before && stored(before) <= stored(status) && before.body_bytes <= status.body_bytes) showRates(before, status);
  else history.length = 0;
  byId("open").textContent = number(status.connections);
  showLimits(status.limits);
  rows("outcomes", status.outcomes.filter((one) => one.total > 0),
    (one) => [cell(one.outcome), cell(one.status), cell(number(one.total), "n")], "no requests yet");
  rows("problems", status.problems, (one) => [
    cell(one.reason, "", one.text), cell(number(one.count), "n"),
    cell(one.time_ms === null ? "" : ago(status.time_ms, one.time_ms), "n"),
    cell(one.key ?? "", "", one.detail)], "none");
  rows("events", status.events, (one) => [
    cell(one.key, "", one.event), cell(number(one.bytes), "n"), cell(ago(status.time_ms, one.time_ms), "n")],
  "none while this page was open");
  history.push(status);
  if (history.length > POINTS) history.shift();
}

async function poll() {
  try {
    const answer = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!answer.ok) throw new Error(String(answer.status));
    show(await answer.json());
    document.documentElement.dataset.polls = String(Number(document.documentElement.dataset.polls ?? 0) + 1);
  } catch (error) {
    byId("state").textContent = "no answer";
    byId("state").className = "state gone";
  }
  setTimeout(poll, POLL_MS);
}

poll();
