// Names that server and agents share: canonical JSON, ids, strings of runtimes and spaces.

import { hex, sha1, sha256Hex } from "./hashing.js";

const encoder = new TextEncoder();
const NAMESPACE_URL = Uint8Array.from("6ba7b8119dad11d180b400c04fd430c8".match(/../g), (pair) => parseInt(pair, 16));

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

/** The name-based UUID (version 5) of a text in the namespace of URLs. */
export function uuid5(text) {
  const name = encoder.encode(text);
  const joined = new Uint8Array(NAMESPACE_URL.length + name.length);
  joined.set(NAMESPACE_URL);
  joined.set(name, NAMESPACE_URL.length);
  return asUuid(sha1(joined).slice(0, 16), 5);
}

/** A random UUID; `crypto.randomUUID` needs HTTPS. */
export function uuid4() {
  return asUuid(crypto.getRandomValues(new Uint8Array(16)), 4);
}

function asUuid(bytes, version) {
  bytes[6] = (bytes[6] & 0x0f) | (version << 4);
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return hex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** The same task of the same run always has the same id. */
export function measurementId(runId, task) {
  return uuid5(`${runId} ${task.role} ${task.graph}`);
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
