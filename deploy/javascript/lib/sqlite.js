// A store in a file of SQLite, by node:sqlite, better-sqlite3 or bun:sqlite: they share the functions used here.
//
// 201 means: the transaction with the event is synced to the disk. Puts that arrive together share one.

import { setImmediate } from "node:timers";

import { sameEvent } from "./protocol.js";
import { PutError } from "./put-error.js";

/** How long a transaction of another program is waited for, in which nothing else is served. */
const BUSY_TIMEOUT_MS = 1000;

/** When to try again where the database is locked, or the disk is full. */
const BUSY_RETRY_SECONDS = 1;

/** When to try again after a commit that failed: not before the program is started again. */
const BROKEN_RETRY_SECONDS = 60;

/** The number of events that are read at once. */
const PAGE_EVENTS = 1000;

/** Results of SQLite: the modules tell them by their names, by their numbers, or, on Deno, by their texts only. */
const BUSY = { name: "SQLITE_BUSY", number: 5, text: "database is locked" };
const FULL = { name: "SQLITE_FULL", number: 13, text: "database or disk is full" };

/** For how long the store tries to open while other programs use the file: longer than some of their transactions. */
const OPEN_TIMEOUT_MS = 5 * BUSY_TIMEOUT_MS;

/** The pause between two of these tries. */
const OPEN_PAUSE_MS = 10;

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

export function sqlite(database) {
  prepareDatabase(database);
  const insert = database.prepare("INSERT INTO alldata_event (key, event) VALUES (?, ?) ON CONFLICT DO NOTHING");
  const select = database.prepare("SELECT event FROM alldata_event WHERE key = ?");
  // The text of a key is cut off at U+0000 by Deno, its bytes are not.
  const page = database.prepare(
    `SELECT CAST(key AS BLOB) AS key, event FROM alldata_event WHERE key > ? ORDER BY alldata_event.key LIMIT ${PAGE_EVENTS}`,
  );
  const write = transaction(database, ({ key, event }) => Number(insert.run(key, event).changes) > 0);
  let waiting = [];

  const writeAll = () => {
    const puts = waiting;
    waiting = [];
    try {
      const results = write(puts);
      puts.forEach(({ resolve }, at) => resolve(results[at]));
    } catch (error) {
      puts.forEach(({ reject }) => reject(error));
    }
  };

  return {
    async put(key, event) {
      const isNew = await new Promise((resolve, reject) => {
        // Not at once: the requests that have arrived by then are written with this one.
        if (waiting.push({ key, event, resolve, reject }) === 1) setImmediate(writeAll);
      });
      if (!isNew && !(await sameEvent(select.get(key).event, event))) throw PutError.conflict();
    },
    get: (key) => select.get(key)?.event,
    *entries() {
      for (let after = ""; ; ) {
        const rows = page.all(after).map(({ key, event }) => [decoder.decode(key), event]);
        yield* rows;
        if (rows.length < PAGE_EVENTS) return;
        [after] = rows.at(-1);
      }
    },
  };
}

function prepareDatabase(database) {
  database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
  // With a WAL, a commit is one write and one sync. A rollback journal that was deleted may be back after a loss of
  // power, and take an event away again.
  const { journal_mode: mode } = database.prepare("PRAGMA journal_mode = WAL").get();
  if (mode !== "wal") throw new Error(`The database has the journal mode ${mode}: the store needs a file, and WAL.`);
  database.exec("PRAGMA synchronous = FULL");
  // On macOS, a sync without these does not reach the disk.
  database.exec("PRAGMA fullfsync = ON");
  database.exec("PRAGMA checkpoint_fullfsync = ON");
  checkpoint(database);
  database.exec("CREATE TABLE IF NOT EXISTS alldata_event (key TEXT NOT NULL PRIMARY KEY, event TEXT NOT NULL) STRICT");
}

/**
 * Writes the WAL into the database, and syncs that. What an earlier process left in the WAL is read as stored, but may
 * not be on the disk. To sync the WAL again is not enough: after a sync that failed, the next one may succeed without
 * what the first was to write.
 */
function checkpoint(database) {
  const statement = database.prepare("PRAGMA wal_checkpoint(TRUNCATE)");
  const end = Date.now() + OPEN_TIMEOUT_MS;
  while (statement.get().busy !== 0) {
    if (Date.now() > end) throw new Error("The WAL of the database was not written back: another program uses it.");
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, OPEN_PAUSE_MS);
  }
}

/** A function that applies `change` to each of its arguments in one transaction. It throws a `PutError`. */
function transaction(database, change) {
  let isBroken = false;
  return (all) => {
    if (isBroken) throw PutError.unavailable(BROKEN_RETRY_SECONDS, "A commit has failed before.");
    let step = "BEGIN IMMEDIATE";
    try {
      database.exec(step);
      step = "INSERT";
      const results = all.map(change);
      step = "COMMIT";
      database.exec(step);
      return results;
    } catch (error) {
      const isRetried = is(error, BUSY) || is(error, FULL);
      // After a sync that failed, the next one may succeed without what this one was to write.
      isBroken = step === "COMMIT" && !isRetried;
      rollBack(database);
      if (isRetried && step !== "COMMIT") throw PutError.unavailable(BUSY_RETRY_SECONDS, error.message);
      throw PutError.failed(`SQLite failed at ${step}.`, { cause: error });
    }
  };
}

function rollBack(database) {
  try {
    database.exec("ROLLBACK");
  } catch {
    // There was no transaction, or SQLite has rolled it back by itself.
  }
}

function is(error, { name, number, text }) {
  if (String(error?.code).startsWith(name) || error?.message?.includes(text)) return true;
  return ((error?.errcode ?? error?.errno) & 0xff) === number;
}
