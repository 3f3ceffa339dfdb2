'use strict';
// firebase-admin as it comes from npm, against the simulator's FCM and token server.

const { generateKeyPairSync } = require('node:crypto');
const { initializeApp, cert } = require('firebase-admin/app');
const { getMessaging } = require('firebase-admin/messaging');
const sim = require('./sim.js');

const here = sim.open(process.argv[2]);
let apps = 0;

function messaging(change = {}, projectId = here.serviceAccount.project_id) {
  const credential = cert({ ...here.serviceAccount, ...change });
  return getMessaging(initializeApp({ credential, projectId }, `app-${apps++}`));
}

const usual = messaging();

function ring(change = {}) {
  return {
    token: 'interop-phone',
    data: { event: 'ring', call_id: 'room-42', caller_name: 'Alice Martin' },
    android: { priority: 'high', ttl: 25000 },
    ...change,
  };
}

/** `sent` if the answer is a message name of the project. `sendEach` is the client's HTTP/2. */
async function send(message, client = usual) {
  const { responses } = await client.sendEach([message]);
  if (responses[0].error) throw responses[0].error;
  const name = responses[0].messageId;
  return name.startsWith(`projects/${here.serviceAccount.project_id}/messages/`) ? 'sent' : name;
}

const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({
  type: 'pkcs8',
  format: 'pem',
});

sim.run('firebase-admin → simulated FCM', [
  ['a data message', 'sent', () => send(ring())],
  ['to 50 phones at once', '50 sent', async () => {
    const tokens = Array.from({ length: 50 }, (_, n) => `interop-phone-${n}`);
    const { token, ...message } = ring();
    return `${(await usual.sendEachForMulticast({ ...message, tokens })).successCount} sent`;
  }],
  ['a phone that is gone', 'messaging/registration-token-not-registered', () =>
    send(ring({ token: 'interop-unregistered' }))],
  ['a token of another project', 'messaging/mismatched-credential', () =>
    send(ring({ token: 'interop-other-sender' }))],
  ['too many messages', 'messaging/message-rate-exceeded', () =>
    send(ring({ token: 'interop-quota' }))],
  ['a server that stumbles once (the client repeats)', 'sent', () =>
    send(ring({ token: 'interop-stumbles-once' }))],
  ['a notification block', 'messaging/invalid-argument', () =>
    send(ring({ notification: { title: 'Call' } }))],
  ['the reserved key `from`', 'messaging/invalid-argument', () =>
    send(ring({ data: { from: 'Alice' } }))],
  ['a reserved key that starts with `google`', 'messaging/invalid-argument', () =>
    send(ring({ data: { 'google.x': '1' } }))],
  ['data over 4096 bytes', 'messaging/invalid-argument', () =>
    send(ring({ data: { k: 'x'.repeat(4100) } }))],
  // A 404 without FcmError. The client calls the token dead, though the project is what is wrong;
  // ringpush calls it a credential fault and keeps the token.
  ['a project that does not exist', 'messaging/registration-token-not-registered', () =>
    send(ring(), messaging({}, 'no-such-project'))],
  ['a service account\'s key that is not its own', 'app/invalid-credential', () =>
    send(ring(), messaging({ private_key: stranger }))],
]);
