// Whether to believe a measurement, and if not, why and what to do about it (profiler_agent/timing/stability.py).

import { canaryDrift, precisionReached } from "./statistics.js";

const LARGEST_DRIFT = 1.1;

const percent = (share) => `${(100 * share).toFixed(1)}%`;

/** The verdict on a subject that is done. A browser shows neither temperature nor throttling: the canary has to tell. */
export function judge({ task, rounds, disturbed }, preset) {
  const reasons = [];
  const precision = precisionReached(rounds, task.divisor);
  if (precision > preset.precision && task.role !== "isolated") {
    reasons.push(`precise to ${percent(precision)} after ${rounds.length} rounds, ${percent(preset.precision)} wanted:`
      + " close other apps and tabs, or take the preset thorough");
  }
  const drift = canaryDrift(rounds);
  if (drift > LARGEST_DRIFT) {
    reasons.push(`the canary drifted by ${drift.toFixed(2)} over the run: let the device cool down, then measure again`);
  }
  if (disturbed) reasons.push(`the canary was off in ${disturbed} of ${rounds.length} rounds: other load?`);
  return { stable: !reasons.length, reasons };
}
