// Publishes events to ringpush and says when the broker has them on disk.
import { createHash } from "node:crypto";
import amqp from "amqplib";

const CONNECT_MS = 3_000;
const CONFIRM_MS = 3_000;

/** Opens a connection with publisher confirms. `prefix` is the worker's `amqp.prefix`. */
export async function openPublisher(url, prefix = "ringpush") {
  const connection = await amqp.connect(url, {
    timeout: CONNECT_MS,
    clientProperties: { connection_name: "call producer" },
  });
  // A lost connection shows in the publish that fails; unheard, this event would end the process.
  connection.on("error", (error) => console.error("broker:", error.message));
  const channel = await connection.createConfirmChannel();
  channel.on("error", (error) => console.error("broker:", error.message));
  return {
    /** Resolves once the broker has the event. */
    publish: (event) => publish(channel, `${prefix}.calls`, event),
    close: () => connection.close(),
  };
}

function publish(channel, exchange, event) {
  const options = {
    contentType: "application/json",
    persistent: true,
    messageId: event.event_id,
    correlationId: event.call_id,
    type: event.event,
    // No `expiration`: the deadline is in the event.
  };
  const body = Buffer.from(JSON.stringify(event));
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error("the broker did not confirm")), CONFIRM_MS);
    channel.publish(exchange, routingKey(event), body, options, (error) => {
      clearTimeout(late);
      if (error) reject(error);
      else resolve();
    });
  });
}

/** One platform's rings go straight to its queue; a mix is split by the worker. */
export function routingKey(event) {
  if (event.event === "cancel") return "cancel";
  const platforms = new Set(event.devices.map((device) => device.platform));
  return platforms.size === 1 ? `ring.${[...platforms][0]}` : "ring";
}

/**
 * The same id for the same thing: what a client or a webhook sends twice is
 * one event, and rings once. UUIDv5 of a text, under a namespace of your own.
 */
export function eventId(text, namespace = "5e1c7d0e-63a8-4f0c-8a9b-0d9b5f7c2f11") {
  const space = Buffer.from(namespace.replaceAll("-", ""), "hex");
  const hash = createHash("sha1").update(space).update(text).digest().subarray(0, 16);
  hash[6] = (hash[6] & 0x0f) | 0x50;
  hash[8] = (hash[8] & 0x3f) | 0x80;
  const hex = hash.toString("hex");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
