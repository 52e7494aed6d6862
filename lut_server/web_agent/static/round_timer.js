// Times one round of one task: the canary, the graph, the subtracted graph, and the canary again.
//
// Neighbours meet the same machine. A browser's clock is coarse (5 us, or 100 us in a page that is
// not isolated): a value spans so many runs that a step of the clock is at most 1 % of it.

import { median, quantile } from "./statistics.js";

const STEPS_PER_VALUE = 100;
const SHORTEST_VALUE_MS = 0.1;
const [FEWEST_REPEATS, MOST_REPEATS, FEWEST_LONG_REPEATS] = [8, 20, 4];
const LONG_VALUE_MS = 5;
const [SLOW_REPEATS, SLOW_SHARE_MS] = [3, 400]; // a run of more than 50 ms is repeated less
const [FEWEST_WARM_UPS, MOST_WARM_UPS, WARM_UP_MS] = [2, 5, 3];
const GRAPH_SHARE_MS = 8;
const CANARY_SHARE_MS = 2; // on each side
const MOST_LOOPS = 20000;
const LONGEST_GAP_MS = 1000;

/** The step of the browser's clock in ms: the median of the steps seen in a busy loop. */
export function clockStepMs(clock = () => performance.now(), steps = 40, longestMs = 50) {
  const seen = [];
  const start = clock();
  let last = start;
  while (seen.length < steps && last - start < longestMs) {
    const now = clock();
    if (now > last) seen.push(now - last);
    last = now;
  }
  return median(seen.length ? seen : [longestMs]);
}

/** Times graphs: `run` executes a graph, `acquire` readies it for a round, `release` ends that. */
export class RoundTimer {
  constructor(canary, stepMs, clock = () => performance.now(), wall = () => Date.now()) {
    this.canary = canary;
    this.shortestMs = Math.max(SHORTEST_VALUE_MS, STEPS_PER_VALUE * stepMs);
    this.clock = clock;
    this.wall = wall;
  }

  /** {round, before, after} with the canary's ms; null if the clock jumped or stood still. */
  async time(graph, minus) {
    const graphs = [this.canary, graph, minus].filter(Boolean);
    try {
      for (const each of graphs) await each.acquire();
      return await this.timeOpen(graph, minus);
    } finally {
      for (const each of graphs) await each.release();
    }
  }

  async timeOpen(graph, minus) {
    const sizes = await this.sizes(graph, GRAPH_SHARE_MS);
    const canarySizes = await this.sizes(this.canary, CANARY_SHARE_MS);
    const minusSizes = minus && (await this.sizes(minus, GRAPH_SHARE_MS));
    const timed = [];
    const [start, wallStart] = [this.clock(), this.wall()];
    const before = await this.repeat(this.canary, canarySizes, timed);
    const atS = Math.round(this.wall() / 10) / 100;
    const graphMs = await this.repeat(graph, sizes, timed);
    const minusMs = minus ? await this.repeat(minus, minusSizes, timed) : [];
    const after = await this.repeat(this.canary, canarySizes, timed);
    if (wentWrong(timed, this.clock() - start, this.wall() - wallStart)) return null;
    const round = { graph_ms: graphMs, canary_ms: [...before, ...after], minus_ms: minusMs, at_s: atS };
    return { round, before: quantile(before), after: quantile(after) };
  }

  /** How many values to take of a graph, and how many runs each value spans. */
  async sizes(graph, shareMs) {
    if (graph.estimateMs === undefined) graph.estimateMs = await this.estimate(graph);
    const loops = Math.min(Math.max(Math.ceil(this.shortestMs / graph.estimateMs), 1), MOST_LOOPS);
    const valueMs = loops * graph.estimateMs;
    const slow = Math.min(Math.max(Math.ceil(SLOW_SHARE_MS / valueMs), SLOW_REPEATS), FEWEST_REPEATS);
    const fewest = loops > 1 && valueMs >= LONG_VALUE_MS ? FEWEST_LONG_REPEATS : slow;
    return { loops, repeats: Math.min(Math.max(Math.ceil(shareMs / valueMs), fewest), MOST_REPEATS) };
  }

  /** A run's time in ms, from enough runs for the clock. */
  async estimate(graph) {
    await graph.run();
    for (let loops = 1; ; loops *= 4) {
      const values = [];
      for (let i = 0; i < 5; i += 1) values.push(await this.elapsed(graph, loops));
      const value = median(values);
      if (value >= this.shortestMs / 4 || loops >= MOST_LOOPS) return Math.max(value / loops, 1e-6);
    }
  }

  async repeat(graph, { repeats, loops }, timed) {
    const warmUps = Math.ceil(WARM_UP_MS / graph.estimateMs);
    await this.elapsed(graph, Math.min(Math.max(warmUps, FEWEST_WARM_UPS), MOST_WARM_UPS));
    const values = [];
    for (let i = 0; i < repeats; i += 1) {
      values.push(Number(((await this.elapsed(graph, loops)) / loops).toFixed(6)));
    }
    timed.push({ values, loops });
    return values;
  }

  async elapsed(graph, loops) {
    const start = this.clock();
    for (let i = 0; i < loops; i += 1) await graph.run();
    return this.clock() - start;
  }
}

/** Whether the clock was set or nothing ran for a while (profiler_agent/timing/round_timer.py). */
export function wentWrong(timed, elapsedMs, wallMs) {
  if (timed.some(({ values }) => values.some((value) => !(value > 0)))) return true;
  let [timedMs, usualMs] = [0, 0];
  for (const { values, loops } of timed) {
    timedMs += loops * values.reduce((sum, value) => sum + value, 0);
    usualMs += loops * values.length * median(values);
  }
  const stoodStill = elapsedMs - 3 * usualMs > LONGEST_GAP_MS;
  return elapsedMs < 0.99 * timedMs || stoodStill || Math.abs(wallMs - elapsedMs) > LONGEST_GAP_MS;
}
