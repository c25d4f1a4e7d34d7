// Brings the still pictures of a report to life. Where this does not run, the pictures stay as they are.
// `vegaEmbed` comes with the bundle; its expressions are interpreted, so the page needs no right to make code.
"use strict";

const specs = JSON.parse(document.getElementById("specs").textContent);
const MOST_WIDTH = 640;
const LEAST_WIDTH = 180;

// How much wider the plot must be for the picture to fill its place; plots of cells and bars keep their size.
function widthFor(figure, spec) {
  const picture = figure.querySelector(".picture");
  const room = picture.clientWidth - figure.drawnWidth;
  return Math.max(LEAST_WIDTH, Math.min(MOST_WIDTH, spec.width + room));
}

async function enliven(figure) {
  const spec = specs[figure.dataset.chart];
  const picture = figure.querySelector(".picture");
  const isFluid = typeof spec.width === "number";
  figure.drawnWidth = picture.querySelector("svg").viewBox.baseVal.width;
  const holder = document.createElement("div");
  const drawn = isFluid ? { ...spec, width: widthFor(figure, spec) } : spec;
  const options = { ast: true, actions: false, renderer: "svg", defaultStyle: false };
  const { view } = await vegaEmbed(holder, drawn, options);
  // The picture as a whole has its words; what Vega says about single marks would drown them.
  holder.querySelector("svg").setAttribute("aria-hidden", "true");
  picture.replaceChildren(holder);
  figure.view = view;
  figure.isFluid = isFluid;
  addZoom(figure);
  for (const control of figure.querySelectorAll("[data-parameter]")) apply(control);
  figure.dataset.live = "yes";
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

function fit() {
  for (const figure of document.querySelectorAll("figure[data-live]")) {
    if (figure.isFluid) figure.view.width(widthFor(figure, specs[figure.dataset.chart])).runAsync();
  }
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
document.addEventListener("toggle", markScrolling, true);

let resized;
window.addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(fit, 150);
});
markScrolling();

// On paper nothing can be opened.
let opened = [];
window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const details of opened) details.open = true;
});
window.addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
});
