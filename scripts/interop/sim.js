'use strict';
// Where a running `ringpush simulate` is and what it made, read from its folder.

const fs = require('node:fs');
const path = require('node:path');

/** Enough of TOML for the file that the simulator writes: tables, strings. */
function readToml(file) {
  const tables = {};
  let table = (tables[''] = {});
  for (const line of fs.readFileSync(file, 'utf8').split('\n')) {
    const head = line.match(/^\[(.+)\]\s*$/);
    const pair = line.match(/^(\w+)\s*=\s*"([^"]*)"/);
    if (head) table = tables[head[1]] = tables[head[1]] ?? {};
    else if (pair) table[pair[1]] = pair[2];
  }
  return tables;
}

/** A table of the first app. */
function ofApp(tables, platform) {
  const name = Object.keys(tables).find((n) => n.startsWith('apps.') && n.endsWith(`.${platform}`));
  if (!name) throw new Error(`the simulator's configuration has no [apps….${platform}]`);
  return tables[name];
}

exports.open = (folder) => {
  const tables = readToml(path.join(folder, 'ringpush.toml'));
  const at = (file) => path.resolve(folder, file);
  const ios = ofApp(tables, 'ios');
  const android = ofApp(tables, 'android');
  return {
    apns: new URL(tables.apns.production_url),
    fcm: new URL(tables.fcm.url),
    ca: at(tables.apns.ca_file),
    ios: { ...ios, key_file: at(ios.key_file) },
    serviceAccount: JSON.parse(fs.readFileSync(at(android.service_account_file), 'utf8')),
  };
};

/** Runs cases one by one; each says what it got. Ends the process. */
exports.run = async (title, cases) => {
  console.log(`\n${title}`);
  let failed = 0;
  for (const [name, expected, action] of cases) {
    let got;
    try {
      got = String(await action());
    } catch (error) {
      got = error.code ?? error.message;
    }
    const ok = [expected].flat().includes(got);
    failed += ok ? 0 : 1;
    console.log(`  ${ok ? 'ok  ' : 'FAIL'}  ${name.padEnd(46)} ${got}${ok ? '' : `  (expected ${expected})`}`);
  }
  console.log(`  ${cases.length - failed} of ${cases.length}`);
  process.exit(failed ? 1 : 0);
};
