"use strict";

// --- light and dark ------------------------------------------------------------------------------

const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
}

function setUpTheme() {
  const button = document.getElementById("theme");
  button.hidden = false;
  const say = () => button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* kept for this page alone */ }
    say();
    drawAll();
  });
  system.addEventListener("change", () => { say(); drawAll(); });
  say();
}

// --- plots ---------------------------------------------------------------------------------------

/** The value with its colours, which are names of custom properties of the style sheet. */
function inColour(value, style) {
  if (typeof value === "string") return value.startsWith("--") ? style.getPropertyValue(value).trim() : value;
  if (Array.isArray(value)) return value.map((item) => inColour(item, style));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, inColour(item, style)]));
}

function axis(own, style) {
  const line = style.getPropertyValue("--line").trim();
  return { gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true, fixedrange: true, ...own };
}

// Long names leave no room for the plot: the axis shows their beginnings, the hover text all.
function shortNames(plot, longest) {
  if (plot.layout.yaxis?.type !== "category") return {};
  const names = [...new Set(plot.traces.flatMap((trace) => trace.y))];
  return { tickvals: names, ticktext: names.map((name) => name.length > longest ? name.slice(0, longest - 1) + "…" : name) };
}

function draw(figure) {
  const style = getComputedStyle(root);
  const plot = inColour(JSON.parse(document.getElementById("data-" + figure.dataset.plot).textContent), style);
  const isNarrow = figure.clientWidth < 520;
  const layout = {
    ...plot.layout,
    xaxis: axis({ nticks: isNarrow ? 4 : 9, ...plot.layout.xaxis }, style),
    yaxis: axis({
      ...plot.layout.yaxis,
      ...shortNames(plot, isNarrow ? 20 : 48),
      tickfont: { size: isNarrow ? 9 : 12 },
    }, style),
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: style.getPropertyValue("--text").trim() },
    margin: { l: 56, r: 12, t: 36, b: 48 },
    legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0 },
    hoverlabel: { align: "left" },
    dragmode: false,
  };
  figure.style.minHeight = layout.height + "px";
  return Plotly.react(figure, plot.traces, layout, { displayModeBar: false, responsive: true, staticPlot: false });
}

async function drawAll() {
  if (typeof Plotly === "undefined") return;
  await Promise.all([...document.querySelectorAll("[data-plot]")].map(draw));
  root.dataset.drawn = isDark() ? "dark" : "light";
}

// --- jobs, live ----------------------------------------------------------------------------------

const POLL_MS = 2000;

function cell(name, text, kind) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text instanceof Node) made.append(text); else made.textContent = text ?? "";
  return made;
}

function link(address, text) {
  const made = cell("a", text);
  made.href = address;
  return made;
}

function jobRow({ job, says }) {
  const row = document.createElement("tr");
  const name = cell("th", cell("code", job.id.slice(0, 10)));
  name.scope = "row";
  const lease = job.state === "leased" ? `${job.lease_owner}, until ${(job.lease_until ?? "").slice(11, 19)}` : "";
  row.append(
    name,
    cell("td", link(root.dataset.root + "/devices/" + job.job.device, job.job.device)),
    cell("td", job.job.kind),
    cell("td", cell("span", job.state, "badge " + job.state)),
    cell("td", `${job.attempts} of ${job.max_attempts}`, "number"),
    cell("td", job.created_at.slice(0, 10) + " " + job.created_at.slice(11, 16)),
    cell("td", lease),
    cell("td", says),
  );
  return row;
}

function showJobs(table, view) {
  table.tBodies[0].replaceChildren(...view.jobs.map(jobRow));
  for (const state of document.querySelectorAll("#states [data-state]")) {
    state.querySelector("b").textContent = view.states[state.dataset.state];
  }
  const unserved = document.getElementById("unserved");
  unserved.hidden = view.unserved.length === 0;
  unserved.querySelector("span").textContent = view.unserved.join(", ");
  document.getElementById("no-jobs").hidden = view.jobs.length > 0;
}

function follow(table) {
  const live = document.getElementById("live");
  let last = "";
  const say = (text) => { if (live.textContent !== text) live.textContent = text; };
  const ask = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(table.dataset.live, { headers: { Accept: "application/json" } });
        if (answer.status === 401) { location.reload(); return; }
        if (!answer.ok) throw new Error(answer.status);
        const text = await answer.text();
        if (text !== last) showJobs(table, JSON.parse(text));
        last = text;
        say("live");
      } catch { say("the server does not answer"); }
    }
    setTimeout(ask, POLL_MS);
  };
  ask();
}

setUpTheme();
// plotly.js is deferred, too, and comes after this script.
document.addEventListener("DOMContentLoaded", drawAll);
for (const table of document.querySelectorAll("[data-live]")) follow(table);
