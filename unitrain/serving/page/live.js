// The charts, and what they are drawn from: GET stats, once a second.

const KEPT = 60; // samples of a chart
const CHARTS = [
  ["requests", "Requests", "per second"],
  ["errors", "Errors", "per second"],
  ["latency", "Latency", "ms, p50"],
  ["queue", "Queue", "waiting"],
].map(([kind, title, unit]) => {
  const note = make("span", {});
  const now = make("p", { class: "now" }, "–");
  const [area, line] = [make("path", { class: "area" }), make("path")];
  const svg = make("svg", { viewBox: "0 0 240 72", preserveAspectRatio: "none", role: "img", "aria-label": title });
  const top = make("span", {});
  svg.append(area, line);
  const scale = make("div", { class: "scale", "aria-hidden": "true" }, make("span", {}, "1 min ago"), top);
  $("charts").append(make("div", { class: `chart ${kind}` }, make("h3", {}, title, note), now, svg, scale));
  return { kind, title, unit, note, now, area, line, svg, top, values: [] };
});

function add(sample) {
  for (const one of CHARTS) {
    one.values = [...one.values, sample ? sample[one.kind] : null].slice(-KEPT);
    const value = one.values.at(-1);
    const known = one.values.filter((each) => typeof each === "number");
    const top = Math.max(1, ...known) * 1.1;
    const places = one.values.map((each, at) => [
      (240 * (KEPT - one.values.length + at)) / (KEPT - 1), typeof each === "number" ? 71 - (70 * each) / top : null,
    ]);
    const [line, area] = paths(places);
    one.line.setAttribute("d", line);
    one.area.setAttribute("d", area);
    one.now.replaceChildren(typeof value === "number" ? short.format(value) : "–", make("small", {}, ` ${one.unit}`));
    one.note.textContent = sample?.notes[one.kind] ?? "";
    one.top.textContent = known.length ? `highest ${short.format(Math.max(...known))}` : "";
    one.svg.setAttribute("aria-label", `${one.title}: ${typeof value === "number" ? told(value) : "unknown"} ${one.unit}`);
  }
}

function paths(places) {
  let [line, area, run] = ["", "", []];
  const end = () => {
    if (!run.length) return;
    const points = run.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L");
    line += `M${points}${run.length === 1 ? "h0.5" : ""}`;
    area += `M${run[0][0].toFixed(1)},72L${points}L${run.at(-1)[0].toFixed(1)},72Z`;
    run = [];
  };
  for (const place of places) {
    if (place[1] === null) end();
    else run.push(place);
  }
  end();
  return [line, area];
}

let before = null;

function sampled(given) {
  const stats = { ...given, uptime_s: given.uptime_s ?? performance.now() / 1000 };
  const last = before;
  before = stats;
  const seconds = last && stats.uptime_s - last.uptime_s;
  const restarted = last && (seconds <= 0 || stats.requests < last.requests);
  const rate = (key) => (last && !restarted ? Math.max(0, stats[key] - last[key]) / seconds : null);
  const { p50, p95, p99 } = stats.latency_ms ?? {};
  const rows = stats.batches ? `${short.format(stats.rows / stats.batches)} rows a batch` : "";
  $("totals").textContent = [
    `${stats.requests.toLocaleString("en")} requests`, `${stats.errors.toLocaleString("en")} errors`, rows,
    given.uptime_s ? `up ${duration(given.uptime_s)}` : "",
  ].filter(Boolean).join("  ·  ");
  const latency = typeof p95 === "number" ? `p95 ${told(p95)}, p99 ${told(p99)}` : "";
  return { requests: rate("requests"), errors: rate("errors"), latency: p50, queue: stats.queue, notes: { latency } };
}

function duration(seconds) {
  const steps = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const [size, unit] = steps.find(([one]) => seconds >= one) ?? [1, "s"];
  return `${Math.floor(seconds / size)} ${unit}`;
}

function state(text, kind = "") {
  if ($("pill").textContent === text) return; // a screen reader says each change
  $("pill").textContent = text;
  $("pill").className = `pill ${kind}`;
}

let paused = false;

async function look() {
  try {
    if (!models.length) await load();
    const answer = await ask("stats");
    const said = { 401: "asks for a token", 404: "no statistics", 503: "not ready" };
    if (answer.ok) add(sampled(await answer.json()));
    else add(null);
    state(answer.ok ? "live" : (said[answer.status] ?? `answers ${answer.status}`), answer.ok ? "good" : "bad");
  } catch {
    add(null);
    state("not reachable", "bad");
  }
}

async function poll() {
  const began = performance.now();
  if (paused) state("paused");
  else if (!document.hidden) await look();
  setTimeout(poll, Math.max(100, 1000 - (performance.now() - began)));
}

$("pause").addEventListener("click", (event) => {
  paused = !paused;
  event.target.setAttribute("aria-pressed", String(paused));
  event.target.textContent = paused ? "Continue" : "Pause";
});
poll();
