// Keeps what is measured in the browser's database, before anything else, until the server has it.
//
// runs          {id, run, plan, preset, job, finished, created}
// rounds        {measurement, run, disturbed, round}: a reloaded page goes on from here
// measurements  finished: {id, run, measurement, sent}
// graphs        {key, sha256, bytes}, by reference
// results       {job, result} that the server has not yet
// known         {key, value}: identity, tables, the usual canary, results that the server refuses

import { measurementId } from "./names.js";

const NAME = "lutnas-agent";
const SCHEMA = 11; // of shared/wire.py

function create(database) {
  database.createObjectStore("runs", { keyPath: "id" });
  database.createObjectStore("rounds", { autoIncrement: true }).createIndex("run", "run");
  database.createObjectStore("measurements", { keyPath: "id" }).createIndex("run", "run");
  database.createObjectStore("graphs", { keyPath: "key" });
  database.createObjectStore("results", { keyPath: "job" });
  database.createObjectStore("known", { keyPath: "key" });
}

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

export class Spool {
  static async open() {
    const request = indexedDB.open(NAME, SCHEMA);
    let found = 0;
    request.onupgradeneeded = ({ oldVersion }) => {
      found = oldVersion;
      if (found) request.transaction.abort();
      else create(request.result);
    };
    try {
      return new Spool(await settled(request));
    } catch (error) {
      if (!found) throw error;
      throw new Error(`this browser keeps data of schema ${found}, this page reads schema ${SCHEMA}: clear this site's data`);
    }
  }

  constructor(database) {
    this.database = database;
  }

  read(name, ask) {
    return settled(ask(this.database.transaction(name).objectStore(name)));
  }

  /** Write in a transaction; when this resolves the database has it, and the disk if `strict`. */
  write(names, change, durability = "strict") {
    return new Promise((resolve, reject) => {
      const transaction = this.database.transaction(names, "readwrite", { durability });
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(new Error(`the browser's storage takes no more: ${transaction.error?.message}`));
      change((name) => transaction.objectStore(name));
    });
  }

  put(name, value, durability) {
    return this.write([name], (store) => store(name).put(value), durability);
  }

  async find(key) {
    return (await this.read("known", (store) => store.get(key)))?.value ?? null;
  }

  keep(key, value) {
    return this.put("known", { key, value });
  }

  // --- runs -----------------------------------------------------------------------------------

  async addRun(run, plan, more) {
    const entry = { id: run.id, run, plan, finished: null, created: Date.now(), ...more };
    await this.put("runs", entry);
    return entry;
  }

  async runs() {
    return (await this.read("runs", (store) => store.getAll())).sort((a, b) => a.created - b.created);
  }

  /** Let a run that was begun for a job go on for another job, or for the user (null). */
  async giveRun(entry, job) {
    const given = { ...entry, job };
    await this.put("runs", given);
    return given;
  }

  /** End a run with its table, whose measurements have its rounds, or with a problem. */
  async finish(id, finished) {
    const entry = await this.read("runs", (store) => store.get(id));
    const keys = finished.problem ? [] : await this.read("rounds", (store) => store.index("run").getAllKeys(id));
    await this.write(["runs", "rounds"], (store) => {
      store("runs").put({ ...entry, finished });
      for (const key of keys) store("rounds").delete(key);
    });
  }

  // --- rounds and measurements ----------------------------------------------------------------

  journal(runId) {
    return {
      keepRound: (task, round, disturbed) => {
        const entry = { measurement: measurementId(runId, task), run: runId, disturbed, round };
        return this.put("rounds", entry, "relaxed");
      },
      keepMeasurement: ({ subject, role, graph, minus, divisor }, rounds, verdict) => {
        const id = measurementId(runId, { role, graph });
        const measurement = { id, subject, role, graph, minus, divisor, rounds, verdict };
        const entry = { id, run: runId, measurement, sent: false };
        return this.write(["measurements"], (store) => store("measurements").add(entry));
      },
    };
  }

  /** Rounds by measurement id. */
  async roundsOf(runId) {
    const found = new Map();
    for (const entry of await this.read("rounds", (store) => store.index("run").getAll(runId))) {
      found.set(entry.measurement, [...(found.get(entry.measurement) ?? []), entry]);
    }
    return found;
  }

  measurementsOf(runId) {
    return this.read("measurements", (store) => store.index("run").getAll(runId));
  }

  /** Say of measurements whether the server has them. */
  mark(entries, { sent }) {
    return this.write(["measurements"], (store) => {
      for (const entry of entries) store("measurements").put({ ...entry, sent });
    }, "relaxed");
  }

  // --- graphs and results ---------------------------------------------------------------------

  findGraph(key) { return this.read("graphs", (store) => store.get(key)); }
  keepGraph(key, sha256, bytes) { return this.put("graphs", { key, sha256, bytes }, "relaxed"); }
  keepResult(job, result) { return this.put("results", { job, result }); }
  results() { return this.read("results", (store) => store.getAll()); }
  dropResult(job) { return this.write(["results"], (store) => store("results").delete(job), "relaxed"); }

  /** Keep a result that the server refuses; another one is sent in its place. */
  setAside(job, result, other) {
    return this.write(["known", "results"], (store) => {
      store("known").put({ key: `refused result ${job} ${Date.now()}`, value: result });
      store("results").put({ job, result: other });
    });
  }
}
