// The thread that measures; drawing and clicks run in main.js.

import { Agent } from "./agent.js";
import { Spool } from "./spool.js";

const post = (state) => self.postMessage(state);

async function start() {
  const [settings, spool] = await Promise.all([fetch("settings.json").then((answer) => answer.json()), Spool.open()]);
  const agent = new Agent(settings, spool, post);
  self.onmessage = ({ data }) => agent.receive(data);
  for (const early of waiting) agent.receive(early);
  await alone(() => agent.run());
}

/** Two tabs would disturb each other, so the second tab waits. Without HTTPS there are no locks. */
async function alone(action) {
  if (!navigator.locks) return action();
  const problem = "Another tab of this browser is open here: close it or use it.";
  const busy = () => post({ phase: "starting", problem });
  const late = setTimeout(busy, 1000);
  return navigator.locks.request("lutnas-agent", () => {
    clearTimeout(late);
    return action();
  });
}

const waiting = [];
self.onmessage = ({ data }) => waiting.push(data);
start().catch((error) => post({ phase: "stopped", problem: `${error.message ?? error}; reload the page` }));
