// When a task is measured enough (profiler_agent/timing/stopping.py), and whether the result is
// stable (profiler_agent/timing/stability.py).

import { canaryDrift, precisionReached } from "./statistics.js";

export const NETWORK_ROLES = ["calibration", "held_out", "verification"];
export const ISOLATED_ROUNDS = 6;
const NETWORK_TIMES = 2;
const NETWORKS_SHARE = 0.5;
const LONGEST_STEP_S = 60;
const LARGEST_DRIFT = 1.1;

export const PRESETS = {
  quick: { name: "quick", precision: 0.02, minRounds: 6, maxRounds: 10, secondsPerTask: 1.0 },
  standard: { name: "standard", precision: 0.01, minRounds: 16, maxRounds: 30, secondsPerTask: 2.6 },
  thorough: { name: "thorough", precision: 0.005, minRounds: 24, maxRounds: 80, secondsPerTask: 10.0 },
};

export class StoppingRule {
  /** `clockS` counts seconds. A jump of the clock, as when a phone sleeps, counts little. */
  constructor(preset, tasks, clockS = () => performance.now() / 1000) {
    Object.assign(this, { preset, clockS, budgetS: preset.secondsPerTask * tasks, spentS: 0, lastS: clockS() });
  }

  /** Call after every round. */
  tick() {
    const now = this.clockS();
    this.spentS += Math.min(Math.max(now - this.lastS, 0), LONGEST_STEP_S);
    this.lastS = now;
  }

  /** Leave the time since the last round out. */
  pause() {
    this.lastS = this.clockS();
  }

  /** Why a task is done; null while it is not. */
  findReason(rounds, divisor, role = "") {
    if (role === "isolated") return rounds.length >= ISOLATED_ROUNDS ? "isolated" : null;
    if (rounds.length < this.preset.minRounds) return null;
    if (precisionReached(rounds, divisor) <= this.preset.precision) return "precise";
    const times = NETWORK_ROLES.includes(role) ? NETWORK_TIMES : 1;
    if (rounds.length >= this.preset.maxRounds * times) return "rounds";
    return this.spentS > this.budgetS ? "time" : null;
  }

  /** Whether all networks, each with its rounds, are done. */
  haveEnough(networks) {
    if (networks.some((rounds) => rounds.length < this.preset.minRounds)) return false;
    const done = networks.filter((rounds) => this.findReason(rounds, 1, NETWORK_ROLES[0]) !== null).length;
    return done >= NETWORKS_SHARE * networks.length;
  }
}

const percent = (share) => `${(100 * share).toFixed(1)}%`;

/** The verdict on a subject. A browser shows no throttling: the canary has to tell. */
export function judge({ task, rounds, disturbed }, preset, emulator = null) {
  const imitated = `emulated by ${emulator}: its timings mean nothing, measure on the device itself`;
  const reasons = emulator ? [imitated] : [];
  const precision = precisionReached(rounds, task.divisor);
  if (precision > preset.precision && task.role !== "isolated") {
    reasons.push(`precise to ${percent(precision)} after ${rounds.length} rounds, ${percent(preset.precision)} wanted:`
      + " close other apps and tabs, or take the preset thorough");
  }
  const drift = canaryDrift(rounds);
  if (drift > LARGEST_DRIFT) {
    reasons.push(`the canary drifted by ${drift.toFixed(2)} over the run: let the device cool down, measure again`);
  }
  if (disturbed) reasons.push(`the canary was off in ${disturbed} of ${rounds.length} rounds: other load?`);
  return { stable: !reasons.length, reasons };
}
