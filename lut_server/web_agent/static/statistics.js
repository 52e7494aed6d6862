// Statistics of rounds. A test compares them with shared/measurements/measurement.py and
// profiler_agent/timing/stopping.py.
//
// A round is {graph_ms, canary_ms, minus_ms, at_s}: lists of ms, and seconds since 1970.
// minus_ms is empty if nothing is subtracted.

const QUANTILE = 0.05; // of the repeats of a round
const QUIET_ROUNDS = 0.5; // share of a graph's rounds, the fastest, whose mean is its time

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

/** Time of the graph in canaries. */
function graphRatio(round) {
  return quantile(round.graph_ms) / quantile(round.canary_ms);
}

/** Time of the subject in canaries; noise can make a difference of graphs negative. */
function ratio(round, divisor) {
  const minus = round.minus_ms.length ? quantile(round.minus_ms) : 0;
  return (quantile(round.graph_ms) - minus) / divisor / quantile(round.canary_ms);
}

/** Mean of the faster half of the rounds with a 95 % interval (Tukey and McLaughlin, 1963). */
function estimateQuietMean(values) {
  const ordered = Float64Array.from(values).sort();
  const n = ordered.length;
  const quiet = ordered.slice(0, Math.max(Math.ceil(QUIET_ROUNDS * n), 1));
  const middle = mean(quiet);
  if (quiet.length < 2) return { ratio: middle, low: ordered[0], high: ordered[n - 1] };
  const winsorised = ordered.map((value) => Math.min(value, quiet[quiet.length - 1]));
  const centre = mean(winsorised);
  const squares = winsorised.reduce((sum, value) => sum + (value - centre) ** 2, 0);
  const error = Math.sqrt(squares / (n - 1)) / ((quiet.length / n) * Math.sqrt(n));
  const half = student975(quiet.length - 1) * error;
  return { ratio: middle, low: middle - half, high: middle + half };
}

/** 97.5 % quantile of Student's t (Abramowitz and Stegun, 1964, 26.7.5). */
function student975(freedom) {
  const z = 1.959963984540054;
  const first = (z ** 3 + z) / 4;
  const second = (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96;
  const third = (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384;
  return z + first / freedom + second / freedom ** 2 + third / freedom ** 3;
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The median with its distribution-free 95 % interval (Hahn and Meeker, 1991). */
function estimateMedian(values) {
  const ordered = Float64Array.from(values).sort();
  const n = ordered.length;
  let [total, low, high] = [0, 0, -1];
  for (let k = 0; k <= n; k += 1) {
    total += Math.exp(logChoose(n, k)) / 2 ** n;
    if (total <= 0.025) low += 1;
    if (high < 0 && total >= 0.975) high = k;
  }
  const ends = { low: ordered[Math.max(low - 1, 0)], high: ordered[Math.min(high < 0 ? n : high, n - 1)] };
  return { ratio: median(ordered), ...ends };
}

function logChoose(n, k) {
  let sum = 0;
  for (let i = 1; i <= k; i += 1) sum += Math.log((n - k + i) / i);
  return sum;
}

/** Time of a subject in canaries: the mean of its faster rounds; of a difference, the median. */
export function estimateRounds(rounds, divisor) {
  const values = rounds.map((round) => ratio(round, divisor));
  return rounds[0].minus_ms.length ? estimateMedian(values) : estimateQuietMean(values);
}

/** Half the interval of the value, as a share of the graph's time. */
export function precisionReached(rounds, divisor) {
  const { low, high } = estimateRounds(rounds, divisor);
  return ((high - low) / 2) * divisor / median(rounds.map(graphRatio));
}

/** Factor (>= 1) between the canary's times in the first and the last third of the rounds. */
export function canaryDrift(rounds) {
  const times = rounds.map((round) => quantile(round.canary_ms));
  const third = Math.max(Math.floor(times.length / 3), 1);
  const first = median(times.slice(0, third));
  const last = median(times.slice(-third));
  return Math.max(first, last) / Math.min(first, last);
}
