// Statistics of rounds, the same numbers as shared/measurement.py and profiler_agent/stopping.py give; a test compares.
//
// A round is {graph_ms, canary_ms, minus_ms}, lists of milliseconds; minus_ms is empty where nothing is subtracted.

export const QUANTILE = 0.05; // of the repeats of a round
export const QUIET_ROUNDS = 0.25; // over rounds of a graph's own time

/** The value below which `share` of the values lie (linear interpolation). */
export function quantile(values, share = QUANTILE) {
  const ordered = Float64Array.from(values).sort();
  const position = share * (ordered.length - 1);
  const below = Math.floor(position);
  const above = Math.min(below + 1, ordered.length - 1);
  return ordered[below] + (position - below) * (ordered[above] - ordered[below]);
}

export function median(values) {
  return quantile(values, 0.5);
}

/** Time of the graph in canaries, nothing subtracted. */
export function graphRatio(round) {
  return quantile(round.graph_ms) / quantile(round.canary_ms);
}

/** Time of the subject in canaries. Noise can make the difference of two graphs negative. */
export function ratio(round, divisor) {
  const minus = round.minus_ms.length ? quantile(round.minus_ms) : 0;
  return (quantile(round.graph_ms) - minus) / divisor / quantile(round.canary_ms);
}

/** A quantile with its distribution-free 95 % interval from order statistics (Hahn and Meeker, 1991). */
export function estimateQuantile(values, share) {
  const ordered = Float64Array.from(values).sort();
  const n = ordered.length;
  let total = 0;
  let low = 0;
  let high = -1;
  for (let k = 0; k <= n; k += 1) {
    total += Math.exp(logChoose(n, k)) * share ** k * (1 - share) ** (n - k);
    if (total <= 0.025) low += 1;
    if (high < 0 && total >= 0.975) high = k;
  }
  return {
    ratio: quantile(ordered, share),
    low: ordered[Math.max(low - 1, 0)],
    high: ordered[Math.min(high < 0 ? n : high, n - 1)],
  };
}

function logChoose(n, k) {
  let sum = 0;
  for (let i = 1; i <= k; i += 1) sum += Math.log((n - k + i) / i);
  return sum;
}

/** Time of a subject in canaries: the lower quartile of its rounds, of a difference of two graphs the median. */
export function estimateRounds(rounds, divisor) {
  const share = rounds[0].minus_ms.length ? 0.5 : QUIET_ROUNDS;
  return estimateQuantile(rounds.map((one) => ratio(one, divisor)), share);
}

/** Half the interval of the task's value, as a share of the whole graph's time. */
export function precisionReached(rounds, divisor) {
  const { low, high } = estimateRounds(rounds, divisor);
  return ((high - low) / 2) * divisor / median(rounds.map(graphRatio));
}

/** How much slower or faster the canary was in the last third of the rounds than in the first, as a factor >= 1. */
export function canaryDrift(rounds) {
  const times = rounds.map((one) => quantile(one.canary_ms));
  const third = Math.max(Math.floor(times.length / 3), 1);
  const first = median(times.slice(0, third));
  const last = median(times.slice(-third));
  return Math.max(first, last) / Math.min(first, last);
}
