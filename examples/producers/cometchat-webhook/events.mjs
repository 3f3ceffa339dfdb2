// From CometChat's webhooks for calls with ringing ("Ringing Events") to
// ringpush's events.
import { eventId } from "./publish.mjs";

const RING_SECONDS = 45;

// `sender` of a webhook is whoever acted: the caller who hangs up, the callee
// who declines.
const CANCELS = {
  call_cancelled: { reason: "caller_hangup", callee: "receiver" },
  call_unanswered: { reason: "timeout", callee: "receiver" },
  call_rejected: { reason: "declined_elsewhere", callee: "sender" },
  call_busy: { reason: "busy", callee: "sender" },
};

/**
 * The event for a webhook, or undefined if it is none that concerns a ring.
 * `devicesOf` finds phones; `profile` is the one that your app understands.
 */
export async function toEvent(hook, { devicesOf, profile }) {
  if (hook.trigger === "call_started") return started(hook);
  const call = hook.data?.call;
  if (hook.trigger === "call_initiated") return ring(hook, call, devicesOf, profile);
  const cancel = CANCELS[hook.trigger];
  return cancel && cancelled(hook, call, cancel, devicesOf, profile);
}

async function ring(hook, call, devicesOf, profile) {
  const { by, for: callee } = call.data.entities;
  const devices = await devicesOf({
    type: call.receiverType,
    id: call.receiver,
    except: call.sender,
  });
  if (devices.length === 0) return undefined;
  return {
    v: 1,
    event: "ring",
    event_id: idOf(hook, call),
    call_id: sessionOf(call),
    // CometChat's clock, in whole seconds: the deadline counts from when the
    // caller pressed the button, however long the webhook took.
    sent_at: time(call.sentAt),
    expires_at: time(call.sentAt + RING_SECONDS),
    media: call.type,
    caller: { id: call.sender, name: by?.entity.name, avatar_url: by?.entity.avatar },
    callee: { id: call.receiver, name: callee?.entity.name },
    conversation: { type: call.receiverType, id: call.conversationId },
    profile,
    devices,
  };
}

async function cancelled(hook, call, { reason, callee }, devicesOf, profile) {
  const { by } = call.data.entities;
  const caller = callee === "receiver" ? call.sender : call.receiver;
  const target = call.receiverType === "group" ? call.receiver : call[callee];
  return {
    v: 1,
    event: "cancel",
    event_id: idOf(hook, call),
    call_id: sessionOf(call),
    sent_at: time(call.sentAt),
    media: call.type,
    reason,
    // The profile `cometchat` repeats the caller in its cancels.
    caller: { id: caller, name: callee === "receiver" ? by?.entity.name : undefined },
    profile,
    // A member of a group who declines stops nobody else's phone.
    devices: await devicesOf(
      call.receiverType === "group" && callee === "sender"
        ? { type: "user", id: call.sender }
        : { type: call.receiverType, id: target, except: caller },
    ),
  };
}

// Somebody answered. The webhook does not say on which phone, so this only
// stops what has not been pushed yet; the app ends the ring on other phones
// over CometChat's own connection.
function started(hook) {
  const { sessionId, created_at } = hook.data;
  return {
    v: 1,
    event: "cancel",
    event_id: eventId([hook.webhook, hook.trigger, sessionId, created_at].join("/")),
    call_id: sessionId,
    sent_at: time(created_at),
    reason: "answered_elsewhere",
  };
}

// What CometChat names as a webhook's idempotency key: it may come twice.
const idOf = (hook, call) => eventId([hook.webhook, hook.trigger, call.id, call.sentAt].join("/"));

const sessionOf = (call) => call.data.entities.on.entity.sessionid;

const time = (seconds) => new Date(seconds * 1_000).toISOString();
