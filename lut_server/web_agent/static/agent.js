// The agent of a browser: finishes begun runs, then does what the user or the server asks for.

import { measureNetworks, measureRun } from "./measuring.js";
import { measurementId, newId, planId, runtimeText } from "./names.js";
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
const LONGEST_REASON = 4000; // as in shared/errors.py
const OVER = ["done", "failed", "dead", "cancelled"];

/** The job ended on the server. */
class JobOver extends Error {}

export class Agent {
  constructor(settings, spool, post) {
    Object.assign(this, { settings, spool, post });
    this.server = new Server();
    this.isHidden = false;
    this.isPaused = false;
    this.interruptions = 0;
    this.listeners = [];
    this.runtimes = new Map();
    this.registered = false;
    this.ended = new Set();
    this.owner = `web-${newId().slice(0, 8)}`;
    this.onAway = (error) => this.show({ offline: error.message });
    this.state = { phase: "starting", isolated: self.crossOriginIsolated === true };
  }

  // --- messages of the page -------------------------------------------------------------------

  receive(message) {
    const { type } = message;
    if (type === "hidden" || type === "pause") this.interruptions += 1;
    if (type === "hidden" || type === "visible") this.isHidden = type === "hidden";
    else if (type === "pause" || type === "resume") this.isPaused = type === "pause";
    else this.asked = message;
    for (const listener of this.listeners.splice(0)) listener();
  }

  show(change) {
    Object.assign(this.state, change);
    this.post({ ...this.state, isHidden: this.isHidden, isPaused: this.isPaused });
  }

  /** Resolves with the next message, or after so many ms. */
  change(ms = null) {
    return new Promise((resolve) => {
      this.listeners.push(resolve);
      if (ms !== null) setTimeout(resolve, ms);
    });
  }

  /** Let waiting messages in. */
  letMessagesIn() {
    return new Promise((resolve) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => { port1.close(); resolve(); };
      port2.postMessage(null);
    });
  }

  /** Waits while the page is hidden or paused; the result tells whether the round counts. */
  gate(isOver = () => false) {
    return async (rule) => {
      await this.letMessagesIn();
      while ((this.isHidden || this.isPaused) && !isOver()) {
        this.show({});
        await this.change(1000);
        rule?.pause();
      }
      if (isOver()) throw new JobOver("the job is over");
      const before = this.interruptions;
      return async () => {
        await this.letMessagesIn();
        return before === this.interruptions;
      };
    };
  }

  // --- the loop -------------------------------------------------------------------------------

  async run() {
    this.identity = await this.spool.find("identity");
    this.server.token = this.identity?.token ?? null;
    const { device = null, expires_at: expiresAt } = this.identity ?? {};
    this.show({ problem: this.settings.problem, clockStepMs: clockStepMs(), device, expiresAt });
    await this.showLastTable();
    for (;;) {
      try {
        await this.step();
      } catch (error) {
        await this.explain(error);
      }
    }
  }

  async explain(error) {
    if (error instanceof ServerRefused && (error.status === 401 || error.status === 403)) {
      this.identity = null;
      this.show({ phase: "unpaired", problem: `${error.message}; the measurements are kept: pair again to go on` });
      return;
    }
    if (error.code === "unknown_device") this.registered = false;
    this.show({ [error instanceof ServerAway ? "offline" : "problem"]: error.message ?? String(error) });
    await this.change(POLL_MS);
  }

  async step() {
    const asked = this.asked ?? {};
    this.asked = null;
    if (asked.type === "pair") await this.pair(asked);
    if (asked.type === "forget") await this.forget();
    if (!this.identity) {
      this.show({ phase: "unpaired" });
      await this.change();
      return;
    }
    if (asked.type === "profile") await this.begin(asked.request);
    const begun = await this.findBegun();
    if (begun) await this.continueRun(begun);
    else await this.work();
  }

  /** A run that was begun and has still to be measured; null if there is none. A job that is over leaves its run. */
  async findBegun() {
    for (const entry of await this.spool.runs()) {
      const isOwn = entry.run.device === this.identity?.device; // another's waits until the page is paired with it
      if (isOwn && entry.finished === null && !(entry.job && await this.hasEnded(entry.job))) return entry;
    }
    return null;
  }

  /** A run that the server refuses for good does not hold up the rest. */
  async continueRun(begun) {
    try {
      const table = await this.completeRun(begun);
      if (table && begun.job) await this.spool.keepResult(begun.job, { run: begun.id });
    } catch (error) {
      const isForGood = error instanceof ServerRefused && ![401, 403].includes(error.status);
      if (!isForGood || ["unknown_device", "unknown_run"].includes(error.code)) throw error;
      await this.abandonRun(begun, error.message);
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

  probe() {
    return probe(this.state.clockStepMs, this.settings);
  }

  async register() {
    if (this.registered) return;
    await this.server.register(this.identity.device, await this.probe());
    this.registered = true;
  }

  /** onnxruntime-web loads once per page: other threads or another provider need a new page. */
  async runtime(provider, threads) {
    if (!this.settings.runtime) throw new Error(this.settings.problem);
    const key = `${provider} ${threads}`;
    if (!this.runtimes.has(key)) {
      const [loaded] = this.runtimes.keys();
      if (loaded) throw new Error(`the page runs ${loaded} threads; reload it for ${key}`);
      this.show({ phase: "loading" });
      this.runtimes.set(key, await loadRuntime(this.settings.runtime, { provider, threads }));
    }
    const loaded = this.runtimes.get(key);
    this.show({ runtime: runtimeText(loaded.runtime) });
    return loaded;
  }

  tools(loaded, isOver) {
    const { spool, server, state } = this;
    const show = (change) => this.show(change);
    return { loaded, spool, server, gate: this.gate(isOver), clockStepMs: state.clockStepMs, show };
  }

  // --- runs -----------------------------------------------------------------------------------

  /** A run in the spool: the same run that was begun, or a new run. */
  async begin(request, job = null) {
    const { onAway } = this;
    const { runtime } = await this.runtime(request.provider ?? "wasm", request.threads ?? 1);
    await retry(() => this.register(), { attempts: 4, onAway });
    const plan = await retry(() => this.server.plan(request.space, request.calibration, request.heldOut), { onAway });
    const run = {
      id: newId(), device: this.identity.device, runtime, space: plan.space, plan_id: planId(plan), canary: plan.canary,
      agent_version: this.settings.version, started_at: new Date().toISOString().replace(/\.\d+Z$/, "+00:00"),
      probe: await this.probe(),
    };
    const same = (await this.spool.runs()).find((entry) => entry.finished === null && isSameRun(entry.run, run));
    if (!same) return this.spool.addRun(run, plan, { preset: request.preset ?? "standard", job });
    return same.job ? this.spool.giveRun(same, job) : same;
  }

  /** Measure the rest of a run and finish it; returns its table, or null with a problem shown. */
  async completeRun(entry, isOver = undefined) {
    const { run } = entry;
    const { onAway } = this;
    this.show({ problem: null, table: null, space: run.space, run: run.id, doubts: [] });
    const loaded = await this.runtime(run.runtime.provider.split("/")[0], run.runtime.threads);
    if (run.agent_version !== this.settings.version || runtimeText(loaded.runtime) !== runtimeText(run.runtime)) {
      await this.abandonRun(entry, `it was begun by lutnas ${run.agent_version} on ${runtimeText(run.runtime)}`);
      return null;
    }
    const uploads = new Uploads(this, entry);
    const options = { entry, preset: PRESETS[entry.preset], onSweep: () => uploads.sendSome() };
    const refused = await measureRun(this.tools(loaded, isOver), options);
    this.show({ phase: "uploading", progress: null });
    await retry(() => uploads.sendAll(), { onAway });
    if (refused.length) {
      await this.abandonRun(entry, `${refused.length} graphs could not be measured, the first: ${refused[0]}`);
      return null;
    }
    this.show({ phase: "calibrating", offline: null });
    const table = await retry(() => this.server.finishRun(run.id, entry.plan), { onAway });
    await this.spool.finish(run.id, table);
    await this.spool.keep("table", { hash: table.hash, run: run.id });
    this.show({ phase: "idle", offline: null });
    await this.showLastTable();
    return table;
  }

  async abandonRun(entry, reason) {
    await this.spool.finish(entry.id, { problem: reason });
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
    const measured = (await this.spool.measurementsOf(last.run)).map((entry) => entry.measurement);
    this.show({ table: { ...table, hash: last.hash, covariance: null }, doubts: doubtsOf(measured) });
  }

  // --- jobs -----------------------------------------------------------------------------------

  async work() {
    this.show({ phase: "waiting", progress: null });
    await this.register();
    await this.uploadResults();
    const isAway = this.isHidden || this.isPaused;
    const job = isAway ? null : await this.server.lease(this.identity.device, this.owner, LEASE_S);
    if (this.state.offline) this.show({ offline: null });
    if (job) await this.doJob(job);
    else await this.change(POLL_MS);
  }

  async doJob({ id, job }) {
    this.ended.delete(id);
    let over = false;
    const isOver = () => over;
    const beat = setInterval(async () => { over = (await this.isOver(id)) || over; }, (1000 * LEASE_S) / 3);
    const showJob = (said) => this.show({ job: { id, kind: job.kind, said } });
    this.show({ problem: null });
    showJob("at work");
    let result;
    try {
      result = await (job.kind === "verify" ? this.measureModel(id, job, isOver) : this.profile(id, job, isOver));
    } catch (error) {
      if (error instanceof JobOver || error instanceof ServerAway) {
        showJob(`left: ${error.message}`);
        return;
      }
      if (error instanceof ServerRefused && error.status === 401) throw error;
      result = { error: String(error.message ?? error).slice(0, LONGEST_REASON) };
    } finally {
      clearInterval(beat);
    }
    await this.spool.keepResult(id, result);
    showJob(result.error ? `failed: ${result.error}` : "done");
    await this.uploadResults();
  }

  /** Extend the lease of a job; true if the job has ended. */
  async isOver(jobId) {
    try {
      await this.server.heartbeat(jobId, this.owner, LEASE_S);
      return false;
    } catch (error) {
      return error instanceof ServerRefused && this.hasEnded(jobId);
    }
  }

  async hasEnded(jobId) {
    if (this.ended.has(jobId)) return true;
    let isEnded;
    try {
      isEnded = OVER.includes((await this.server.job(jobId)).state);
    } catch (error) {
      isEnded = error instanceof ServerRefused && error.status === 404;
    }
    if (isEnded) this.ended.add(jobId);
    return isEnded;
  }

  /** A result that the server refuses for good stays in this browser, and its job fails. */
  async uploadResults() {
    for (const { job, result } of await this.spool.results()) {
      const refused = await this.uploadResult(job, result);
      if (refused && !result.error) {
        const failed = { error: `the server refuses the result: ${refused}`.slice(0, LONGEST_REASON) };
        await this.spool.setAside(job, result, failed);
        this.show({ problem: `job ${job}: ${failed.error}; it is kept in this browser` });
        await this.uploadResult(job, failed);
      }
      await this.spool.dropResult(job);
    }
  }

  /** Hand in a result; returns why the server refuses it for good, else null. */
  async uploadResult(job, result) {
    try {
      const done = await this.server.postResult(job, this.owner, result);
      const said = result.error ? `${done.state}: ${result.error}` : done.state;
      this.show({ job: { id: job, kind: done.job.kind, said, verification: done.verification } });
      return null;
    } catch (error) {
      if (!(error instanceof ServerRefused) || [401, 403].includes(error.status)) throw error;
      return [404, 409].includes(error.status) ? null : error.message;
    }
  }

  async measureModel(id, { graph, canary, promise, references, runtime: wanted }, isOver) {
    if (wanted.engine !== "onnxruntime-web") {
      throw new Error(`the table is of ${runtimeText(wanted)}; this page measures with onnxruntime-web only`);
    }
    const loaded = await this.runtime(wanted.provider.split("/")[0], wanted.threads);
    const tasks = [{ genotype: promise.genotype, graph }, ...references].map((network) => (
      { subject: network.genotype, role: "verification", graph: network.graph, minus: null, divisor: 1 }
    ));
    const options = { tasks, canary, seed: id, preset: PRESETS.standard };
    const found = await measureNetworks(this.tools(loaded, isOver), options);
    const [measurement, ...besides] = found.map((measured, i) => (
      { id: measurementId(id, tasks[i]), ...tasks[i], ...measured }
    ));
    return { measurement, references: besides, runtime: loaded.runtime };
  }

  async profile(id, { kind, space, runtime: wanted }, isOver) {
    if (kind !== "profile") {
      throw new Error(`a browser does not show which kernels it executes: there is nothing to ${kind}`);
    }
    if (wanted.precision !== "fp32" || wanted.batch !== 1) {
      throw new Error(`this page measures fp32 and single images, not ${wanted.precision}, batch ${wanted.batch}`);
    }
    const isWeb = wanted.engine === "onnxruntime-web";
    const [provider, threads] = isWeb ? [wanted.provider.split("/")[0], wanted.threads] : ["wasm", 1];
    const entry = await this.begin({ space, calibration: 40, heldOut: 40, provider, threads }, id);
    if (!(await this.completeRun(entry, isOver))) throw new Error(this.state.problem);
    return { run: entry.id };
  }
}

/** Uploads a run: all of it, or some now and then, without waiting for a server that is away. */
class Uploads {
  constructor(agent, entry) {
    Object.assign(this, { agent, entry, isKnown: false, notBefore: 0, nextStatus: 0 });
  }

  async sendSome() {
    if (Date.now() < this.notBefore) return;
    const unsent = await this.unsent();
    try {
      await this.sendStatus();
      if (unsent.length >= UPLOAD_FROM) await this.send();
      if (this.agent.state.offline) this.agent.show({ offline: null });
    } catch (error) {
      if (!(error instanceof ServerAway)) throw error;
      this.notBefore = Date.now() + ASK_AGAIN_MS;
      this.agent.show({ offline: `${error.message}: measuring goes on, ${unsent.length} measurements wait here` });
    }
  }

  /** The campaign's progress, for the server's pages. */
  async sendStatus() {
    const { progress } = this.agent.state;
    if (!progress?.tasks || Date.now() < this.nextStatus) return;
    const { id, space, device } = this.entry.run;
    const campaign = { runs: [id], spaces: [space], measured: progress.done, tasks: progress.tasks };
    await this.agent.server.putStatus(device, { campaign });
    this.nextStatus = Date.now() + STATUS_EVERY_MS;
  }

  /** All of a run at its end, when the server may be another than at its start. */
  async sendAll() {
    this.isKnown = false;
    await this.send();
  }

  async unsent() {
    return (await this.agent.spool.measurementsOf(this.entry.id)).filter((entry) => !entry.sent);
  }

  /** Make the run known. Where the server lost measurements, with its database, all are sent again. */
  async introduce() {
    const { server, spool } = this.agent;
    await this.agent.register();
    const { measurements: known } = await server.putRun(this.entry.run);
    const sent = (await spool.measurementsOf(this.entry.id)).filter((entry) => entry.sent);
    if (known < sent.length) await spool.mark(sent, { sent: false });
    this.isKnown = true;
  }

  async send() {
    const { server, spool } = this.agent;
    if (!this.isKnown) await this.introduce();
    const unsent = await this.unsent();
    for (let start = 0; start < unsent.length; start += BATCH) {
      const batch = unsent.slice(start, start + BATCH);
      await server.postMeasurements(this.entry.id, batch.map((entry) => entry.measurement));
      await spool.mark(batch, { sent: true });
    }
  }
}

function isSameRun(begun, run) {
  const isSame = (name) => begun[name] === run[name];
  const names = ["device", "space", "plan_id", "canary", "agent_version"];
  return names.every(isSame) && runtimeText(begun.runtime) === runtimeText(run.runtime);
}

/** Why measurements are not stable: how many share a reason, and an example of it. */
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
