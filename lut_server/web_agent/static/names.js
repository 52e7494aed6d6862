// Names that server and agents share: canonical JSON, ids, strings of runtimes and spaces.

import { sha256Hex } from "./hashing.js";

const encoder = new TextEncoder();

/** Canonical JSON, as in shared/wire.py: sorted keys, no spaces, ASCII. Whole numbers only. */
export function canonicalJson(value) {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const names = Object.keys(value).sort();
    return `{${names.map((name) => `${canonicalJson(name)}:${canonicalJson(value[name])}`).join(",")}}`;
  }
  const text = JSON.stringify(value);
  return text.replace(/[\u007f-\uffff]/g, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

export function planId(plan) {
  return sha256Hex(encoder.encode(canonicalJson(plan)));
}

/** A random id; `crypto.randomUUID` needs HTTPS. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The same task of the same run always has the same id. */
export function measurementId(runId, task) {
  return sha256Hex(encoder.encode(`${runId} ${task.role} ${task.graph}`));
}

/** References of a task's graphs. */
export function graphsOf(task) {
  return task.minus === null ? [task.graph] : [task.graph, task.minus];
}

export function runtimeText({ engine, version, provider, precision, threads, optimisation, batch }) {
  return `${engine}-${version}/${provider}/${precision}/threads=${threads}/opt=${optimisation}/batch=${batch}`;
}

/** NAME/rN/cN/nN/kN/iN, as in shared/spaces/. */
export function spaceText(name, sides) {
  const { resolution, channels, depth, classes, image_channels: images } = sides;
  return `${name}/r${resolution}/c${channels}/n${depth}/k${classes}/i${images}`;
}
