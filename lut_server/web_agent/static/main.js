// The page: shows the worker's state, and sends it the user's wishes.

import { Awake, watchVisibility } from "./awake.js";
import { spaceText } from "./names.js";
import { drawBars, drawScatter, figure } from "./picture.js";

const MEASURING = ["loading", "fetching", "warming", "measuring", "verifying", "uploading", "calibrating"];
const PHASES = {
  starting: "Starting", pairing: "Pairing", idle: "Ready", waiting: "Ready", unpaired: "",
  loading: "Loading onnxruntime-web", fetching: "Fetching the networks", warming: "Warming up",
  measuring: "Measuring", verifying: "Verifying a network", uploading: "Uploading", calibrating: "Making the table",
  stopped: "Stopped",
};
const SIDES = ["resolution", "channels", "depth", "classes", "image_channels"];

const at = (id) => document.getElementById(id);
// A pairing (`#device=D&code=XXXX`), what to measure (`space`, `resolution`, ...), or both.
const link = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
if (location.hash) history.replaceState(null, "", location.pathname + location.search);

const worker = new Worker("worker.js", { type: "module", name: "lutnas-agent" });
const tell = (message) => worker.postMessage(message);
const awake = new Awake();
let state = { phase: "starting" };
let drawn = null;
let settings = null;

worker.onmessage = ({ data }) => { state = data; show(); };
worker.onerror = ({ message }) => {
  state = { ...state, phase: "stopped", problem: `${message}; reload the page` };
  show();
};

// --- the state ----------------------------------------------------------------------------------

function say(id, text) {
  at(id).textContent = text ?? "";
  at(id).hidden = !text;
}

function show() {
  const isBusy = MEASURING.includes(state.phase);
  document.body.dataset.phase = state.phase;
  say("problem", state.problem);
  say("offline", state.offline);
  say("waiting", state.isHidden ? "Paused while the page is hidden." : "");
  at("device").textContent = state.device ?? "this device measures itself";
  at("pairing").hidden = state.phase !== "unpaired";
  at("choosing").hidden = !settings || !["idle", "waiting"].includes(state.phase);
  at("working").hidden = !isBusy;
  at("forget").hidden = !state.device || isBusy;
  showProgress(isBusy);
  showJob();
  showTable();
  showFacts();
}

function showProgress(isBusy) {
  at("phase").textContent = state.isPaused ? "Paused" : PHASES[state.phase];
  at("space").textContent = state.space ?? "";
  at("pause").textContent = state.isPaused ? "Go on" : "Pause";
  const { share, done, tasks, leftS } = state.progress ?? {};
  if (share === undefined) at("bar").removeAttribute("value");
  else at("bar").value = share;
  at("done").textContent = tasks ? `${Math.round(100 * share)} %, ${done} of ${tasks} done` : "";
  at("left").textContent = leftS === undefined ? "" : `${duration(leftS)} left`;
  awake.want(isBusy && !state.isPaused).then(() => { at("awake").textContent = isBusy ? awake.advice() : ""; });
}

function duration(seconds) {
  if (seconds < 60) return `${Math.max(Math.round(seconds / 5) * 5, 5)} s`;
  return `${Math.round(seconds / 60)} min`;
}

function showJob() {
  const { job } = state;
  at("job").hidden = !job;
  if (!job) return;
  const { verification: found } = job;
  const measured = found
    ? `: ${figure(found.measured_ms)} ms measured, the budget is ${found.met ? "met" : "not met"}` : "";
  at("job-said").textContent = `${job.kind}: ${job.said}${measured}`;
}

function showTable() {
  const { table } = state;
  at("result").hidden = !table || MEASURING.includes(state.phase);
  if (!table || drawn === table.hash) return;
  drawn = table.hash;
  const error = table.held_out;
  const stable = table.prices.filter((price) => price.stable).length;
  at("verdict").textContent = (error
    ? `Networks that no fit used are predicted to ${error.mape_percent.toFixed(1)} %,`
      + ` ${error.within_10_percent.toFixed(0)} % of them within 10 %. ` : "")
    + `${stable} of ${table.prices.length} ops were measured stably.`;
  at("verdict").className = stable === table.prices.length ? "good" : "";
  at("doubts").replaceChildren(...(state.doubts ?? []).map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
  for (const [id, svg] of [["scatter", drawScatter(table.networks)], ["bars", drawBars(table.prices)]]) {
    at(id).querySelector("svg")?.remove();
    at(id).append(svg);
  }
  at("whole").href = `../../tables/${table.hash}`;
  at("hash").textContent = table.hash.slice(0, 12);
}

function showFacts() {
  const facts = [];
  if (state.phase === "waiting") facts.push("While this page is open, it does the server's jobs for this device.");
  if (state.runtime) facts.push(state.runtime);
  if (state.clockStepMs) facts.push(`clock in steps of ${figure(1000 * state.clockStepMs)} µs`);
  if (state.isolated === false) {
    facts.push("not cross-origin isolated: one thread, a coarse clock, more time (use HTTPS or localhost)");
  }
  if (state.expiresAt) facts.push(`paired until ${state.expiresAt.slice(0, 10)}`);
  at("facts").textContent = facts.join(" · ");
}

// --- forms --------------------------------------------------------------------------------------

function fillSides(chosen = {}) {
  const form = at("profile-form").elements;
  const defaults = settings.spaces[form.space.value];
  for (const side of SIDES) form[side].value = chosen[side] ?? defaults[side];
}

function setUpForms() {
  const form = at("profile-form");
  form.elements.space.replaceChildren(...Object.keys(settings.spaces).map((name) => new Option(name, name)));
  form.elements.space.value = link.space in settings.spaces ? link.space : "nas-bench-201";
  for (const name of ["preset", "calibration", "held_out", "threads", "provider"]) {
    if (link[name]) form.elements[name].value = link[name];
  }
  fillSides(link);
  form.elements.space.addEventListener("change", () => fillSides());
  form.elements.threads.disabled = !self.crossOriginIsolated;
  if (!navigator.gpu) form.elements.provider.options[1].disabled = true;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const value = Object.fromEntries(new FormData(form));
    tell({
      type: "profile",
      request: {
        space: spaceText(value.space, value), calibration: Number(value.calibration), heldOut: Number(value.held_out),
        preset: value.preset, provider: value.provider, threads: Number(value.threads ?? 1),
      },
    });
  });
}

function setUpPairing() {
  const form = at("pair-form");
  form.elements.device.value = link.device ?? "";
  form.elements.code.value = link.code ?? "";
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    tell({ type: "pair", device: form.elements.device.value.trim(), code: form.elements.code.value.trim() });
    form.elements.code.value = "";
  });
  if (link.device && link.code) form.requestSubmit();
}

at("pause").addEventListener("click", () => tell({ type: state.isPaused ? "resume" : "pause" }));
addEventListener("hashchange", () => location.reload()); // a new link in an open page
at("forget").addEventListener("click", () => tell({ type: "forget" }));
watchVisibility((type) => tell({ type }));
setUpPairing();
settings = await (await fetch("settings.json")).json();
setUpForms();
show();
