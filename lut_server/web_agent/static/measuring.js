// Measures a run, or networks of a verification: fetches graphs, opens sessions, runs a campaign.

import { Campaign, CanaryWatch, seeded } from "./campaign.js";
import { graphsOf, measurementId, runtimeText } from "./names.js";
import { RoundTimer } from "./round_timer.js";
import { retry, ServerAway } from "./server.js";
import { Refused, SessionCache, warmUp } from "./sessions.js";
import { ISOLATED_ROUNDS, judge, NETWORK_ROLES, StoppingRule } from "./stopping.js";

const SHOW_EVERY_MS = 500;
const KEPT_BYTES = 32_000_000;
const FEWEST_VERIFICATION_ROUNDS = 24;
const VERIFICATION_TASKS = 4;
const VERIFICATION_PAUSE_MS = 20;
const LONGEST_BESIDE_OTHERS_MS = 250; // of loading and a run: rounds of slower networks would take minutes
const BRIEFLY = { shortestMs: 8, longestMs: 60 };

/** Bytes of graphs: from memory, from the spool, or from the server if it has newer bytes. */
class Graphs {
  constructor(spool, server, show) {
    const onAway = (error) => show({ offline: error.message });
    Object.assign(this, { spool, server, onAway, memory: new Map(), bytes: 0 });
  }

  /** Put a graph into the spool; a begun run goes on with the graph that is there. */
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

/** Measure the missing tasks of a run; returns why graphs were refused. */
export async function measureRun(tools, { entry, preset, onSweep }) {
  const { loaded, spool, server, gate, show } = tools;
  const { run, plan } = entry;
  const done = new Set((await spool.measurementsOf(run.id)).map((measurement) => measurement.id));
  const missing = plan.tasks.filter((task) => !done.has(measurementId(run.id, task)));
  if (!missing.length) return [];
  const begun = await spool.roundsOf(run.id);
  const graphs = new Graphs(spool, server, show);
  const cache = new SessionCache(loaded, (spec) => graphs.read(spec));
  const specs = [...new Set([plan.canary, ...missing.flatMap(graphsOf)])];
  for (const [i, spec] of specs.entries()) {
    await graphs.fetch(spec, begun.size > 0);
    if (i % 10 === 0) show({ phase: "fetching", offline: null, progress: { share: i / specs.length } });
  }
  const opened = new Map(specs.map((spec) => [spec, cache.graph(spec)]));
  const refused = await warmUpAll(opened, show, gate);
  if (refused.has(plan.canary)) throw new Error(`the canary cannot be measured: ${refused.get(plan.canary)}`);
  const subjects = missing.filter((task) => !graphsOf(task).some((spec) => refused.has(spec))).map((task) => {
    const kept = begun.get(measurementId(run.id, task)) ?? [];
    const disturbed = kept.filter((round) => round.disturbed).length;
    const minus = task.minus === null ? null : opened.get(task.minus);
    return newSubject(task, opened.get(task.graph), minus, kept.map(({ round }) => round), disturbed);
  });
  const rule = new StoppingRule(preset, plan.tasks.filter((task) => task.role !== "isolated").length);
  const progress = new Progress(subjects, preset, rule, plan.tasks.length - missing.length, show);
  await runCampaign(tools, cache, opened.get(plan.canary), {
    subjects, rule, journal: spool.journal(run.id), random: seeded(run.id),
    judge: (subject) => judge(subject, preset, loaded.emulator),
    onSweep: async () => { await onSweep(); rule.pause(); }, onRound: () => progress.tick(),
  });
  return [...refused.values()];
}

/**
 * Measure networks side by side for a verification, as the table's networks: loaded anew in each round, but on a GPU.
 *
 * Of the first task, beside the others. A slow network is measured alone.
 */
export async function measureNetworks(tools, { tasks, canary, seed, preset }) {
  const { loaded, spool, server, gate, show } = tools;
  const graphs = new Graphs(spool, server, show);
  for (const spec of [canary, ...tasks.map((task) => task.graph)]) await graphs.fetch(spec, false);
  show({ phase: "verifying", progress: null });
  const mostBytes = loaded.runtime.provider === "webgpu" ? KEPT_BYTES : 0;
  const cache = new SessionCache(loaded, (spec) => graphs.read(spec), mostBytes);
  const reference = cache.graph(canary);
  const strict = {
    ...preset,
    minRounds: Math.max(FEWEST_VERIFICATION_ROUNDS, preset.minRounds),
    maxRounds: Math.max(FEWEST_VERIFICATION_ROUNDS, preset.maxRounds),
  };
  const [first, ...others] = tasks.map((task) => newSubject(task, cache.graph(task.graph), null));
  for (const each of [reference, first.graph]) await warmUpOnce(each);
  const subjects = (await loadedRunMs(first.graph)) > LONGEST_BESIDE_OTHERS_MS ? [first] : [first, ...others];
  for (const { graph } of subjects.slice(1)) await warmUpOnce(graph, BRIEFLY);
  const pausing = async (rule) => {
    await new Promise((resolve) => setTimeout(resolve, VERIFICATION_PAUSE_MS));
    return gate(rule);
  };
  await runCampaign({ ...tools, gate: pausing }, cache, reference, {
    subjects, rule: new StoppingRule(strict, VERIFICATION_TASKS), random: seeded(seed),
    judge: () => null, journal: { keepRound: async () => {}, keepMeasurement: async () => {} },
  });
  return subjects.map((each) => ({ rounds: each.rounds, verdict: judge(each, strict, loaded.emulator) }));
}

/** A run's time, with the loading that each round repeats. */
async function loadedRunMs(graph) {
  const start = performance.now();
  await graph.acquire();
  await graph.run();
  const spent = performance.now() - start;
  await graph.release();
  return spent;
}

function newSubject(task, graph, minus, rounds = [], disturbed = 0) {
  return { task, graph, minus, rounds, disturbed, redos: 0, done: false };
}

/**
 * Run a campaign beside a canary whose usual time the spool remembers.
 *
 * `tools`: {loaded, spool, server, gate, clockStepMs, show}
 */
async function runCampaign({ loaded, spool, gate, clockStepMs }, cache, canary, campaign) {
  const key = `usual canary ${runtimeText(loaded.runtime)} ${canary.spec}`;
  const watch = new CanaryWatch(await spool.find(key));
  try {
    await new Campaign({ ...campaign, watch, gate, timer: new RoundTimer(canary, clockStepMs) }).run();
  } finally {
    await cache.closeAll();
  }
  if (watch.usualMs() !== null) await spool.keep(key, watch.usualMs());
}

/** Run each graph; the first, the canary, until it is compiled well. Returns errors by graph. */
async function warmUpAll(graphs, show, gate) {
  const refused = new Map();
  for (const [i, [spec, graph]] of [...graphs].entries()) {
    await gate(null);
    if (i % 5 === 0) show({ phase: "warming", progress: { share: i / graphs.size } });
    try {
      await warmUpOnce(graph, i === 0 ? {} : BRIEFLY);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      refused.set(spec, error.message);
    }
  }
  return refused;
}

async function warmUpOnce(graph, limits) {
  await graph.acquire();
  await warmUp(graph, limits);
  await graph.release();
}

/** Shows how far a campaign is, and the time left, estimated from the rounds so far. */
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
    const left = this.subjects.reduce((sum, subject) => sum + this.expected(subject), 0);
    const rounds = this.subjects.reduce((sum, subject) => sum + subject.rounds.length, 0);
    const roundS = (this.rule.spentS - this.start) / this.rounds;
    const isShort = this.subjects.some((subject) => subject.rounds.length < this.preset.minRounds && !subject.done);
    const budgetS = isShort ? Infinity : Math.max(this.rule.budgetS - this.rule.spentS, roundS);
    const done = this.before + this.subjects.filter((subject) => subject.done).length;
    const tasks = this.before + this.subjects.length;
    const [share, leftS] = [rounds / Math.max(rounds + left, 1), Math.min(left * roundS, budgetS)];
    this.show({ phase: "measuring", progress: { share, leftS, done, tasks, rounds } });
  }

  /** The likely number of rounds that a subject still needs. */
  expected({ task, rounds, done }) {
    if (done) return 0;
    if (task.role === "isolated") return Math.max(ISOLATED_ROUNDS - rounds.length, 0);
    const { minRounds, maxRounds } = this.preset;
    const likely = NETWORK_ROLES.includes(task.role) ? maxRounds : (minRounds + maxRounds) / 2;
    return Math.max(likely - rounds.length, 1);
  }
}
