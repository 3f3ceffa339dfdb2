'use strict';
// @parse/node-apn as it comes from npm, against the simulator's APNs.

const { generateKeyPairSync } = require('node:crypto');
const apn = require('@parse/node-apn');
const sim = require('./sim.js');

const here = sim.open(process.argv[2]);
const TOKEN = 'a1'.repeat(32);

/** A client like any app server's, except for the address. */
function provider(token = {}) {
  return new apn.Provider({
    token: { key: here.ios.key_file, keyId: here.ios.key_id, teamId: here.ios.team_id, ...token },
    address: here.apns.hostname,
    port: Number(here.apns.port),
    ca: here.ca,
    production: true,
    connectionRetryLimit: 1,
    requestTimeout: 3000,
  });
}

function ring(change = {}) {
  const note = new apn.Notification();
  note.topic = `${here.ios.bundle_id}.voip`;
  note.pushType = 'voip';
  note.priority = 10;
  note.expiry = Math.floor(Date.now() / 1000) + 30;
  note.payload = { call_id: 'room-42', caller_name: 'Alice Martin' };
  return Object.assign(note, change);
}

/** What the client makes of the answer: `sent`, or status and reason. */
async function send(note, { token = TOKEN, client = provider() } = {}) {
  const result = await client.send(note, token);
  await client.shutdown();
  const failure = result.failed[0];
  if (!failure) return result.sent.length === [token].flat().length ? 'sent' : 'lost';
  const { status, response, error } = failure;
  return response ? `${status} ${response.reason}` : `error: ${error}`;
}

/** The clock is moved for as long as the client signs. */
async function at(offset, action) {
  const now = Date.now;
  Date.now = () => now() + offset;
  try {
    return await action();
  } finally {
    Date.now = now;
  }
}

const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
  type: 'pkcs8',
  format: 'pem',
});

sim.run('@parse/node-apn → simulated APNs', [
  ['a VoIP push', 'sent', () => send(ring())],
  ['the same to 200 phones at once', 'sent', async () => {
    // The first push proves the JWT; until then the server allows one stream.
    const client = provider();
    await client.send(ring(), TOKEN);
    const token = Array.from({ length: 200 }, (_, n) => n.toString(16).padStart(64, '0'));
    return send(ring(), { token, client });
  }],
  ['with apns-expiration 0', 'sent', () => send(ring({ expiry: 0 }))],
  ['a topic of somebody else', '400 TopicDisallowed', () =>
    send(ring({ topic: 'com.example.other.voip' }))],
  ['push type voip without .voip in the topic', '400 DeviceTokenNotForTopic', () =>
    send(ring({ topic: here.ios.bundle_id }))],
  ['no topic', '400 MissingTopic', () => send(ring({ topic: undefined }))],
  ['a token nobody knows', '400 BadDeviceToken', () => send(ring(), { token: 'bad0'.repeat(16) })],
  ['a token of a removed app', '410 Unregistered', () => send(ring(), { token: 'dead'.repeat(16) })],
  ['a payload over 5120 bytes', '413 PayloadTooLarge', () =>
    send(ring({ payload: { data: 'x'.repeat(5200) } }))],
  ['a priority that does not exist', '400 BadPriority', () => send(ring({ priority: 7 }))],
  ['a collapse id over 64 bytes', '400 BadCollapseId', () => send(ring({ collapseId: 'c'.repeat(65) }))],
  ['an id that is no UUID', '400 BadMessageId', () => send(ring({ id: 'push-1' }))],
  // The client signs anew once and then gives up with the provider's word as its error.
  ['a JWT of two hours ago', 'error: VError: ExpiredProviderToken', () =>
    at(-2 * 3600 * 1000, () => send(ring({ expiry: 0 })))],
  ['a JWT by a key that is not the team\'s', '403 InvalidProviderToken', () =>
    send(ring(), { client: provider({ key: Buffer.from(stranger) }) })],
  ['a key id that does not exist', '403 InvalidProviderToken', () =>
    send(ring(), { client: provider({ keyId: 'NOSUCHKEY1' }) })],
  ['a team that does not exist', '403 InvalidProviderToken', () =>
    send(ring(), { client: provider({ teamId: 'NOSUCHTEAM' }) })],
]);
