// What is measured is in the browser's database before anything else happens to it, until the server has it.
//
// runs          one profiling run: {id, run, plan, preset, job, finished, created}
// rounds        {measurement, run, disturbed, round}, as measured: a reloaded page goes on from here
// measurements  finished ones: {id, run, measurement, sent}
// graphs        {key, sha256, bytes} by reference
// results       results of jobs that the server has not taken yet: {job, result}
// known         settings, plans, the usual canary: {key, value}

import { measurementId } from "./names.js";

const NAME = "lutnas-agent";
const SCHEMA = 10; // of shared/schemas.py

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

  async read(store, ask) {
    return settled(ask(this.database.transaction(store).objectStore(store)));
  }

  /** Write in one transaction; it is in the database when this resolves, on the disk too where `strict`. */
  write(stores, change, durability = "relaxed") {
    return new Promise((resolve, reject) => {
      const transaction = this.database.transaction(stores, "readwrite", { durability });
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(new Error(`the browser's storage takes no more: ${transaction.error?.message}`));
      change((store) => transaction.objectStore(store));
    });
  }

  async find(key) {
    return (await this.read("known", (store) => store.get(key)))?.value ?? null;
  }

  keep(key, value) {
    return this.write(["known"], (store) => store("known").put({ key, value }), "strict");
  }

  // --- runs -----------------------------------------------------------------------------------------------------------

  addRun(run, plan, more) {
    const entry = { id: run.id, run, plan, finished: null, created: Date.now(), ...more };
    return this.write(["runs"], (store) => store("runs").put(entry), "strict");
  }

  async runs() {
    return (await this.read("runs", (store) => store.getAll())).sort((a, b) => a.created - b.created);
  }

  async changeRun(id, change) {
    const entry = await this.read("runs", (store) => store.get(id));
    await this.write(["runs"], (store) => store("runs").put({ ...entry, ...change }), "strict");
  }

  /** The end of a run: what the server made of it; the rounds are in its measurements, and go. */
  async finish(id, table) {
    const entry = await this.read("runs", (store) => store.get(id));
    const keys = await this.read("rounds", (store) => store.index("run").getAllKeys(id));
    await this.write(["runs", "rounds"], (store) => {
      store("runs").put({ ...entry, finished: table });
      for (const key of keys) store("rounds").delete(key);
    }, "strict");
  }

  // --- rounds and measurements -----------------------------------------------------------------------------------------

  journal(runId) {
    return {
      keepRound: (task, round, disturbed) => this.write(["rounds"], (store) => {
        store("rounds").add({ measurement: measurementId(runId, task), run: runId, disturbed, round });
      }),
      keepMeasurement: (task, rounds, verdict) => this.write(["measurements"], (store) => {
        const { subject, role, graph, minus, divisor } = task;
        const id = measurementId(runId, task);
        const measurement = { id, subject, role, graph, minus, divisor, rounds, verdict };
        store("measurements").add({ id, run: runId, measurement, sent: false });
      }, "strict"),
    };
  }

  /** Rounds by measurement id. */
  async roundsOf(runId) {
    const found = new Map();
    for (const one of await this.read("rounds", (store) => store.index("run").getAll(runId))) {
      found.set(one.measurement, [...(found.get(one.measurement) ?? []), one]);
    }
    return found;
  }

  measurementsOf(runId) {
    return this.read("measurements", (store) => store.index("run").getAll(runId));
  }

  acknowledge(entries) {
    return this.write(["measurements"], (store) => {
      for (const entry of entries) store("measurements").put({ ...entry, sent: true });
    });
  }

  // --- graphs and results ------------------------------------------------------------------------------------------------

  findGraph(key) {
    return this.read("graphs", (store) => store.get(key));
  }

  keepGraph(key, sha256, bytes) {
    return this.write(["graphs"], (store) => store("graphs").put({ key, sha256, bytes }));
  }

  keepResult(job, result) {
    return this.write(["results"], (store) => store("results").put({ job, result }), "strict");
  }

  results() {
    return this.read("results", (store) => store.getAll());
  }

  dropResult(job) {
    return this.write(["results"], (store) => store("results").delete(job));
  }
}
