// The server's routes that an agent needs, from the origin that the page came from.

import { sha256Hex } from "./hashing.js";

const TIMEOUT_MS = 30_000;
const SHORT_TIMEOUT_MS = 4000; // of what is said in passing: a dead network must not hold up measuring
const FINISH_TIMEOUT_MS = 300_000;
const COMPRESS_ABOVE = 10_000;
const PAUSES_S = [0.5, 1, 2, 4, 8, 15, 30];

/** No answer, or one that asking again can change. */
export class ServerAway extends Error {}

/** The server says no; `status` and `code` say why. */
export class ServerRefused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export class Server {
  constructor(token = null) {
    this.token = token;
  }

  async pair(device, code) {
    return this.json("POST", "/v1/pair", { device, code });
  }

  async register(name, probe) {
    return this.json("POST", "/v1/devices", { name, probe });
  }

  async plan(space, calibration, heldOut) {
    const query = new URLSearchParams({ space, calibration, held_out: heldOut, seed: 0, isolated: 1 });
    return (await this.json("GET", `/v1/plan?${query}`)).plan;
  }

  /** {sha256, bytes} of a graph; null if it still is the known one. */
  async graph(spec, known = null) {
    const headers = known ? { "If-None-Match": `"${known}"` } : {};
    const answer = await this.ask("GET", `/v1/graph?${new URLSearchParams({ spec, batch: 1 })}`, { headers });
    if (answer.status === 304) return null;
    const bytes = new Uint8Array(await whole(answer.arrayBuffer()));
    const sha256 = (answer.headers.get("ETag") ?? "").replace(/^W\/|"/g, "");
    if (sha256Hex(bytes) !== sha256) throw new ServerAway(`${spec} came with bytes that are not those of its ETag`);
    return { sha256, bytes };
  }

  async putRun(run) {
    return this.json("PUT", `/v1/runs/${encodeURIComponent(run.id)}`, run);
  }

  async postMeasurements(runId, measurements) {
    return this.json("POST", `/v1/runs/${encodeURIComponent(runId)}/measurements`, { measurements });
  }

  async finishRun(runId, plan) {
    const path = `/v1/runs/${encodeURIComponent(runId)}/finish`;
    return (await this.json("POST", path, { plan }, FINISH_TIMEOUT_MS)).table;
  }

  async table(hash) {
    return this.json("GET", `/v1/tables/${encodeURIComponent(hash)}`);
  }

  async putStatus(device, status) {
    return this.json("PUT", `/v1/devices/${encodeURIComponent(device)}/status`, status, SHORT_TIMEOUT_MS);
  }

  async lease(device, owner, leaseS) {
    return (await this.json("POST", "/v1/jobs/lease", { device, owner, lease_s: leaseS })).job;
  }

  async heartbeat(jobId, owner, leaseS) {
    return this.json("POST", `/v1/jobs/${encodeURIComponent(jobId)}/heartbeat`, { owner, lease_s: leaseS });
  }

  async job(jobId) {
    return (await this.json("GET", `/v1/jobs/${encodeURIComponent(jobId)}`)).job;
  }

  async postResult(jobId, owner, result) {
    return (await this.json("POST", `/v1/jobs/${encodeURIComponent(jobId)}/result`, { owner, result })).job;
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
    let answer;
    try {
      answer = await fetch(path, {
        method,
        body,
        headers: this.token ? { ...headers, Authorization: `Bearer ${this.token}` } : headers,
        signal: AbortSignal.timeout(timeoutMs),
        cache: "no-store",
        credentials: "omit",
      });
    } catch (error) {
      throw new ServerAway(`no answer from ${self.location.origin} (${error.message})`);
    }
    if (answer.ok || answer.status === 304) return answer;
    let problem;
    try {
      problem = (await answer.json()).error;
    } catch {
      problem = null;
    }
    const message = problem?.message ?? `the server answers ${answer.status}`;
    const passing = answer.status >= 500 || answer.status === 429 || answer.status === 408;
    throw passing ? new ServerAway(message) : new ServerRefused(answer.status, problem?.code ?? "", message);
  }
}

async function whole(reading) {
  try {
    return await reading;
  } catch (error) {
    throw new ServerAway(`the answer was cut off (${error.message})`);
  }
}

async function gzip(text) {
  const stream = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Response(stream).blob();
}

/** Do it, again for as long as the server is away; `onAway(error, pauseS)` may throw to give up. */
export async function retry(action, { attempts = Infinity, onAway = () => {}, sleep = wait } = {}) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof ServerAway) || attempt + 1 >= attempts) throw error;
      const pause = PAUSES_S[Math.min(attempt, PAUSES_S.length - 1)];
      await onAway(error, pause);
      await sleep(1000 * pause);
    }
  }
}

function wait(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
