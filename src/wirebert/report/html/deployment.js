// The threshold slider: each stop has its counts, all else follows from them and from what the reader enters.

const fixed = (digits) => new Intl.NumberFormat("en", { maximumFractionDigits: digits });
const percent = new Intl.NumberFormat("en", { style: "percent", maximumSignificantDigits: 3 });
const count = (value) => fixed(value < 10 ? 2 : 0).format(value);

function chosen(box) {
  const number = (name) => Math.max(0, Number(box.querySelector(`[data-choice=${name}]`).value) || 0);
  const names = ["point", "flows", "attacks", "cost_missed", "cost_false"];
  return Object.fromEntries(names.map((name) => [name, number(name)]));
}

// What one stop means a day.
function outcome(box, place) {
  const { flows, attacks, cost_missed, cost_false } = chosen(box);
  const [threshold, found, alarms] = box.points[place];
  const [, num_attacks, num_benign] = box.points.at(-1);
  const prevalence = Math.min(1, attacks / 1000);
  const tpr = found / num_attacks;
  const fpr = alarms / num_benign;
  const right = flows * prevalence * tpr;
  const missed = flows * prevalence * (1 - tpr);
  const wrong = flows * (1 - prevalence) * fpr;
  const passed = flows * (1 - prevalence) * (1 - fpr);
  const cost = missed * cost_missed + wrong * cost_false;
  const cells = [found, num_attacks - found, alarms, num_benign - alarms];
  return { threshold, tpr, fpr, right, missed, wrong, passed, cost, cells };
}

function slide(box) {
  const one = outcome(box, chosen(box).point);
  const alerts = one.right + one.wrong;
  const [found, unfound, alarms, passed] = one.cells.map(count);
  const figures = {
    threshold: one.threshold.toPrecision(4),
    tpr: percent.format(one.tpr),
    fpr: percent.format(one.fpr),
    alerts: count(alerts),
    false_alerts: count(one.wrong),
    precision: alerts ? percent.format(one.right / alerts) : "-",
    missed: count(one.missed),
    cost: count(one.cost),
    found, unfound, alarms, passed,
    found_a_day: `${count(one.right)} a day`,
    unfound_a_day: `${count(one.missed)} a day`,
    alarms_a_day: `${count(one.wrong)} a day`,
    passed_a_day: `${count(one.passed)} a day`,
  };
  for (const [name, text] of Object.entries(figures)) box.querySelector(`[data-figure=${name}]`).textContent = text;
  const words = `${figures.threshold}: ${figures.tpr} of attacks, ${figures.alerts} alerts a day`;
  box.querySelector("[data-choice=point]").setAttribute("aria-valuetext", words);
}

function go(box, where) {
  const costs = box.points.map((_, place) => outcome(box, place).cost);
  const lever = box.querySelector("[data-choice=point]");
  lever.value = where === "start" ? box.dataset.start : costs.indexOf(Math.min(...costs));
  slide(box);
}

for (const box of document.querySelectorAll(".slider")) {
  box.points = JSON.parse(box.dataset.points);
  box.hidden = false;
  box.addEventListener("input", () => slide(box));
  for (const button of box.querySelectorAll("[data-go]")) button.addEventListener("click", () => go(box, button.dataset.go));
  slide(box);
}

// Commands that are ready to copy. Where the clipboard is closed to a file, the text is selected for Ctrl-C.

async function copy(button) {
  const code = button.parentElement.querySelector("code");
  const said = button.parentElement.querySelector("[role=status]");
  try {
    await navigator.clipboard.writeText(code.textContent);
    said.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code);
    said.textContent = "Selected: press Ctrl-C";
  }
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
}
