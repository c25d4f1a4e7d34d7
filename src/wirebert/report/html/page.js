// Brings the still pictures of a report to life. Where this does not run, the pictures stay as they are.
// `vegaEmbed` comes with the bundle; its expressions are interpreted, so the page needs no right to make code.
"use strict";

const specs = JSON.parse(document.getElementById("specs").textContent);
const MOST_WIDTH = 640; // of a plot, in pixels
const LEAST_WIDTH = 100;
const LEAST_LABEL = 60;
const LEAST_SCALE = 0.92; // a picture that would have to shrink further scrolls: text of 12 pixels stays at 11
const cellActions = new Map(); // chart of a confusion matrix -> what a click on a cell does

// Text as wide as the reader's own font draws it: the still picture knew only another font.
const pen = document.createElement("canvas").getContext("2d");

function textWidth(text, font) {
  pen.font = font;
  return pen.measureText(text).width;
}

function lines(text, room, font) {
  const found = [];
  for (const word of text.split(" ")) {
    const longer = found.length ? `${found.at(-1)} ${word}` : word;
    if (found.length && textWidth(longer, font) <= room) found[found.length - 1] = longer;
    else found.push(word);
  }
  return found;
}

// The specification with what `fit` sets as parameters: lines of the title, columns of the legend, room of axis labels.
function fittable(spec) {
  const { axis, legend } = spec.config;
  const values = {
    title_lines: [spec.title.text],
    subtitle_lines: [spec.title.subtitle ?? ""],
    legend_columns: legend.columns,
    label_limit: axis.labelLimit,
  };
  const params = Object.entries(values).map(([name, value]) => ({ name, value }));
  const title = { text: { expr: "title_lines" } };
  if (spec.title.subtitle) title.subtitle = { expr: "subtitle_lines" };
  const config = {
    ...spec.config,
    axis: { ...axis, labelLimit: { expr: "label_limit" } },
    legend: { ...legend, columns: { expr: "legend_columns" } },
  };
  return { ...spec, title, params: [...(spec.params ?? []), ...params], config };
}

// Fits a picture to its place: long titles are broken; where the plot takes any width, it gets what the text beside it
// leaves, then the legend gets fewer columns, then long axis labels are cut. Plots of cells keep their size.
async function fit(figure) {
  const { view } = figure;
  const spec = specs[figure.dataset.chart];
  const { font, padding, axis, legend, title } = spec.config;
  const room = figure.querySelector(".picture").clientWidth;
  if (!room) return; // in a part that is closed
  const svg = view.container().querySelector("svg");
  const excess = () => svg.viewBox.baseVal.width - room;
  const inside = room - 2 * padding;
  const beside = figure.querySelector(".zoom")?.offsetWidth ?? 0;
  const bold = `${title.fontWeight} ${title.fontSize}px ${font}`;
  const plain = `${title.subtitleFontSize}px ${font}`;
  view.signal("title_lines", lines(spec.title.text, inside - beside, bold));
  view.signal("subtitle_lines", lines(spec.title.subtitle ?? "", inside, plain));
  view.signal("label_limit", axis.labelLimit);
  await view.resize().runAsync();
  if (typeof spec.width === "number") {
    for (let columns = legend.columns; columns > 0; columns--) {
      await view.signal("legend_columns", columns).runAsync();
      const width = view.width() - excess();
      await view.width(Math.max(LEAST_WIDTH, Math.min(MOST_WIDTH, width))).runAsync();
      if (excess() <= 0) break;
    }
    const names = view.scale("y").bandwidth ? view.scale("y").domain() : [];
    const longest = Math.max(0, ...names.map((name) => textWidth(name, `${axis.labelFontSize}px ${font}`)));
    const limit = Math.min(longest, axis.labelLimit) - excess();
    if (names.length && excess() > 0) await view.signal("label_limit", Math.max(LEAST_LABEL, limit)).runAsync();
  }
  svg.style.minWidth = `${LEAST_SCALE * svg.viewBox.baseVal.width}px`;
}

// The pointer is over a cell around the nearest point, whose `datum` is the point. Vega-Lite knows that of formatted
// fields alone, so that the names of curves were told as "undefined".
function named(spec) {
  for (const mark of spec.marks ?? []) {
    named(mark);
    const told = mark.encode?.update?.tooltip;
    if (mark.name?.endsWith("voronoi") && told?.signal)
      told.signal = told.signal.replaceAll(/(?<!\.)\bdatum\["/g, 'datum.datum["');
  }
  return spec;
}

async function enliven(figure) {
  const picture = figure.querySelector(".picture");
  const holder = document.createElement("div");
  const options = { ast: true, actions: false, renderer: "svg", defaultStyle: false, patch: named };
  const { view } = await vegaEmbed(holder, fittable(specs[figure.dataset.chart]), options);
  // The picture as a whole has its words; what Vega says about single marks would drown them.
  holder.querySelector("svg").setAttribute("aria-hidden", "true");
  figure.view = view;
  const act = cellActions.get(figure.dataset.chart);
  if (act) view.addEventListener("click", (_, item) => item?.datum?.true && act(item.datum.true, item.datum.predicted));
  addZoom(figure);
  await fit(figure);
  picture.replaceChildren(holder);
  for (const control of figure.querySelectorAll("[data-parameter]")) apply(control);
  figure.dataset.live = "yes";
  markScrolling();
}

// Switches: radio buttons and lists that set a parameter of their chart.

function apply(control) {
  if (control.type === "radio" && !control.checked) return;
  const { view } = control.closest("figure");
  if (view) view.signal(control.dataset.parameter, control.value).runAsync();
}

function choose(event) {
  const control = event.target;
  if (!control.dataset.parameter) return;
  apply(control);
  if (control.tagName !== "SELECT") return;
  // A class chosen in one chart is chosen in its neighbours that know it too.
  for (const other of control.closest("section").querySelectorAll("select[data-parameter]")) {
    const knows = [...other.options].some((option) => option.value === control.value);
    if (other !== control && knows) {
      other.value = control.value;
      apply(other);
    }
  }
}

// Zoom without a wheel: for keyboards and touch.

function addZoom(figure) {
  const field = ["at", "place"].find((name) => `zoom_${name}` in figure.view.getState({ signals: () => true }).signals);
  if (!field) return;
  const name = figure.querySelector(".picture").getAttribute("aria-label").split(/[:,]| along /)[0];
  const buttons = document.createElement("div");
  buttons.className = "zoom";
  buttons.title = "Drag to move; shift and wheel to zoom";
  const act = { "+": ["Zoom in", 0.5], "\u2212": ["Zoom out", 2], "1:1": ["Show all", 0] };
  for (const [text, [label, factor]] of Object.entries(act)) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.setAttribute("aria-label", `${label}: ${name}`);
    button.addEventListener("click", () => zoom(figure.view, field, factor));
    buttons.append(button);
  }
  figure.prepend(buttons);
}

function zoom(view, field, factor) {
  const [low, high] = view.scale("x").domain();
  const middle = (low + high) / 2;
  const half = ((high - low) / 2) * factor;
  view.signal(`zoom_${field}`, factor ? [middle - half, middle + half] : null);
  // Where both axes zoom, Vega heeds neither alone.
  if (field === "place") view.signal("zoom_y", factor ? view.scale("y").domain() : null);
  view.runAsync();
}

// What scrolls can be reached by keyboard, and nothing else is a stop on the way.
function markScrolling() {
  for (const box of document.querySelectorAll(".scroll")) {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}

async function fitAll(part) {
  await Promise.all([...part.querySelectorAll("figure[data-live]")].map(fit));
  markScrolling();
}

const onSight = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      onSight.unobserve(target);
      enliven(target).catch((error) => console.error(target.dataset.chart, error));
    }
  },
  { rootMargin: "400px" },
);

for (const figure of document.querySelectorAll("figure[data-chart]")) onSight.observe(figure);
for (const switches of document.querySelectorAll(".switches")) switches.hidden = false;
document.addEventListener("change", choose);
document.addEventListener("toggle", ({ target }) => fitAll(target), true);

let resized;
window.addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(fitAll, 150, document);
});
markScrolling();

// On paper nothing can be opened.
let opened = [];
window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open]):not(.errors details)")]; // flows are looked at on screens
  for (const details of opened) details.open = true;
});
window.addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
});
