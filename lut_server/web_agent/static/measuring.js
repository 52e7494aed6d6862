// From a run's plan to its measurements: graphs fetched and kept, sessions opened, one campaign.

import { Campaign, CanaryWatch, seeded } from "./campaign.js";
import { graphsOf, measurementId, runtimeText } from "./names.js";
import { RoundTimer } from "./round_timer.js";
import { retry, ServerAway } from "./server.js";
import { Refused, Residence, warmUp } from "./sessions.js";
import { judge } from "./stability.js";
import { NETWORK_ROLES, StoppingRule } from "./stopping.js";

const SHOW_EVERY_MS = 500;
const ISOLATED_ROUNDS = 6;
const KEPT_BYTES = 32_000_000;
const FEWEST_VERIFICATION_ROUNDS = 24;
const VERIFICATION_TASKS = 4;
const VERIFICATION_PAUSE_MS = 20;

/** Bytes of graphs: from memory, the browser's storage, or the server, which is asked whether it has newer ones. */
class Graphs {
  constructor(spool, server, onAway) {
    Object.assign(this, { spool, server, onAway, memory: new Map(), bytes: 0 });
  }

  /** Have a graph in the storage; `isBegun`: go on with what is there. */
  async fetch(spec, isBegun) {
    const kept = await this.spool.findGraph(spec);
    if (kept && isBegun) return;
    const attempts = kept ? 2 : Infinity;
    try {
      const fresh = await retry(() => this.server.graph(spec, kept?.sha256), { attempts, onAway: this.onAway });
      if (fresh) await this.spool.keepGraph(spec, fresh.sha256, fresh.bytes);
    } catch (error) {
      if (!kept || !(error instanceof ServerAway)) throw error;
    }
  }

  async read(spec) {
    let bytes = this.memory.get(spec);
    if (!bytes) {
      bytes = (await this.spool.findGraph(spec)).bytes;
      if (this.bytes + bytes.byteLength <= KEPT_BYTES) {
        this.memory.set(spec, bytes);
        this.bytes += bytes.byteLength;
      }
    }
    return bytes;
  }
}

/** Measure what a run lacks; returns why graphs were refused. */
export async function measureRun({ loaded, entry, spool, server, preset, gate, clockStepMs, show, onSweep }) {
  const { run, plan } = entry;
  const done = new Set((await spool.measurementsOf(run.id)).map((one) => one.id));
  const missing = plan.tasks.filter((task) => !done.has(measurementId(run.id, task)));
  if (!missing.length) return [];
  const begun = await spool.roundsOf(run.id);
  const graphs = new Graphs(spool, server, (error) => show({ offline: error.message }));
  const residence = new Residence(loaded.ort, loaded.runtime, (spec) => graphs.read(spec));
  const specs = [...new Set([plan.canary, ...missing.flatMap(graphsOf)])];
  for (const [i, spec] of specs.entries()) {
    await graphs.fetch(spec, begun.size > 0);
    if (i % 10 === 0) show({ phase: "fetching", offline: null, progress: { share: i / specs.length } });
  }
  const guests = new Map(specs.map((spec) => [spec, residence.graph(spec)]));
  const refused = new Map();
  await warmUpAll(guests, refused, show, gate);
  if (refused.has(plan.canary)) throw new Error(`without the canary nothing can be measured: ${refused.get(plan.canary)}`);
  const subjects = missing.filter((task) => !graphsOf(task).some((spec) => refused.has(spec))).map((task) => {
    const kept = begun.get(measurementId(run.id, task)) ?? [];
    return {
      task, graph: guests.get(task.graph), minus: task.minus === null ? null : guests.get(task.minus),
      rounds: kept.map((one) => one.round), disturbed: kept.filter((one) => one.disturbed).length, redos: 0, done: false,
    };
  });
  const key = `usual canary ${runtimeText(run.runtime)} ${plan.canary}`;
  const watch = new CanaryWatch(await spool.find(key));
  const rule = new StoppingRule(preset, plan.tasks.filter((task) => task.role !== "isolated").length);
  const progress = new Progress(subjects, preset, rule, plan.tasks.length - missing.length, show);
  try {
    await new Campaign({
      subjects, rule, watch, gate, onSweep: async () => { await onSweep(); rule.pause(); },
      timer: new RoundTimer(guests.get(plan.canary), clockStepMs), judge: (subject) => judge(subject, preset),
      journal: spool.journal(run.id), random: seeded(run.id), onRound: () => progress.tick(),
    }).run();
  } finally {
    await residence.closeAll();
  }
  if (watch.usualMs() !== null) await spool.keep(key, watch.usualMs());
  return [...refused.values()];
}

/** Each graph once, to see that it runs; the first ones, and the canary, until they are compiled well. */
async function warmUpAll(guests, refused, show, gate) {
  let i = 0;
  for (const [spec, guest] of guests) {
    await gate(null);
    if (i % 5 === 0) show({ phase: "warming", progress: { share: i / guests.size } });
    try {
      await guest.turn();
      await warmUp(guest, i === 0 ? {} : { shortestMs: 8, longestMs: 60 });
      await guest.rest();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      refused.set(spec, error.message);
    }
    i += 1;
  }
}

/** Measure one network as the table's networks were measured, for a verification: loaded anew in each round. */
export async function measureNetwork({ loaded, task, canary, seed, spool, server, preset, gate, clockStepMs, show }) {
  const graphs = new Graphs(spool, server, (error) => show({ offline: error.message }));
  for (const spec of [canary, task.graph]) await graphs.fetch(spec, false);
  show({ phase: "verifying", progress: null });
  const residence = new Residence(loaded.ort, loaded.runtime, (spec) => graphs.read(spec), 0);
  const [reference, graph] = [residence.graph(canary), residence.graph(task.graph)];
  const strict = {
    ...preset,
    minRounds: Math.max(FEWEST_VERIFICATION_ROUNDS, preset.minRounds),
    maxRounds: Math.max(FEWEST_VERIFICATION_ROUNDS, preset.maxRounds),
  };
  const subject = { task, graph, minus: null, rounds: [], disturbed: 0, redos: 0, done: false };
  const key = `usual canary ${runtimeText(loaded.runtime)} ${canary}`;
  const watch = new CanaryWatch(await spool.find(key));
  const pausing = async (rule) => {
    await new Promise((resolve) => setTimeout(resolve, VERIFICATION_PAUSE_MS));
    return gate(rule);
  };
  try {
    for (const one of [reference, graph]) {
      await one.turn();
      await warmUp(one);
      await one.rest();
    }
    await new Campaign({
      subjects: [subject], rule: new StoppingRule(strict, VERIFICATION_TASKS), watch, gate: pausing,
      timer: new RoundTimer(reference, clockStepMs), judge: (one) => judge(one, strict), random: seeded(seed),
      journal: { keepRound: async () => {}, keepMeasurement: async () => {} },
    }).run();
  } finally {
    await residence.closeAll();
  }
  await spool.keep(key, watch.usualMs());
  return { rounds: subject.rounds, verdict: judge(subject, strict) };
}

/** How far a campaign is, and how long it will take, from the rounds so far. */
class Progress {
  constructor(subjects, preset, rule, before, show) {
    Object.assign(this, { subjects, preset, rule, before, show, shownAt: 0, rounds: 0, start: rule.spentS });
    this.tick();
  }

  tick() {
    this.rounds += 1;
    const now = performance.now();
    if (now - this.shownAt < SHOW_EVERY_MS) return;
    this.shownAt = now;
    const left = this.subjects.reduce((sum, one) => sum + this.expected(one), 0);
    const taken = this.subjects.reduce((sum, one) => sum + one.rounds.length, 0);
    const roundS = (this.rule.spentS - this.start) / this.rounds;
    const least = this.subjects.some((one) => one.rounds.length < this.preset.minRounds && !one.done);
    const leftS = least ? left * roundS : Math.min(left * roundS, Math.max(this.rule.budgetS - this.rule.spentS, roundS));
    this.show({
      phase: "measuring",
      progress: {
        share: taken / Math.max(taken + left, 1), leftS,
        done: this.before + this.subjects.filter((one) => one.done).length,
        tasks: this.before + this.subjects.length, rounds: taken,
      },
    });
  }

  /** Rounds that a subject probably still takes. */
  expected({ task, rounds, done }) {
    if (done) return 0;
    if (task.role === "isolated") return Math.max(ISOLATED_ROUNDS - rounds.length, 0);
    const { minRounds, maxRounds } = this.preset;
    const likely = NETWORK_ROLES.includes(task.role) ? maxRounds : (minRounds + maxRounds) / 2;
    return Math.max(likely - rounds.length, 1);
  }
}
