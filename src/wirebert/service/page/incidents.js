"use strict";
// Shows the incidents of a monitor, and sends what people say of them. Text is only ever set as text.
{
  const COLUMNS = [
    ["severity", "severity", "number"], ["class_name", "class", "strong"], ["source", "source", ""],
    ["num_flows", "flows", "number"], ["num_destinations", "destinations", "number"],
    ["first_s", "first seen", ""], ["last_s", "last seen", ""], ["joint_score", "score", "number"], ["state", "state", ""],
  ];
  const MARKS = ["benign", "bad", "unsure"];
  const view = { incidents: [], sort: "severity", isDown: true, open: null };

  const shown = (name, value) => {
    if (value === null || value === undefined) return "";
    if (name.endsWith("_s")) return new Date(value * 1000).toISOString().slice(0, 19).replace("T", " ");
    return name === "joint_score" ? value.toFixed(4) : String(value);
  };

  const tell = (text, isBad = false) => {
    at("incident-status").textContent = text;
    at("incident-status").classList.toggle("bad", isBad);
  };

  async function load() {
    const response = await fetch("/v1/incidents", { headers: headers({}) });
    const answer = await response.json();
    if (response.ok && answer.incidents === null) return;
    at("incidents").hidden = false;
    if (!response.ok) {
      at("key-label").hidden = false;
      tell("Incidents need the API key: enter it above, then refresh.");
      return;
    }
    view.incidents = answer.incidents;
    drawIncidents();
  }

  function chosen() {
    const text = at("incident-filter").value.trim().toLowerCase();
    const state = at("incident-state").value;
    const kept = view.incidents.filter((one) =>
      (!state || (state === "unmarked" ? !one.mark : one.state === state)) &&
      (!text || JSON.stringify(one).toLowerCase().includes(text)));
    const order = (a, b) => {
      const [x, y] = [a[view.sort] ?? "", b[view.sort] ?? ""];
      return (x < y ? -1 : x > y ? 1 : 0) * (view.isDown ? -1 : 1);
    };
    return kept.sort(order);
  }

  function button(text, onClick) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.addEventListener("click", onClick);
    return made;
  }

  function drawIncidents() {
    const incidents = chosen();
    at("incident-head").replaceChildren(...COLUMNS.map(([name, title]) => {
      const heading = document.createElement("th");
      heading.scope = "col";
      if (name === view.sort) heading.ariaSort = view.isDown ? "descending" : "ascending";
      heading.append(button(title + (name === view.sort ? (view.isDown ? " ↓" : " ↑") : ""), () => {
        view.isDown = name === view.sort ? !view.isDown : true;
        view.sort = name;
        drawIncidents();
        [...at("incident-head").querySelectorAll("button")][COLUMNS.findIndex((one) => one[0] === name)].focus();
      }));
      return heading;
    }), Object.assign(document.createElement("th"), { scope: "col", textContent: "mark" }));
    at("incident-body").replaceChildren(...incidents.flatMap(rows));
    tell(`${incidents.length} of ${view.incidents.length} incidents.`);
  }

  function rows(incident) {
    const row = document.createElement("tr");
    for (const [name, , style] of COLUMNS) {
      const made = cell(row, name === "class_name" ? "" : shown(name, incident[name]), style);
      if (name !== "class_name") continue;
      const isOpen = view.open === incident.incident_id;
      const toggle = button(incident.class_name, () => {
        view.open = isOpen ? null : incident.incident_id;
        drawIncidents();
        document.getElementById(`evidence-of-${incident.incident_id}`)?.focus();
      });
      toggle.id = `evidence-of-${incident.incident_id}`;
      toggle.ariaExpanded = String(isOpen);
      toggle.ariaLabel = `${incident.class_name} from ${incident.source || "several sources"}: evidence`;
      made.append(toggle);
    }
    const marks = cell(row, "");
    for (const mark of MARKS) {
      const made = button(mark, () => send(incident, mark));
      made.ariaPressed = String(incident.mark === mark);
      made.ariaLabel = `Mark ${incident.class_name} from ${incident.source || "several sources"} as ${mark}`;
      marks.append(made, " ");
    }
    return view.open === incident.incident_id ? [row, evidence(incident)] : [row];
  }

  function evidence(incident) {
    const row = document.createElement("tr");
    row.className = "evidence";
    const flows = incident.examples.map((flow) => Object.entries(flow).map(([name, value]) => `${name} ${value}`).join(", "));
    const made = cell(row, [
      `Incident ${incident.incident_id}`,
      incident.evidence.length ? `Evidence: ${incident.evidence.join("; ")}` : "No evidence was asked for (monitor --explain).",
      ...flows.map((flow, at) => `Flow ${at + 1}: ${flow}`),
    ].join("\n"));
    made.colSpan = COLUMNS.length + 1;
    return row;
  }

  async function send(incident, mark) {
    try {
      const response = await fetch("/v1/marks", {
        method: "POST",
        headers: headers({ "Content-Type": "application/json" }),
        body: JSON.stringify({ incident_id: incident.incident_id, mark }),
      });
      if (!response.ok) {
        if (response.status === 401) at("key-label").hidden = false;
        tell((await response.json()).error, true);
        return;
      }
      incident.mark = mark;
      drawIncidents();
      tell(`Marked as ${mark}.`);
    } catch {
      tell("The service does not answer.", true);
    }
  }

  at("incident-filter").addEventListener("input", drawIncidents);
  at("incident-state").addEventListener("change", drawIncidents);
  at("incident-refresh").addEventListener("click", () => load().catch(() => tell("The service does not answer.", true)));
  load().catch(() => tell("The service does not answer.", true));
}
