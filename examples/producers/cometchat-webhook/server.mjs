// Receives CometChat's call webhooks and publishes them as ringpush events.
import { timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

import { devicesOf } from "./directory.mjs";
import { toEvent } from "./events.mjs";
import { openPublisher } from "./publish.mjs";

const { AMQP_URL, AMQP_PREFIX, WEBHOOK_USER, WEBHOOK_PASSWORD } = process.env;
if (!WEBHOOK_USER || !WEBHOOK_PASSWORD) throw new Error("set WEBHOOK_USER and WEBHOOK_PASSWORD");
const PROFILE = process.env.PROFILE ?? "cometchat_skill";
const PORT = Number(process.env.PORT ?? 8080);
const MAX_BODY = 64 * 1024;
const EXPECTED = Buffer.from(
  `Basic ${Buffer.from(`${WEBHOOK_USER}:${WEBHOOK_PASSWORD}`).toString("base64")}`,
);

let publisher;

const server = createServer(async (request, response) => {
  const [status, text] = await receive(request).catch((error) => {
    console.error("webhook:", error.message);
    return [503, "try again"]; // CometChat repeats it; the event id stays the same
  });
  response.writeHead(status, { "content-type": "text/plain" }).end(`${text}\n`);
});
server.requestTimeout = 10_000;
server.listen(PORT, process.env.HOST, () => console.log(`listening on ${server.address().port}`));

async function receive(request) {
  if (!authorized(request)) return [401, "who are you?"];
  let event;
  try {
    event = await toEvent(JSON.parse(await read(request)), { devicesOf, profile: PROFILE });
  } catch (error) {
    console.error("webhook:", error.message);
    return [400, "not a webhook that is known here"];
  }
  if (!event) return [200, "nothing to ring"];
  // Answered only when the broker has it: what is not, CometChat sends again.
  await publish(event).catch(() => publish(event));
  return [200, event.event_id];
}

/** A connection that has failed is replaced by the next attempt; an event that arrives twice rings once. */
async function publish(event) {
  publisher ??= openPublisher(AMQP_URL, AMQP_PREFIX);
  const current = publisher;
  try {
    await (await current).publish(event);
  } catch (error) {
    if (publisher === current) publisher = undefined;
    current.then((old) => old.close()).catch(() => {});
    throw error;
  }
}

function authorized(request) {
  const given = Buffer.from(request.headers.authorization ?? "");
  return given.length === EXPECTED.length && timingSafeEqual(given, EXPECTED);
}

async function read(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > MAX_BODY) throw new Error("too long");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    server.close();
    const open = await publisher?.catch(() => undefined);
    await open?.close().catch(() => {});
    process.exit(0);
  });
}
