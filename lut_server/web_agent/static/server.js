// The server's routes that an agent needs, at the page's own origin.

import { sha256Hex } from "./hashing.js";

const TIMEOUT_MS = 30_000;
const STATUS_TIMEOUT_MS = 4000; // a dead network must not hold up measuring
const FINISH_TIMEOUT_MS = 300_000;
const COMPRESS_ABOVE = 10_000;
const PAUSES_S = [0.5, 1, 2, 4, 8, 16, 30]; // as in shared/http/retry.py
const LONGEST_PAUSE_S = 60;
const HOME = new URL("../../", import.meta.url); // a reverse proxy may show the server below a path

/** No answer, or an answer that may change when the page asks again. */
export class ServerAway extends Error {
  constructor(message, afterS = 0) {
    super(message);
    this.afterS = Math.min(afterS, LONGEST_PAUSE_S);
  }
}

/** The server refuses; `status` and `code` say why. */
export class ServerRefused extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

// Ids and device names need no escaping: they are hexadecimal, or letters, digits and ._-
export class Server {
  constructor(token = null) {
    this.token = token;
  }

  pair(device, code) { return this.post("/v1/pair", { device, code }); }
  register(name, probe) { return this.post("/v1/devices", { name, probe }); }
  table(hash) { return this.json("GET", `/v1/tables/${hash}`); }
  putRun(run) { return this.json("PUT", `/v1/runs/${run.id}`, run); }
  postMeasurements(runId, measurements) { return this.post(`/v1/runs/${runId}/measurements`, { measurements }); }
  heartbeat(jobId, owner, leaseS) { return this.post(`/v1/jobs/${jobId}/heartbeat`, { owner, lease_s: leaseS }); }
  async job(jobId) { return (await this.json("GET", `/v1/jobs/${jobId}`)).job; }

  async lease(device, owner, leaseS) {
    return (await this.post("/v1/jobs/lease", { device, owner, lease_s: leaseS })).job;
  }

  async postResult(jobId, owner, result) {
    return (await this.post(`/v1/jobs/${jobId}/result`, { owner, result })).job;
  }

  async finishRun(runId, plan) {
    return (await this.post(`/v1/runs/${runId}/finish`, { plan }, FINISH_TIMEOUT_MS)).table;
  }

  putStatus(device, status) {
    return this.json("PUT", `/v1/devices/${device}/status`, status, STATUS_TIMEOUT_MS);
  }

  async plan(space, calibration, heldOut) {
    const query = new URLSearchParams({ space, calibration, held_out: heldOut, seed: 0, isolated: 1 });
    return (await this.json("GET", `/v1/plan?${query}`)).plan;
  }

  /** {sha256, bytes} of a graph; null if it is still the known graph. */
  async graph(spec, known = null) {
    const headers = known ? { "If-None-Match": `"${known}"` } : {};
    const answer = await this.ask("GET", `/v1/graph?${new URLSearchParams({ spec, batch: 1 })}`, { headers });
    if (answer.status === 304) return null;
    const bytes = new Uint8Array(await whole(answer.arrayBuffer()));
    const sha256 = (answer.headers.get("ETag") ?? "").replace(/^W\/|"/g, "");
    if (sha256Hex(bytes) !== sha256) throw new ServerAway(`the bytes of ${spec} do not match their ETag`);
    return { sha256, bytes };
  }

  post(path, body, timeoutMs) {
    return this.json("POST", path, body, timeoutMs);
  }

  async json(method, path, body = null, timeoutMs = TIMEOUT_MS) {
    const options = { headers: {}, timeoutMs };
    if (body !== null) {
      options.headers["Content-Type"] = "application/json";
      options.body = JSON.stringify(body);
      if (options.body.length > COMPRESS_ABOVE && typeof CompressionStream === "function") {
        options.headers["Content-Encoding"] = "gzip";
        options.body = await gzip(options.body);
      }
    }
    return whole((await this.ask(method, path, options)).json());
  }

  async ask(method, path, { headers = {}, body, timeoutMs = TIMEOUT_MS } = {}) {
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    let answer;
    try {
      const signal = AbortSignal.timeout(timeoutMs);
      answer = await fetch(new URL(path.slice(1), HOME), { method, body, headers, signal, cache: "no-store", credentials: "omit" });
    } catch (error) {
      throw new ServerAway(`no answer from ${self.location.origin} (${error.message})`);
    }
    if (answer.ok || answer.status === 304) return answer;
    const problem = await answer.json().then((content) => content?.error, () => null);
    const message = problem?.message ?? `the server answers ${answer.status}`;
    const passing = answer.status >= 500 || answer.status === 429 || answer.status === 408;
    const afterS = Number(answer.headers.get("Retry-After")) || 0;
    throw passing ? new ServerAway(message, afterS) : new ServerRefused(answer.status, problem?.code ?? "", message);
  }
}

async function whole(reading) {
  try {
    return await reading;
  } catch (error) {
    throw new ServerAway(`the answer was cut off (${error.message})`);
  }
}

function gzip(text) {
  return new Response(new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"))).blob();
}

/** Repeat an action while the server is away; `onAway(error)` may throw to give up. */
export async function retry(action, { attempts = Infinity, onAway = () => {} } = {}) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof ServerAway) || attempt + 1 >= attempts) throw error;
      await onAway(error);
      const pauseS = Math.max(PAUSES_S[Math.min(attempt, PAUSES_S.length - 1)], error.afterS);
      await new Promise((resolve) => setTimeout(resolve, 1000 * pauseS));
    }
  }
}
