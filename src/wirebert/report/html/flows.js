// Misclassified flows: chosen by a cell of the confusion matrix, by class, value and score, each value beside what is
// usual in its true and in its predicted class. Text of the data is only ever set as text.

const PER_PAGE = 20;
const LEAST_ROWS = 8; // of a flow, before it is opened further

function element(tag, text = "", attributes = {}, ...children) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const share = (value) => `${Math.round(100 * value)}\u00a0%`;

// A name that may be broken after its punctuation.
function nameCell(name) {
  const parts = name.split(/(?<=[_./:-])(?=\w)/).flatMap((part) => [element("wbr"), part]);
  return element("th", "", { scope: "row" }, ...parts.slice(1));
}

// What is usual in a column of a class, in words.
function usual(data, name, column) {
  const summary = data.typical[name]?.[column];
  if (!summary) return "-";
  const { missing, quantiles, values } = summary;
  const told = quantiles?.length
    ? [`${fixed(4).format(quantiles[1])} (${fixed(4).format(quantiles[0])} to ${fixed(4).format(quantiles[2])})`]
    : Object.entries(values ?? {}).map(([value, part]) => `${value}: ${share(part)}`);
  if (missing >= 0.005 || !told.length) told.push(`missing: ${share(missing)}`);
  return told.join(", ");
}

// Whether a value is rare in a class: outside its 5 % and 95 % quantiles, or none of its commonest values.
function isRare(data, name, column, value) {
  const summary = data.typical[name]?.[column];
  if (!summary) return false;
  if (summary.quantiles?.length) return value < summary.quantiles[0] || value > summary.quantiles[2];
  const known = Object.keys(summary.values ?? {});
  return known.length > 0 && !known.includes(value.slice(0, 60));
}

function valuesTable(caption, columns, rows) {
  const head = element("tr", "", {}, ...columns.map((name) => element("th", name, { scope: "col", class: "text" })));
  const body = rows.map(([name, ...cells]) =>
    element("tr", "", {}, nameCell(name), ...cells.map(([text, rare]) =>
      element("td", text, { class: rare ? "text rare" : "text" }))));
  const table = element("table", "", { class: "values" }, element("caption", caption, { class: "unseen" }),
    element("thead", "", {}, head), element("tbody", "", {}, ...body));
  return element("div", "", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" }, table);
}

function flowDetails(data, flow, isOpen) {
  const evidence = flow.top_features;
  // What speaks for the verdict first, then what is rare in the true class, then the rest on demand.
  const weight = (column) => (evidence[column] ?? 0) || (isRare(data, flow.true_class, column, flow.flow[column]) ? 1e-9 : 0);
  const columns = Object.keys(flow.flow).sort((a, b) => weight(b) - weight(a));
  const numFirst = Math.max(LEAST_ROWS, columns.filter(weight).length);
  const rows = columns.map((column) => {
    const value = flow.flow[column];
    const mark = evidence[column] ? ` (evidence ${evidence[column].toFixed(2)})` : "";
    return [column, [value + mark, isRare(data, flow.true_class, column, value)],
      [usual(data, flow.true_class, column)], [usual(data, flow.predicted_class, column)]];
  });
  const score = flow.attack_score === null ? "" : `, attack score ${flow.attack_score.toFixed(4)}`;
  const label = flow.label === flow.true_class ? "" : `, label ${flow.label}`;
  const summary = element("summary", "", {}, element("b", flow.true_class), " classified as ",
    element("b", flow.predicted_class), " ", element("span",
      `probability ${(100 * flow.probability).toFixed(2)}\u00a0%${score}, row ${flow.row.toLocaleString("en")}${label}`, { class: "range" }));
  const details = element("details", "", {}, summary);
  const head = ["column", "this flow", `usual in ${flow.true_class}`, `usual in ${flow.predicted_class}`];
  const fill = () => {
    if (details.children.length > 1) return;
    details.append(valuesTable(`Row ${flow.row}`, head, rows.slice(0, numFirst)));
    if (rows.length <= numFirst) return;
    const rest = element("details", "", {}, element("summary", `${rows.length - numFirst} more columns`));
    rest.append(valuesTable(`Row ${flow.row}, more columns`, head, rows.slice(numFirst)));
    details.append(rest);
  };
  details.addEventListener("toggle", fill);
  if (isOpen) {
    details.open = true;
    fill();
  }
  return details;
}

function explore(box) {
  const data = JSON.parse(document.getElementById(box.dataset.flows).textContent);
  const control = (name) => box.querySelector(`[data-filter=${name}]`);
  const list = box.querySelector(".errors");
  const told = box.querySelector("[role=status]");
  const more = box.querySelector("[data-more]");
  const cells = [...box.querySelectorAll("[data-cell]")];
  let shown = PER_PAGE;

  const isChosen = (flow) => {
    const [real, predicted, column, value] = ["true", "predicted", "column", "value"].map((name) => control(name).value);
    const low = control("low").value === "" ? -Infinity : Number(control("low").value);
    const high = control("high").value === "" ? Infinity : Number(control("high").value);
    const score = flow.attack_score ?? flow.probability;
    const texts = column ? [flow.flow[column] ?? ""] : Object.values(flow.flow);
    return (!real || flow.true_class === real) && (!predicted || flow.predicted_class === predicted)
      && score >= low && score <= high
      && (!value || texts.some((text) => text.toLowerCase().includes(value.toLowerCase())));
  };

  function draw() {
    const [real, predicted] = [control("true").value, control("predicted").value];
    const found = data.mistakes.filter(isChosen);
    list.replaceChildren(...found.slice(0, shown).map((flow, place) => flowDetails(data, flow, !place)));
    told.textContent = `${found.length} of ${data.mistakes.length} kept flows`;
    if (real && real === predicted) {
      const columns = Object.keys(data.typical[real] ?? {});
      told.textContent = `${real}: classified correctly. Its usual values:`;
      if (columns.length) list.replaceChildren(valuesTable(`Usual values of ${real}`, ["column", `usual in ${real}`],
        columns.map((column) => [column, [usual(data, real, column)]])));
    }
    more.hidden = found.length <= shown;
    for (const cell of cells) {
      const isPressed = cell.dataset.cell === JSON.stringify([real, predicted]);
      cell.setAttribute("aria-pressed", isPressed);
    }
    markScrolling();
  }

  function choosePair(real, predicted) {
    for (const [name, value] of [["true", real], ["predicted", predicted]]) control(name).value = value;
    shown = PER_PAGE;
    draw();
  }

  for (const cell of cells) cell.addEventListener("click", () => choosePair(...JSON.parse(cell.dataset.cell)));
  box.addEventListener("input", () => { shown = PER_PAGE; draw(); });
  box.querySelector("[data-clear]").addEventListener("click", () => {
    for (const one of box.querySelectorAll("[data-filter]")) one.value = "";
    choosePair("", "");
  });
  more.addEventListener("click", () => { shown += PER_PAGE; draw(); });
  // The picture of the matrix is one with the table of buttons.
  cellActions.set(box.dataset.matrix, (real, predicted) => {
    choosePair(real, predicted);
    box.scrollIntoView({ block: "start" });
  });
  box.hidden = false;
  box.parentElement.querySelector(".still-errors")?.remove();
  draw();
}

for (const box of document.querySelectorAll(".explorer")) explore(box);
