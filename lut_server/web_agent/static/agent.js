// The agent of a browser: one identity, one thing at a time. Runs that were begun first, then what the server asks for.

import { measureNetwork, measureRun } from "./measuring.js";
import { measurementId, planId, runtimeText, uuid4 } from "./names.js";
import { probe } from "./probe.js";
import { clockStepMs } from "./round_timer.js";
import { retry, Server, ServerAway, ServerRefused } from "./server.js";
import { loadRuntime } from "./sessions.js";
import { PRESETS } from "./stopping.js";

const POLL_MS = 2000;
const LEASE_S = 60;
const BATCH = 50;
const UPLOAD_FROM = 20;
const ASK_AGAIN_MS = 10_000;
const STATUS_EVERY_MS = 15_000;
const OVER = ["done", "failed", "dead", "cancelled"];

/** Nobody waits for a job any more. */
class JobOver extends Error {}

export class Agent {
  constructor(settings, spool, say) {
    Object.assign(this, { settings, spool, say });
    this.server = new Server();
    this.isHidden = false;
    this.isPaused = false;
    this.interruptions = 0;
    this.listeners = [];
    this.runtimes = new Map();
    this.registered = false;
    this.owner = `web-${uuid4().slice(0, 8)}`;
    this.state = { phase: "starting", isolated: self.crossOriginIsolated === true, cores: navigator.hardwareConcurrency };
  }

  // --- the page's wishes --------------------------------------------------------------------------------------------------

  hear({ type, ...more }) {
    if (type === "hidden" || type === "pause") this.interruptions += 1;
    if (type === "hidden") this.isHidden = true;
    if (type === "visible") this.isHidden = false;
    if (type === "pause") this.isPaused = true;
    if (type === "resume") this.isPaused = false;
    if (type === "pair") this.wish = { pair: more };
    if (type === "profile") this.wish = { profile: more.request };
    if (type === "forget") this.wish = { forget: true };
    for (const listener of this.listeners.splice(0)) listener();
  }

  show(change) {
    Object.assign(this.state, change);
    this.say({ ...this.state, isHidden: this.isHidden, isPaused: this.isPaused });
  }

  /** Resolves when the page says something, or after so long. */
  change(ms = null) {
    return new Promise((resolve) => {
      this.listeners.push(resolve);
      if (ms !== null) setTimeout(resolve, ms);
    });
  }

  /** Let messages in that wait. */
  breathe() {
    return new Promise((resolve) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => { port1.close(); resolve(); };
      port2.postMessage(null);
    });
  }

  /** Before a round: wait while nobody looks; what is returned says afterwards whether the round counts. */
  gate(isOver = () => false) {
    return async (rule) => {
      await this.breathe();
      while ((this.isHidden || this.isPaused) && !isOver()) {
        this.show({});
        rule?.pause();
        await this.change(1000);
        rule?.pause();
      }
      if (isOver()) throw new JobOver("the job is over");
      const before = this.interruptions;
      return async () => {
        await this.breathe();
        return before === this.interruptions;
      };
    };
  }

  // --- the loop -----------------------------------------------------------------------------------------------------------

  async run() {
    this.identity = await this.spool.find("identity");
    this.server.token = this.identity?.token ?? null;
    this.show({ problem: this.settings.problem, clockStepMs: clockStepMs(), device: this.identity?.device ?? null, expiresAt: this.identity?.expires_at });
    await this.showLastTable();
    for (;;) {
      try {
        await this.step();
      } catch (error) {
        await this.fail(error);
      }
    }
  }

  async fail(error) {
    if (error instanceof ServerAway) {
      this.show({ offline: error.message });
      await this.change(POLL_MS);
    } else if (error instanceof ServerRefused && (error.status === 401 || error.status === 403)) {
      this.identity = null;
      this.show({ phase: "unpaired", problem: `${error.message}; what is measured is kept: pair again to go on` });
    } else {
      if (error.code === "unknown_device") this.registered = false;
      this.show({ problem: error.message ?? String(error) });
      await this.change(POLL_MS);
    }
  }

  async step() {
    const wish = this.wish;
    this.wish = null;
    if (wish?.pair) await this.pair(wish.pair);
    if (wish?.forget) await this.forget();
    if (!this.identity) {
      this.show({ phase: "unpaired" });
      await this.change();
      return;
    }
    if (wish?.profile) await this.begin(wish.profile);
    const begun = (await this.spool.runs()).find((one) => one.finished === null);
    if (begun) await this.goOn(begun);
    else await this.work();
  }

  /** A run that the server refuses for good does not hold up everything else. */
  async goOn(begun) {
    try {
      await this.carryOut(begun);
    } catch (error) {
      const forGood = error instanceof ServerRefused && ![401, 403].includes(error.status) && error.code !== "unknown_device";
      if (!forGood) throw error;
      await this.giveUp(begun, error.message);
    }
  }

  async pair({ device, code }) {
    this.show({ problem: null, phase: "pairing" });
    const isToken = code.startsWith("lut_");
    try {
      const answer = isToken ? { token: code, device, expires_at: null } : await this.server.pair(device, code);
      this.server.token = answer.token;
      await this.server.register(answer.device, await this.probe());
      this.identity = answer;
    } catch (error) {
      this.server.token = null;
      this.identity = null;
      if (!(error instanceof ServerRefused || error instanceof ServerAway)) throw error;
      this.show({ phase: "unpaired", problem: error.message });
      return;
    }
    this.registered = true;
    await this.spool.keep("identity", this.identity);
    this.show({ device: this.identity.device, expiresAt: this.identity.expires_at, phase: "idle", problem: null });
  }

  async forget() {
    await this.spool.keep("identity", null);
    this.identity = null;
    this.server.token = null;
    this.show({ device: null, phase: "unpaired", problem: null });
  }

  async probe() {
    return probe(this.state.clockStepMs, this.settings);
  }

  async register() {
    if (this.registered) return;
    await this.server.register(this.identity.device, await this.probe());
    this.registered = true;
  }

  /** onnxruntime-web can be set up once per page: other threads, or another provider, need the page loaded again. */
  async runtime(provider, threads) {
    if (!this.settings.runtime) throw new Error(this.settings.problem);
    const key = `${provider} ${threads}`;
    if (!this.runtimes.has(key)) {
      if (this.runtimes.size) throw new Error(`the page runs ${[...this.runtimes.keys()][0]} threads; reload it for ${key}`);
      this.show({ phase: "loading" });
      this.runtimes.set(key, await loadRuntime(this.settings.runtime, { provider, threads }));
    }
    const loaded = this.runtimes.get(key);
    this.show({ runtime: runtimeText(loaded.runtime) });
    return loaded;
  }

  // --- runs ---------------------------------------------------------------------------------------------------------------

  /** A run in the spool, new or the one that was begun. */
  async begin(request, job = null) {
    const { runtime } = await this.runtime(request.provider ?? "wasm", request.threads ?? 1);
    const onAway = (error) => this.show({ offline: error.message });
    await retry(() => this.register(), { attempts: 4, onAway });
    const plan = await retry(() => this.server.plan(request.space, request.calibration, request.heldOut), { onAway });
    const run = {
      id: uuid4(), device: this.identity.device, runtime, space: plan.space, plan_id: planId(plan), canary: plan.canary,
      agent_version: this.settings.version, started_at: new Date().toISOString().replace(/\.\d+Z$/, "+00:00"),
      probe: await this.probe(),
    };
    const same = (await this.spool.runs()).find((one) => one.finished === null && sameRun(one.run, run));
    if (same) return same;
    await this.spool.addRun(run, plan, { preset: request.preset ?? "standard", job });
    return (await this.spool.runs()).find((one) => one.id === run.id);
  }

  /** Measure what a run lacks and hand it in; returns its table, or throws. */
  async carryOut(entry, isOver = undefined) {
    const { run } = entry;
    this.show({ problem: null, table: null, space: run.space, run: run.id, doubts: [] });
    const loaded = await this.runtime(run.runtime.provider.split("/")[0], run.runtime.threads);
    if (run.agent_version !== this.settings.version || runtimeText(loaded.runtime) !== runtimeText(run.runtime)) {
      await this.giveUp(entry, `it was begun by lutnas ${run.agent_version} on ${runtimeText(run.runtime)}`);
      return null;
    }
    const uploads = new Uploads(this, entry);
    const refused = await measureRun({
      loaded, entry, spool: this.spool, server: this.server, preset: PRESETS[entry.preset],
      gate: this.gate(isOver), clockStepMs: this.state.clockStepMs,
      show: (change) => this.show(change), onSweep: () => uploads.inPassing(),
    });
    this.show({ phase: "uploading", progress: null });
    await retry(() => uploads.everything(), { onAway: (error) => this.show({ offline: error.message }) });
    if (refused.length) {
      await this.giveUp(entry, `${refused.length} graphs could not be measured, the first: ${refused[0]}`);
      return null;
    }
    this.show({ phase: "calibrating", offline: null });
    const onAway = (error) => this.show({ offline: error.message });
    const table = await retry(() => this.server.finishRun(run.id, entry.plan), { onAway });
    await this.spool.finish(run.id, table);
    await this.spool.keep("table", { hash: table.hash, run: run.id });
    this.show({ phase: "idle", offline: null });
    await this.showLastTable();
    return table;
  }

  async giveUp(entry, reason) {
    await this.spool.changeRun(entry.id, { finished: { problem: reason } });
    this.show({ phase: "idle", problem: `the run of ${entry.run.space} has no table: ${reason}` });
  }

  async showLastTable() {
    const last = await this.spool.find("table");
    if (!last || !this.identity) return;
    let table = await this.spool.find(`table ${last.hash}`);
    if (!table) {
      try {
        table = await this.server.table(last.hash);
      } catch (error) {
        if (error instanceof ServerAway || error instanceof ServerRefused) return;
        throw error;
      }
      await this.spool.keep(`table ${last.hash}`, table);
    }
    const measured = (await this.spool.measurementsOf(last.run)).map((one) => one.measurement);
    this.show({ table: { ...table, hash: last.hash, covariance: null }, doubts: doubtsOf(measured) });
  }

  // --- jobs ---------------------------------------------------------------------------------------------------------------

  async work() {
    this.show({ phase: "waiting", progress: null });
    await this.register();
    await this.uploadResults();
    const job = this.isHidden || this.isPaused ? null : await this.server.lease(this.identity.device, this.owner, LEASE_S);
    if (this.state.offline) this.show({ offline: null });
    if (job) await this.doJob(job);
    else await this.change(POLL_MS);
  }

  async doJob(job) {
    let over = false;
    const beat = setInterval(() => this.beat(job.id).then((is) => { over ||= is; }), (1000 * LEASE_S) / 3);
    const isOver = () => over;
    this.show({ job: { id: job.id, kind: job.job.kind, said: "at work" }, problem: null });
    let result;
    try {
      result = await (job.job.kind === "verify" ? this.measureModel(job, isOver) : this.profile(job, isOver));
    } catch (error) {
      if (error instanceof JobOver || error instanceof ServerAway) {
        this.show({ job: { id: job.id, kind: job.job.kind, said: `left: ${error.message}` } });
        return;
      }
      if (error instanceof ServerRefused && error.status === 401) throw error;
      result = { error: String(error.message ?? error).slice(0, 400) };
    } finally {
      clearInterval(beat);
    }
    await this.spool.keepResult(job.id, result);
    this.show({ job: { id: job.id, kind: job.job.kind, said: result.error ? `failed: ${result.error}` : "done" } });
    await this.uploadResults();
  }

  async beat(jobId) {
    try {
      await this.server.heartbeat(jobId, this.owner, LEASE_S);
      return false;
    } catch (error) {
      if (!(error instanceof ServerRefused)) return false;
      try {
        return OVER.includes((await this.server.job(jobId)).state);
      } catch (problem) {
        return problem instanceof ServerRefused && problem.status === 404;
      }
    }
  }

  async uploadResults() {
    for (const { job, result } of await this.spool.results()) {
      try {
        const done = await this.server.postResult(job, this.owner, result);
        this.show({ job: { id: job, kind: done.job.kind, said: done.state, verification: done.verification } });
      } catch (error) {
        if (!(error instanceof ServerRefused && (error.status === 404 || error.status === 409))) throw error;
      }
      await this.spool.dropResult(job);
    }
  }

  async measureModel(job, isOver) {
    const { graph, canary, promise, runtime: wanted } = job.job;
    if (wanted.engine !== "onnxruntime-web") {
      throw new Error(`the table is of ${runtimeText(wanted)}; this page measures with onnxruntime-web alone`);
    }
    const loaded = await this.runtime(wanted.provider.split("/")[0], wanted.threads);
    const task = { subject: promise.genotype, role: "verification", graph, minus: null, divisor: 1 };
    const { rounds, verdict } = await measureNetwork({
      loaded, task, canary, seed: job.id, spool: this.spool, server: this.server, preset: PRESETS.standard,
      gate: this.gate(isOver), clockStepMs: this.state.clockStepMs, show: (change) => this.show(change),
    });
    const measurement = { id: measurementId(job.id, task), ...task, rounds, verdict };
    return { measurement, runtime: loaded.runtime };
  }

  async profile(job, isOver) {
    if (job.job.kind !== "profile") {
      throw new Error(`a browser does not show which kernels it executes: there is nothing to ${job.job.kind}`);
    }
    const { space, runtime: wanted } = job.job;
    if (wanted.precision !== "fp32" || wanted.batch !== 1) {
      throw new Error(`this page measures fp32 and single images, not ${wanted.precision} in batches of ${wanted.batch}`);
    }
    const isOurs = wanted.engine === "onnxruntime-web";
    const entry = await this.begin({
      space, calibration: 40, heldOut: 40,
      provider: isOurs ? wanted.provider.split("/")[0] : "wasm", threads: isOurs ? wanted.threads : 1,
    }, job.id);
    const table = await this.carryOut(entry, isOver);
    if (!table) throw new Error(this.state.problem);
    return { run: entry.id };
  }
}

/** Hands in one run: everything, or what there is in passing, now and then, without waiting for a server that is away. */
class Uploads {
  constructor(agent, entry) {
    Object.assign(this, { agent, entry, isKnown: false, notBefore: 0, nextStatus: 0 });
  }

  async inPassing() {
    if (Date.now() < this.notBefore) return;
    const unsent = await this.unsent();
    try {
      await this.tellStatus();
      if (unsent.length >= UPLOAD_FROM) await this.send(unsent);
      if (this.agent.state.offline) this.agent.show({ offline: null });
    } catch (error) {
      if (!(error instanceof ServerAway)) throw error;
      this.notBefore = Date.now() + ASK_AGAIN_MS;
      this.agent.show({ offline: `${error.message}: measuring goes on, ${unsent.length} measurements wait here` });
    }
  }

  /** How far the campaign is, now and then, for whoever looks at the fleet. */
  async tellStatus() {
    const { progress } = this.agent.state;
    if (!progress?.tasks || Date.now() < this.nextStatus) return;
    const campaign = {
      runs: [this.entry.id], spaces: [this.entry.run.space], measured: progress.done, tasks: progress.tasks,
    };
    await this.agent.server.putStatus(this.entry.run.device, { campaign });
    this.nextStatus = Date.now() + STATUS_EVERY_MS;
  }

  async everything() {
    await this.send(await this.unsent());
  }

  async unsent() {
    return (await this.agent.spool.measurementsOf(this.entry.id)).filter((one) => !one.sent);
  }

  async send(unsent) {
    const { server, spool } = this.agent;
    if (!this.isKnown) {
      await this.agent.register();
      await server.putRun(this.entry.run);
      this.isKnown = true;
    }
    for (let start = 0; start < unsent.length; start += BATCH) {
      const batch = unsent.slice(start, start + BATCH);
      await server.postMeasurements(this.entry.id, batch.map((one) => one.measurement));
      await spool.acknowledge(batch);
    }
  }
}

function sameRun(one, other) {
  const key = (run) => [run.device, runtimeText(run.runtime), run.space, run.plan_id, run.canary, run.agent_version].join();
  return key(one) === key(other);
}

/** What is doubtful about a run for people: how many measurements share a reason, and one of the reasons. */
function doubtsOf(measurements) {
  const alike = new Map();
  for (const { verdict } of measurements) {
    if (verdict.stable) continue;
    const kind = verdict.reasons[0].split("(")[0].replace(/[\d.]+/g, "#");
    alike.set(kind, [...(alike.get(kind) ?? []), verdict.reasons[0]]);
  }
  return [...alike.values()].sort((a, b) => b.length - a.length)
    .map((reasons) => `${reasons.length} of ${measurements.length} measurements: ${reasons[0]}`);
}
