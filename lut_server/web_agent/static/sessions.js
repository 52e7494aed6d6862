// Sessions of onnxruntime-web. Few are open: a phone cannot hold a session for every graph.

import { quantile } from "./statistics.js";

const SESSION_BYTES = 500_000;
const WEIGHTS_TIMES = 4;
const INPUT_SEED = 1;

/** Load onnxruntime-web from this server; returns {ort, runtime, emulator}, or throws an Error for people. */
export async function loadRuntime({ base, version }, { provider, threads }) {
  const webgpu = provider === "webgpu";
  const ort = await import(`${base}/${webgpu ? "ort.webgpu.min.mjs" : "ort.wasm.min.mjs"}`);
  if (threads > 1 && !self.crossOriginIsolated) {
    throw new Error(`${threads} threads need a cross-origin isolated page (HTTPS or localhost); take one thread`);
  }
  ort.env.logLevel = "fatal";
  const wasmPaths = `${new URL(base, self.location.href).href}/`;
  Object.assign(ort.env.wasm, { numThreads: threads, proxy: false, wasmPaths });
  const loaded = ort.env.versions?.web ?? ort.env.versions?.common;
  if (loaded !== version) throw new Error(`the server sent onnxruntime-web ${loaded} instead of ${version}`);
  const runtime = {
    engine: "onnxruntime-web", version, provider: webgpu ? "webgpu" : "wasm/simd",
    threads, precision: "fp32", optimisation: "all", batch: 1,
  };
  const adapter = webgpu ? await navigator.gpu?.requestAdapter() : null;
  return { ort, runtime, emulator: adapter?.info?.architecture === "swiftshader" ? "SwiftShader" : null };
}

/** The same normally distributed numbers every time; zeros or denormals would take another time. */
function normalNumbers(length) {
  let state = INPUT_SEED;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 1) / 4294967297;
  };
  return Float32Array.from({ length }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

/** A session, and a function that runs it. */
async function open(ort, name, bytes, provider) {
  let session;
  try {
    const options = { executionProviders: [provider], graphOptimizationLevel: "all", logSeverityLevel: 4 };
    session = await ort.InferenceSession.create(bytes, options);
    const feeds = {};
    for (const input of session.inputMetadata) {
      const shape = input.shape.map((side) => (typeof side === "number" ? side : 1));
      if (input.type !== "float32") throw new Error(`its input ${input.name} is ${input.type}, not float32`);
      feeds[input.name] = new ort.Tensor("float32", normalNumbers(shape.reduce((a, b) => a * b, 1)), shape);
    }
    const run = () => session.run(feeds);
    await run();
    return { session, run };
  } catch (error) {
    await session?.release();
    throw new Refused(`${name}: onnxruntime-web refuses it: ${String(error?.message ?? error).replace(/\s+/g, " ")}`);
  }
}

/** onnxruntime-web does not load or run a graph. */
export class Refused extends Error {}

/** Open graphs: those of the round, and others within `mostBytes`, by a rough count. */
export class SessionCache {
  constructor({ ort, runtime }, readBytes, mostBytes = 48_000_000) {
    Object.assign(this, { ort, readBytes, mostBytes, provider: runtime.provider.split("/")[0] });
    this.opened = new Map(); // graph to its size, the graph used last at the end
  }

  graph(spec) {
    return new CachedGraph(this, spec);
  }

  async open(graph) {
    let size = this.opened.get(graph);
    this.opened.delete(graph);
    if (!graph.session) {
      const bytes = await this.readBytes(graph.spec);
      size = SESSION_BYTES + WEIGHTS_TIMES * bytes.byteLength;
      await this.makeRoom(size);
      Object.assign(graph, await open(this.ort, graph.spec, bytes, this.provider));
    }
    this.opened.set(graph, size);
  }

  async makeRoom(size) {
    let total = [...this.opened.values()].reduce((sum, each) => sum + each, size);
    for (const [graph, freed] of [...this.opened]) {
      if (total <= this.mostBytes) return;
      if (graph.inUse) continue;
      total -= freed;
      await this.close(graph);
    }
  }

  async close(graph) {
    this.opened.delete(graph);
    await graph.session.release();
    graph.session = null;
    graph.run = null;
  }

  async closeAll() {
    for (const graph of [...this.opened.keys()]) await this.close(graph);
  }
}

class CachedGraph {
  constructor(cache, spec) {
    Object.assign(this, { cache, spec, session: null, inUse: false });
  }

  async acquire() {
    await this.cache.open(this);
    this.inUse = true;
  }

  release() {
    this.inUse = false;
    return this.cache.makeRoom(0);
  }
}

/** Run a graph until it gets no faster: a browser compiles WebAssembly well only after much use. */
export async function warmUp(graph, { shortestMs = 300, longestMs = 4000, clock = () => performance.now() } = {}) {
  const start = clock();
  let before = Infinity;
  for (;;) {
    const values = [];
    const began = clock();
    while (clock() - began < shortestMs / 2) {
      const begin = clock();
      for (let i = 0; i < 4; i += 1) await graph.run();
      values.push(clock() - begin);
    }
    const now = quantile(values, 0.2);
    const spent = clock() - start;
    if ((spent >= shortestMs && now > 0.97 * before) || spent > longestMs) return;
    before = now;
  }
}
