// The measuring thread: nothing that is drawn or clicked runs here.

import { Agent } from "./agent.js";
import { Spool } from "./spool.js";

const say = (state) => self.postMessage(state);

async function start() {
  const [settings, spool] = await Promise.all([fetch("settings.json").then((answer) => answer.json()), Spool.open()]);
  const agent = new Agent(settings, spool, say);
  self.onmessage = ({ data }) => agent.hear(data);
  for (const early of waiting) agent.hear(early);
  await alone(() => agent.run());
}

/** Two tabs would measure each other: the second one waits. Without HTTPS a browser has no locks. */
async function alone(action) {
  if (!navigator.locks) return action();
  const busy = () => say({ phase: "starting", problem: "Another tab of this browser is open here: close it, or use that one." });
  const late = setTimeout(busy, 1000);
  return navigator.locks.request("lutnas-agent", () => {
    clearTimeout(late);
    return action();
  });
}

const waiting = [];
self.onmessage = ({ data }) => waiting.push(data);
start().catch((error) => say({ phase: "stopped", problem: `${error.message ?? error}; reload the page` }));
