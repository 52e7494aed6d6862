// Graphs in onnxruntime-web, a bounded number of them open: a phone cannot hold a session for every graph of a plan.

import { quantile } from "./statistics.js";

const SESSION_BYTES = 500_000;
const WEIGHTS_TIMES = 4;
const INPUT_SEED = 1;

/** Loads onnxruntime-web from this server; returns {ort, runtime}, or throws an Error for people. */
export async function loadRuntime({ base, version }, { provider, threads }) {
  const webgpu = provider === "webgpu";
  const ort = await import(`${base}/${webgpu ? "ort.webgpu.min.mjs" : "ort.wasm.min.mjs"}`);
  const isolated = self.crossOriginIsolated === true;
  if (threads > 1 && !isolated) {
    throw new Error(`${threads} threads need a page that is cross-origin isolated: HTTPS, or localhost; take one thread`);
  }
  ort.env.logLevel = "fatal";
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.proxy = false;
  ort.env.wasm.wasmPaths = `${new URL(base, self.location.href).href}/`;
  const loaded = ort.env.versions?.web ?? ort.env.versions?.common;
  if (loaded !== version) throw new Error(`the server sent onnxruntime-web ${loaded}, and says that it is ${version}`);
  const runtime = {
    engine: "onnxruntime-web", version, provider: webgpu ? "webgpu" : "wasm/simd",
    threads, precision: "fp32", optimisation: "all", batch: 1,
  };
  return { ort, runtime };
}

/** Numbers from a normal distribution, always the same: zeros or denormals would be timed, not the network. */
function ordinary(length) {
  const values = new Float32Array(length);
  let state = INPUT_SEED;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 1) / 4294967297;
  };
  for (let i = 0; i < length; i += 1) {
    values[i] = Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  }
  return values;
}

/** A session and what feeds it. */
async function open(ort, name, bytes, provider) {
  let session;
  try {
    session = await ort.InferenceSession.create(bytes, {
      executionProviders: [provider],
      graphOptimizationLevel: "all",
      logSeverityLevel: 4,
    });
    const feeds = {};
    for (const input of session.inputMetadata) {
      const shape = input.shape.map((side) => (typeof side === "number" ? side : 1));
      if (input.type !== "float32") throw new Error(`its input ${input.name} is ${input.type}, not float32`);
      feeds[input.name] = new ort.Tensor("float32", ordinary(shape.reduce((a, b) => a * b, 1)), shape);
    }
    const run = () => session.run(feeds);
    await run();
    return { session, run };
  } catch (error) {
    await session?.release();
    throw new Refused(`${name}: onnxruntime-web refuses it: ${String(error?.message ?? error).slice(0, 200)}`);
  }
}

/** onnxruntime-web does not load or run a graph. */
export class Refused extends Error {}

/** Graphs that are open: those of the round that is timed, and as many others as `mostBytes` allows by a rough count. */
export class Residence {
  constructor(ort, runtime, readBytes, mostBytes = 48_000_000) {
    this.ort = ort;
    this.provider = runtime.provider.split("/")[0];
    this.readBytes = readBytes;
    this.mostBytes = mostBytes;
    this.opened = new Map(); // by the order of their last use
    this.openings = 0;
  }

  graph(spec) {
    return new Guest(this, spec);
  }

  async take(guest) {
    if (guest.session) {
      const cost = this.opened.get(guest);
      this.opened.delete(guest);
      this.opened.set(guest, cost);
    } else {
      const bytes = await this.readBytes(guest.spec);
      const cost = SESSION_BYTES + WEIGHTS_TIMES * bytes.byteLength;
      await this.makeRoom(cost);
      Object.assign(guest, await open(this.ort, guest.spec, bytes, this.provider));
      this.openings += 1;
      this.opened.set(guest, cost);
    }
    guest.inUse = true;
  }

  async makeRoom(cost) {
    let total = cost;
    for (const one of this.opened.values()) total += one;
    for (const [guest, size] of [...this.opened]) {
      if (total <= this.mostBytes) return;
      if (guest.inUse) continue;
      total -= size;
      await this.close(guest);
    }
  }

  async close(guest) {
    this.opened.delete(guest);
    await guest.session.release();
    guest.session = null;
    guest.run = null;
  }

  async closeAll() {
    for (const guest of [...this.opened.keys()]) await this.close(guest);
  }
}

class Guest {
  constructor(residence, spec) {
    this.residence = residence;
    this.spec = spec;
    this.session = null;
    this.inUse = false;
  }

  turn() {
    return this.residence.take(this);
  }

  rest() {
    this.inUse = false;
    return this.residence.makeRoom(0);
  }
}

/**
 * Run a graph until it is no faster any more: the browser compiles WebAssembly twice, quickly at first and well once a
 * function turns out to be used much.
 */
export async function warmUp(graph, { shortestMs = 300, longestMs = 4000, clock = () => performance.now() } = {}) {
  const start = clock();
  let before = Infinity;
  for (;;) {
    const values = [];
    const began = clock();
    while (clock() - began < shortestMs / 2) {
      const one = clock();
      for (let i = 0; i < 4; i += 1) await graph.run();
      values.push(clock() - one);
    }
    const now = quantile(values, 0.2);
    const spent = clock() - start;
    if ((spent >= shortestMs && now > 0.97 * before) || spent > longestMs) return;
    before = now;
  }
}
