// When a task has been measured enough: the rule and the presets of profiler_agent/timing/stopping.py.

import { precisionReached } from "./statistics.js";

export const NETWORK_ROLES = ["calibration", "held_out", "verification"];
const NETWORK_TIMES = 2;
const NETWORKS_SHARE = 0.5;
const ISOLATED_ROUNDS = 6;
const LONGEST_STEP_S = 60;

export const PRESETS = {
  quick: { name: "quick", precision: 0.02, minRounds: 6, maxRounds: 10, secondsPerTask: 1.0 },
  standard: { name: "standard", precision: 0.01, minRounds: 16, maxRounds: 30, secondsPerTask: 2.6 },
  thorough: { name: "thorough", precision: 0.005, minRounds: 24, maxRounds: 80, secondsPerTask: 10.0 },
};

export class StoppingRule {
  /** `clockS` counts seconds; a jump of it (the phone slept) counts as little or nothing. */
  constructor(preset, tasks, clockS = () => performance.now() / 1000) {
    this.preset = preset;
    this.budgetS = preset.secondsPerTask * tasks;
    this.spentS = 0;
    this.clockS = clockS;
    this.lastS = clockS();
  }

  /** To be called after every round. */
  tick() {
    const now = this.clockS();
    this.spentS += Math.min(Math.max(now - this.lastS, 0), LONGEST_STEP_S);
    this.lastS = now;
  }

  /** Time that nobody measured in does not count. */
  pause() {
    this.lastS = this.clockS();
  }

  /** Why a task is done; null as long as it is not. */
  findReason(rounds, divisor, role = "") {
    if (role === "isolated") return rounds.length >= ISOLATED_ROUNDS ? "isolated" : null;
    if (rounds.length < this.preset.minRounds) return null;
    if (precisionReached(rounds, divisor) <= this.preset.precision) return "precise";
    const times = NETWORK_ROLES.includes(role) ? NETWORK_TIMES : 1;
    if (rounds.length >= this.preset.maxRounds * times) return "rounds";
    return this.spentS > this.budgetS ? "time" : null;
  }

  /** Whether whole networks, each with its rounds, are done together. */
  haveEnough(networks) {
    if (networks.some((rounds) => rounds.length < this.preset.minRounds)) return false;
    const done = networks.filter((rounds) => this.findReason(rounds, 1, NETWORK_ROLES[0]) !== null).length;
    return done >= NETWORKS_SHARE * networks.length;
  }
}
