// Measures all tasks in rounds, each in a new random order, as profiler_agent/timing/campaign.py.
//
// A round is measured again if the canary was off, the clock jumped or the page was hidden.

import { quantile } from "./statistics.js";
import { NETWORK_ROLES } from "./stopping.js";

const COOL_DOWN_MS = 500;
const MOST_REDOS_PER_TASK = 15;
const MOST_TIMELESS_ROUNDS = 50;
const SLOW_CANARY = 1.1;
const UNEVEN_CANARY = 1.1;
const CANARY_WINDOW = 101;
const CANARY_QUANTILE = 0.2;

/** Tells whether the canary was slow or uneven in a round, by the rounds before. */
export class CanaryWatch {
  constructor(usualMs = null) {
    this.recent = usualMs === null ? [] : Array(CANARY_WINDOW).fill(usualMs);
  }

  isOff({ round, before, after }) {
    const now = quantile(round.canary_ms);
    this.recent = [...this.recent, now].slice(-CANARY_WINDOW);
    return Math.max(before, after) > UNEVEN_CANARY * Math.min(before, after) || now > SLOW_CANARY * this.usualMs();
  }

  usualMs() {
    return this.recent.length ? quantile(this.recent, CANARY_QUANTILE) : null;
  }
}

/** Random numbers in [0, 1) from a text (mulberry32). */
export function seeded(text) {
  let state = 0;
  for (const letter of text) state = (Math.imul(state, 31) + letter.codePointAt(0)) | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

function shuffled(values, random) {
  const order = [...values];
  for (let i = order.length - 1; i > 0; i -= 1) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/**
 * A campaign over subjects {task, graph, minus, rounds, disturbed, redos, done}.
 *
 * `journal.keepRound` and `journal.keepMeasurement` resolve when the value is kept. `gate` runs
 * before each round: it resolves to a function that tells whether the round counts, or rejects.
 */
export class Campaign {
  constructor({ subjects, timer, rule, judge, journal, random, watch, gate, onRound, onSweep, sleep }) {
    Object.assign(this, { subjects, timer, rule, judge, journal, random, watch, gate, onRound, onSweep, timeless: 0 });
    this.sleep = sleep ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms)));
  }

  async run() {
    for (;;) {
      const active = await this.active();
      await this.onSweep?.();
      if (!active.length) return;
      const again = await this.sweep(active);
      if (again.length) {
        await this.sleep((COOL_DOWN_MS * again.length) / active.length);
        await this.sweep(again);
      }
    }
  }

  async active() {
    const active = this.subjects.filter((subject) => !subject.done);
    const networks = active.filter((subject) => NETWORK_ROLES.includes(subject.task.role));
    const enough = this.rule.haveEnough(networks.map((network) => network.rounds));
    for (const subject of active) {
      const { task, rounds } = subject;
      const isNetwork = NETWORK_ROLES.includes(task.role);
      if (isNetwork ? enough : this.rule.findReason(rounds, task.divisor, task.role) !== null) {
        await this.journal.keepMeasurement(task, rounds, this.judge(subject));
        subject.done = true;
      }
    }
    return active.filter((subject) => !subject.done);
  }

  /** A round of each subject; returns the subjects to measure again. */
  async sweep(subjects) {
    const again = [];
    for (const subject of shuffled(subjects, this.random)) {
      const counts = await this.gate(this.rule);
      const timed = await this.timer.time(subject.graph, subject.minus);
      if (!(await counts())) { // hidden meanwhile: no redo of the subject
        again.push(subject);
        this.rule.pause();
        continue;
      }
      this.requireAClock(timed);
      const off = timed !== null && this.watch.isOff(timed);
      if (timed === null || (off && subject.redos < MOST_REDOS_PER_TASK)) {
        subject.redos += 1;
        again.push(subject);
      } else {
        subject.rounds.push(timed.round);
        subject.disturbed += off;
        await this.journal.keepRound(subject.task, timed.round, off);
      }
      this.rule.tick();
      this.onRound?.();
    }
    return again;
  }

  requireAClock(timed) {
    this.timeless = timed === null ? this.timeless + 1 : 0;
    if (this.timeless > MOST_TIMELESS_ROUNDS) {
      throw new Error(`the clock jumped, or the device stood still, in each of ${this.timeless} rounds;`
        + " the measurements are kept: reload the page to go on");
    }
  }
}
