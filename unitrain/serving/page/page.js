"use strict";
// Whatever comes from a model or the service becomes a text node; there is no innerHTML here.
const $ = (id) => document.getElementById(id);
let { models, version } = JSON.parse($("signature").textContent);
const MOST = 4096;
const SVG = new Set(["svg", "path", "rect"]);
let model = models[0];
let editors = [];
let token = "";

function make(name, attributes = {}, ...children) {
  const space = SVG.has(name) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const element = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.map((one) => (one instanceof Node ? one : String(one))));
  return element;
}

const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const told = (value) => (typeof value === "number" ? short.format(value) : String(value));
const isRow = (value) => Array.isArray(value) && value.every((one) => typeof one === "number");

async function ask(path, options = {}) {
  const headers = token ? { ...options.headers, Authorization: `Bearer ${token}` } : options.headers;
  const answer = await fetch(path, { ...options, headers, cache: "no-store", signal: AbortSignal.timeout(120000) });
  if (answer.status === 401) $("access").hidden = false;
  return answer;
}

// ---- the form: each input is JSON text, so that numbers reach the service as they were typed

const shapeOf = (one) => one.shape ?? []; // unknown, in a file of another program
const rowShape = (input) => (typeof shapeOf(input)[0] === "string" ? shapeOf(input).slice(1) : shapeOf(input));
const kindOf = (one) => `${one.dtype} [${one.shape ? one.shape.join(", ") : "?"}]`;

function nested(texts, sides) {
  if (!sides.length) return texts[0];
  const step = texts.length / sides[0];
  const parts = Array.from({ length: sides[0] }, (_, at) => texts.slice(at * step, (at + 1) * step));
  return `[${parts.map((one) => nested(one, sides.slice(1))).join(", ")}]`;
}

function exampleOf(input) {
  if (model.example) return model.example[input.name] ?? "";
  const sides = rowShape(input).map((one) => (typeof one === "string" ? 1 : one));
  const count = sides.reduce((one, other) => one * other, 1);
  return count > MOST ? "" : nested(Array(count).fill(input.dtype === "bool" ? "false" : "0"), sides);
}

function picture(input) {
  const row = rowShape(input);
  if (input.dtype === "bool" || !row.every(Number.isInteger)) return null;
  const side = Math.sqrt(row[0]);
  if (row.length === 1) return Number.isInteger(side) && side >= 7 && side <= 32 ? [side, side] : null;
  const sides = row.slice(-2);
  return row.slice(0, -2).every((one) => one === 1) && sides.every((one) => one >= 4 && one <= 64) ? sides : null;
}

function numbersIn(text, count) {
  try {
    const found = [JSON.parse(text)].flat(Infinity);
    return found.length === count && found.every((one) => typeof one === "number") ? found : null;
  } catch {
    return null;
  }
}

function editor(input, number) {
  const id = `input-${number}`;
  const area = make("textarea", { id, spellcheck: "false", autocomplete: "off", autocapitalize: "off" });
  const body = make("div", { class: "body" }, area);
  const label = make("label", { for: id }, input.name, make("span", { class: "kind" }, kindOf(input)));
  const field = make("div", { class: "field" }, label, body);
  const sides = picture(input);
  const row = rowShape(input);
  let read = () => {};
  const write = (text) => {
    area.value = text;
    shell();
  };
  if (sides) read = drawing(input, sides, body, write);
  else if (row.length === 1 && row[0] > 0 && row[0] <= 24 && input.dtype !== "bool") read = fields(input, row[0], body, write);
  const fill = (text) => {
    write(text);
    read(text);
  };
  area.addEventListener("input", () => {
    read(area.value);
    shell();
  });
  return { input, area, field, reset: () => fill(exampleOf(input)) };
}

function fields(input, count, body, write) {
  const all = Array.from({ length: count }, (_, at) =>
    make("input", { type: "number", step: "any", "aria-label": `${input.name}, number ${at}` }),
  );
  const table = make("div", { class: "numbers", role: "group", "aria-label": `The numbers of ${input.name}` });
  all.forEach((one, at) => table.append(make("label", {}, at, one)));
  table.addEventListener("input", () => write(nested(all.map((one) => one.value || "0"), [count])));
  body.before(table);
  return (text) => {
    const numbers = numbersIn(text, count);
    all.forEach((one, at) => (one.value = numbers ? numbers[at] : ""));
  };
}

function drawing(input, [height, width], body, write) {
  const count = height * width;
  const canvas = make("canvas", {
    width: width * 24, height: height * 24, role: "img",
    "aria-label": `${input.name} as a picture of ${height} by ${width}; the text holds the same numbers`,
  });
  const brush = make("input", { type: "number", step: "any", "aria-label": "Value that is drawn" });
  const clear = make("button", { type: "button" }, "Clear");
  body.prepend(make("div", { class: "drawing" }, canvas, make("div", { class: "actions" }, clear, "Ink", brush)));
  let cells = Array(count).fill(0);

  function show() {
    const context = canvas.getContext("2d");
    const low = Math.min(0, ...cells);
    const high = Math.max(Number(brush.value) || 0, ...cells, low + 1e-9);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = getComputedStyle(canvas).color;
    cells.forEach((one, at) => {
      context.globalAlpha = (one - low) / (high - low);
      context.fillRect((at % width) * 24, Math.floor(at / width) * 24, 24, 24);
    });
  }
  function changed() {
    show();
    write(nested(cells.map(String), rowShape(input)));
  }
  function draw(event) {
    const box = canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * height);
    const ink = Number(brush.value) || 0;
    for (const [dx, dy, share] of [[0, 0, 1], [1, 0, 0.4], [-1, 0, 0.4], [0, 1, 0.4], [0, -1, 0.4]]) {
      if (x + dx < 0 || x + dx >= width || y + dy < 0 || y + dy >= height) continue;
      const at = (y + dy) * width + x + dx;
      const soft = input.dtype.startsWith("float") ? ink * share : Math.round(ink * share);
      if (Math.abs(soft) > Math.abs(cells[at])) cells[at] = soft;
    }
    changed();
  }
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    draw(event);
  });
  canvas.addEventListener("pointermove", (event) => event.buttons && draw(event));
  clear.addEventListener("click", () => {
    cells = Array(count).fill(0);
    changed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  return (text) => {
    cells = numbersIn(text, count) ?? Array(count).fill(0);
    if (brush.value === "") brush.value = Number((Math.max(...cells) || 1).toPrecision(3));
    show();
  };
}

function given() {
  for (const { input, area } of editors) {
    try {
      JSON.parse(area.value);
    } catch (error) {
      area.focus();
      throw new Error(`${input.name}: this is not JSON. ${error.message}`);
    }
  }
  if (editors.length === 1) return `{"data": ${editors[0].area.value}}`;
  return `{"data": {${editors.map(({ input, area }) => `${JSON.stringify(input.name)}: ${area.value}`).join(", ")}}}`;
}

const route = () => `models/${encodeURIComponent(model.name)}/predict`;
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function shell() {
  if (!editors.length) return;
  let body = "";
  try {
    body = given();
  } catch {
    body = "";
  }
  const words = ["curl", quoted(new URL(route(), location.href).href), "-H 'Content-Type: application/json'"];
  if (token) words.push('-H "Authorization: Bearer $TOKEN"');
  $("curl").textContent = [...words, "-d", body && body.length < 4000 ? quoted(body) : "@request.json"].join(" ");
}

// ---- the answer

const fact = (name, value) => make("div", {}, make("dt", {}, name), make("dd", {}, value));
const answered = (...children) => $("answer").replaceChildren(...children);

async function predict(event) {
  event.preventDefault();
  const button = $("predict");
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: given() };
    const began = performance.now();
    const answer = await ask(route(), options);
    const text = await answer.text();
    const took = performance.now() - began;
    if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}: ${reason(text)}`);
    show(JSON.parse(text), text, took);
  } catch (error) {
    answered(make("p", { class: "error" }, error.message));
  } finally {
    button.removeAttribute("aria-busy");
  }
}

function reason(text) {
  try {
    const found = JSON.parse(text);
    const said = found.error ?? found.detail ?? found;
    return typeof said === "string" ? said : JSON.stringify(said);
  } catch {
    return text.slice(0, 2000);
  }
}

function show({ prediction, confidence }, text, took) {
  const facts = make("dl", { class: "facts" });
  const outputs = isRow(prediction) || Array.isArray(prediction) || typeof prediction !== "object"
    ? [["", prediction]] : Object.entries(prediction ?? {});
  const parts = outputs.flatMap(([name, value]) => output(name, value, facts));
  if (typeof confidence === "number") facts.append(fact("Confidence", `${short.format(100 * confidence)} %`));
  facts.append(fact("Latency, in this browser", `${short.format(took)} ms`));
  const whole = make("details", {}, make("summary", {}, "The answer as JSON"), make("pre", { tabindex: "0" }, text));
  if (!parts.length && outputs.length) whole.open = true;
  answered(facts, ...parts, whole);
}

function output(name, value, facts) {
  const rows = Array.isArray(value) && value.every(isRow) && value.length ? value : null;
  const row = rows ? rows[0] : value;
  const title = [name, rows && rows.length > 1 ? `row 1 of ${rows.length}` : ""].filter(Boolean).join(", ");
  if (typeof row === "number" || (isRow(row) && row.length === 1)) {
    facts.append(fact(title || "Prediction", told(Array.isArray(row) ? row[0] : row)));
    return [];
  }
  if (!isRow(row) || row.length > 40 || !row.length) return [];
  const best = row.indexOf(Math.max(...row));
  facts.append(fact(name ? `Largest of ${name} at index` : "Largest at index", best));
  return [bars(row, best, title)];
}

function bars(row, best, title) {
  const low = Math.min(0, ...row);
  const width = Math.max(0, ...row) - low || 1;
  const table = make("table", { class: "bars" }, make("caption", {}, title || "Prediction"));
  row.forEach((one, at) => {
    const place = { x: (100 * (Math.min(one, 0) - low)) / width, width: Math.max((100 * Math.abs(one)) / width, 0.4) };
    const bar = make("svg", { viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true" });
    bar.append(make("rect", { y: 5, height: 10, ...place }));
    const line = make("tr", at === best ? { class: "best" } : {}, make("th", { scope: "row" }, at));
    line.append(make("td", {}, bar), make("td", {}, told(one)));
    table.append(line);
  });
  return table;
}

// ---- what the model is

function table(caption, rows) {
  const body = make("table", {}, ...rows.map(([name, ...cells]) =>
    make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((one) => make("td", {}, one)))));
  return make("section", {}, make("h3", {}, caption), body);
}

function identity() {
  const loaded = new Date(model.loaded);
  const about = [
    ["Format", model.format],
    ["File", make("code", {}, model.file)],
    ["SHA-256", make("code", {}, model.sha256)],
    ["Loaded", Number.isNaN(loaded.valueOf()) ? model.loaded : loaded.toLocaleString()],
  ];
  const signature = [["inputs", "in"], ["outputs", "out"]].flatMap(([key, word]) =>
    model[key].map((one) => [one.name, `${word}, ${kindOf(one)}`]));
  const lists = [["Metrics", model.metrics], ["Versions", model.versions]];
  $("identity").replaceChildren(
    table("Model", about.filter(([, value]) => value)),
    table("Signature", signature),
    ...lists.filter(([, of]) => of && Object.keys(of).length).map(([title, of]) =>
      table(title, Object.entries(of).map(([name, value]) => [name, told(value)]))),
  );
}

function choose(name) {
  model = models.find((one) => one.name === name) ?? models[0];
  document.title = `${model.name} - unitrain serve`;
  $("name").textContent = model.name;
  editors = [];
  editors = model.inputs.map(editor);
  $("inputs").replaceChildren(...editors.map((one) => one.field));
  reset();
  identity();
  answered(make("p", { class: "hint" }, "Nothing was asked yet."));
}

function reset() {
  editors.forEach((one) => one.reset());
}

// ---- start

function begin() {
  $("models").replaceChildren(...models.map((one) => make("option", { value: one.name }, one.name)));
  $("choice").hidden = models.length < 2;
  choose(models[0].name);
}

async function load() { // behind a token, and while they are being loaded, the page holds no models
  const answer = await ask("models");
  if (!answer.ok) return;
  const texts = (example) => Object.fromEntries(Object.entries(example).map(([name, row]) => [name, JSON.stringify(row)]));
  models = (await answer.json()).models.map((one) => ({ ...one, example: one.example && texts(one.example) }));
  if (models.length) begin();
}

$("models").addEventListener("change", (event) => choose(event.target.value));
$("form").addEventListener("submit", predict);
$("reset").addEventListener("click", reset);
$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value;
  $("token").value = "";
  $("access").hidden = true;
  shell();
  look();
});
$("foot").textContent = `unitrain ${version}. The service answers at /predict, /health, /v2 and /openapi.json.`;
if (models.length) begin();
