'use strict';
// rings.js COUNT APP: that many ring events as JSON lines, a phone of each platform in each.
// rings.js --check COUNT FOLDER: reads what became of them from the outcomes and nginx's log.

const { randomUUID } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');

function lines(file) {
  return fs.readFileSync(file, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line));
}

function produce(count, app) {
  for (let n = 0; n < count; n++) {
    const event = {
      v: 1,
      event: 'ring',
      event_id: randomUUID(),
      call_id: `room-${n}`,
      sent_at: new Date().toISOString(),
      caller: { id: 'user-1', name: 'Alice Martin' },
      devices: [
        { id: 'phone', platform: 'ios', app, token: n.toString(16).padStart(64, '0') },
        { id: 'tablet', platform: 'android', app, token: `interop-${n}` },
      ],
    };
    process.stdout.write(`${JSON.stringify(event)}\n`);
  }
}

function check(count, folder) {
  const outcomes = lines(path.join(folder, 'outcomes.jsonl')).filter((line) => line.type === 'push');
  const requests = lines(path.join(folder, 'access.log'));
  const apns = requests.filter((r) => r.uri.startsWith('/3/device/'));
  const fcm = requests.filter((r) => r.uri.startsWith('/v1/projects/'));
  const distinct = (list) => new Set(list).size;
  const cases = [
    ['outcomes accepted', outcomes.filter((o) => o.result === 'accepted').length, 2 * count],
    ['pushes at /3/device/', distinct(apns.map((r) => r.uri)), count],
    ['distinct apns-id', distinct(apns.map((r) => r.id)), count],
    ['requests at /v1/projects/', fcm.length, count],
    ['requests that were not HTTP/2', requests.filter((r) => r.protocol !== 'HTTP/2.0').length, 0],
    ['without push type voip, priority 10, .voip topic',
      apns.filter((r) => r.type !== 'voip' || r.priority !== '10' || !r.topic.endsWith('.voip')).length, 0],
    ['pushes that came twice', apns.length - distinct(apns.map((r) => r.id)), 0],
  ];
  console.log('\nringpush run --stdin → stock nginx');
  for (const [name, got, expected] of cases) {
    const ok = got === expected;
    if (!ok) process.exitCode = 1;
    console.log(`  ${ok ? 'ok  ' : 'FAIL'}  ${name.padEnd(50)} ${got}${ok ? '' : `  (expected ${expected})`}`);
  }
  console.log(`  over ${distinct(requests.map((r) => r.connection))} connections of at most 100 requests`);
}

const [first, second, third] = process.argv.slice(2);
if (first === '--check') check(Number(second), third);
else produce(Number(first), second);
