"use strict";
// Asks this service for verdicts and shows them. Text from elsewhere is only ever set as text, never as markup.

const SHOWN = 500;
const at = (id) => document.getElementById(id);
const state = { file: null, flows: [], model: null };

const headers = (more) => {
  const key = at("key").value.trim();
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
};

function say(text, isBad = false) {
  at("status").textContent = text;
  at("status").classList.toggle("bad", isBad);
}

async function describe() {
  const response = await fetch("/v1/model", { headers: headers({}) });
  if (response.status === 401) {
    at("key-label").hidden = false;
    at("model").textContent = "This service needs a key.";
    return;
  }
  const model = await response.json();
  state.model = model;
  const features = model.columns.filter((column) => column.is_feature).length;
  const threshold = model.threshold === null
    ? "no threshold, so flows get a class and no verdict"
    : `alert from score ${Number(model.threshold.toPrecision(4))}`;
  at("model").textContent = `Model ${[model.name, model.saved && `of ${model.saved}`].filter(Boolean).join(" ")}: ${threshold}.`;
  at("classes").textContent =
    `${model.classes.length} classes (${model.classes.join(", ")}), ${features} features, by ${model.backend}.`;
  at("caution").textContent = model.findings.map((finding) => `The ${finding.message.replace(/^the /, "").replaceAll("`", "")}.`).join(" ");
  at("caution").hidden = !model.findings.length;
  at("sample").hidden = false;
}

function sample() {
  const flow = Object.entries(state.model.sample);
  const cell = (value) => /[",\r\n]|^\s|\s$/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value;
  at("rows").value = [0, 1].map((place) => flow.map((pair) => cell(pair[place])).join(",")).join("\n") + "\n";
  state.file = null;
  at("ask").requestSubmit();
}

async function typeOf(file) {
  const head = new Uint8Array(await file.slice(0, 8).arrayBuffer());
  if (head.length > 4 && head.slice(0, 4).every((byte) => byte === 255)) return "application/vnd.apache.arrow.stream";
  const text = (await file.slice(0, 4096).text()).trimStart();
  if (!text.startsWith("{")) return "text/csv";
  return /^\{\s*"flows"\s*:/.test(text) ? "application/json" : "application/x-ndjson";
}

async function score(event) {
  event.preventDefault();
  const body = state.file ?? new Blob([at("rows").value]);
  if (!body.size) {
    say("Paste some rows, or choose a file.", true);
    at("rows").focus();
    return;
  }
  say("Scoring…");
  at("results").hidden = true;
  state.flows = [];
  at("score").disabled = true;
  try {
    if (state.model === null) await describe();
    const response = await fetch("/v1/score?explain=alerts", {
      method: "POST", body, headers: headers({ "Content-Type": await typeOf(body) }),
    });
    const answer = await response.json();
    if (!response.ok) {
      if (response.status === 401) at("key-label").hidden = false;
      say(answer.error, true);
      return;
    }
    show(answer);
  } catch {
    say("The service does not answer.", true);
  } finally {
    at("score").disabled = false;
  }
}

const isBenign = (flow) => flow.verdict ? flow.verdict === "pass" : flow.predicted_class === state.model?.benign;

function show(answer) {
  state.flows = answer.flows;
  const counts = new Map();
  for (const flow of state.flows) {
    const name = flow.verdict ?? flow.predicted_class;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const invalid_values = Object.entries(answer.invalid_values).map(([name, count]) => `${name}: ${count}`).join(", ");
  at("summary").textContent = `${state.flows.length} ${state.flows.length === 1 ? "flow" : "flows"}` +
    [...counts].map(([name, count]) => `, ${count} ${name}`).join("") +
    (invalid_values ? `. Values that are not numbers, read as missing: ${invalid_values}.` : ".");
  say("");
  at("results").hidden = false;
  draw();
  at("verdicts-title").focus();
}

function cell(row, text, className = "") {
  const made = row.insertCell();
  made.className = className;
  made.textContent = text;
  return made;
}

// What is decided and why stands first, then where the flow is, then the other scores.
function draw() {
  const chosen = at("only").checked ? state.flows.filter((flow) => !isBenign(flow)) : state.flows;
  const flows = chosen.slice(0, SHOWN);
  const first = state.flows[0] ?? {};
  const names = Object.keys(first);
  const places = names.slice(1, names.indexOf("predicted_class"));
  const scored = ["alert_score", "attack_score", "novelty"].filter((name) => name in first);
  const columns = [
    ...["verdict", "predicted_class", scored[0], "explanation"].filter((name) => name in first),
    "row", ...places, ...scored.slice(1),
  ];
  at("head").replaceChildren(...columns.map((name) => {
    const heading = document.createElement("th");
    heading.scope = "col";
    heading.textContent = { predicted_class: "class", explanation: "main evidence" }[name] ?? name.replaceAll("_", " ");
    return heading;
  }));
  at("body").replaceChildren(...flows.map((flow) => {
    const row = document.createElement("tr");
    for (const name of columns) {
      if (name === "explanation") reasons(cell(row, "", "explanation"), flow.explanation);
      else if (name === "verdict") cell(row, flow.verdict, ["alert", "pass", "unknown"].includes(flow.verdict) ? flow.verdict : "");
      else if (scored.includes(name)) cell(row, flow[name].toFixed(4), "number");
      else cell(row, flow[name] ?? "", name === "row" ? "number" : name === "predicted_class" ? "strong" : "");
    }
    return row;
  }));
  at("more").textContent = chosen.length > SHOWN ? `The first ${SHOWN} of ${chosen.length} are shown; save them to have all.` : "";
}

function reasons(into, texts) {
  for (const text of texts ?? []) {
    const part = document.createElement("span");
    part.textContent = text;
    into.append(part);
  }
}

function choose(file) {
  if (!file) return;
  state.file = file;
  at("rows").value = "";
  at("rows").placeholder = `${file.name} (${file.size} bytes)`;
  say(`${file.name} is chosen.`);
  at("score").focus();
}

function save() {
  const lines = state.flows.map((flow) => JSON.stringify(flow) + "\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" }));
  link.download = "verdicts.jsonl";
  link.click();
  URL.revokeObjectURL(link.href);
}

at("ask").addEventListener("submit", score);
at("file").addEventListener("change", () => choose(at("file").files[0]));
at("rows").addEventListener("input", () => { state.file = null; at("rows").placeholder = ""; });
at("only").addEventListener("change", draw);
at("save").addEventListener("click", save);
at("sample").addEventListener("click", sample);
for (const [name, isOver] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
  at("drop").addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", isOver);
    if (name === "drop") choose(event.dataTransfer.files[0]);
  });
}
describe().catch(() => { at("model").textContent = "The service does not answer."; });
