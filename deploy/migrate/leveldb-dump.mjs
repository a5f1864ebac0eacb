#!/usr/bin/env node
// Writes the events of AllData nodes that store them in LevelDB (`alldata-storage-leveldb`) to standard output,
// in the format of `alldata-peer import`: one line `{"key":…,"event":…}` for each event.
//
// Each directory is the location of one node's storage. It contains a database for each consolidation interval.
// Stop the node first: LevelDB lets only one process open a database.
//
// Events that contain U+FFFD are written after all others. That character is what a multi-byte character becomes
// that arrived in two parts at the original peer server. So if another replica has the event undamaged, `import`
// stores that one, and reports the damaged one as a conflict.
//
// Exit code: 0 if all events were written, 1 if not, 2 for wrong usage. Errors go to standard error.

import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ClassicLevel } from 'classic-level';

const REPLACEMENT_CHARACTER = '\uFFFD';

let failures = 0;

function fail(message) {
  failures += 1;
  process.stderr.write(`error: ${message}\n`);
}

/** The databases of a node: the subdirectories, or the directory itself if it is one. */
function databases(location) {
  const isDatabase = (directory) => existsSync(join(directory, 'CURRENT'));
  if (isDatabase(location)) return [location];
  const names = readdirSync(location, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort();
  return names.map((name) => join(location, name)).filter(isDatabase);
}

/** The line of an event, whose text stays as it is stored. */
function line(key, event) {
  // LevelDB may have been given JSON with line breaks. They are whitespace there: in strings they are escaped.
  return `{"key":${JSON.stringify(key)},"event":${event.replace(/[\r\n]/g, ' ')}}\n`;
}

async function write(text) {
  if (!process.stdout.write(text)) await once(process.stdout, 'drain');
}

/** Writes the events of a database that are damaged, or those that are not. */
async function dump(directory, damaged) {
  const database = new ClassicLevel(directory, { createIfMissing: false });
  await database.open();
  try {
    for await (const [key, event] of database.iterator()) {
      if (event.includes(REPLACEMENT_CHARACTER) !== damaged) continue;
      try {
        JSON.parse(event);
      } catch (error) {
        fail(`${directory}: the event of key ${JSON.stringify(key)} is not JSON: ${error.message}`);
        continue;
      }
      await write(line(key, event));
    }
  } finally {
    await database.close();
  }
}

const locations = process.argv.slice(2);
if (locations.length === 0 || locations.some((location) => location.startsWith('-'))) {
  process.stderr.write('usage: node leveldb-dump.mjs DIRECTORY... > events.ndjson\n');
  process.exit(2);
}
// A reader that ends early, such as `head`, is not an error of the database.
process.stdout.on('error', (error) => {
  if (error.code === 'EPIPE') process.exit(0);
  process.stderr.write(`error: standard output: ${error.message}\n`);
  process.exit(1);
});

const directories = [];
for (const location of locations) {
  try {
    const found = databases(location);
    if (found.length === 0) fail(`${location}: no LevelDB database in it`);
    directories.push(...found);
  } catch (error) {
    fail(`${location}: ${error.message}`);
  }
}
const failed = new Set();
for (const damaged of [false, true]) {
  for (const directory of directories) {
    if (failed.has(directory)) continue;
    try {
      await dump(directory, damaged);
    } catch (error) {
      const cause = error.cause ?? error;
      const hint = cause.code === 'LEVEL_LOCKED' ? ': stop the node that uses it' : '';
      fail(`${directory}: ${cause.message}${hint}`);
      failed.add(directory);
    }
  }
}
process.exitCode = failures === 0 ? 0 : 1;
