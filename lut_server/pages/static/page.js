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

/** The page asks for itself, and shows what changed. */
function follow(live) {
  let last = "";
  const say = (text) => { if (live.textContent !== text) live.textContent = text; };
  const ask = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(location.href);
        if (answer.redirected) { location.reload(); return; } // to the form for a token
        if (!answer.ok) throw new Error(answer.status);
        const text = await answer.text();
        if (text !== last) {
          const fresh = new DOMParser().parseFromString(text, "text/html").querySelectorAll("[data-live]");
          document.querySelectorAll("[data-live]").forEach((shown, i) => shown.replaceWith(fresh[i]));
        }
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
for (const live of document.querySelectorAll("#live")) follow(live);
