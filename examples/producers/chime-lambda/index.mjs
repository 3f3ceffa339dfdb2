// A call backend on AWS Lambda, behind an API Gateway HTTP API with a JWT
// authorizer. It creates the Amazon Chime SDK meeting, gives the caller what
// the app needs to join, and has ringpush make the callee's phones ring.
//
//   {"action": "ring",   "call_id": "<UUID made by the app>", "callee_id": "…", "media": "video"}
//   {"action": "join",   "call_id": "…", "meeting_id": "…", "device_id": "…"}   the callee answers
//   {"action": "cancel", "call_id": "…", "meeting_id": "…", "callee_id": "…"}   the caller hangs up
import {
  ChimeSDKMeetingsClient,
  CreateAttendeeCommand,
  CreateMeetingWithAttendeesCommand,
  DeleteMeetingCommand,
} from "@aws-sdk/client-chime-sdk-meetings";

import { findUser } from "./directory.mjs";
import { eventId, openPublisher } from "./publish.mjs";

const RING_SECONDS = 30;
const MEDIA_REGION = process.env.MEDIA_REGION ?? "us-east-1";

const chime = new ChimeSDKMeetingsClient({});

export async function handler(request) {
  const userId = request.requestContext.authorizer.jwt.claims.sub;
  const call = JSON.parse(request.body);
  const action = { ring, join, cancel }[call.action];
  if (!action) return answer(400, { error: "action must be ring, join or cancel" });
  // A Lambda that sleeps between two requests misses heartbeats, and its
  // connection is dead when it wakes; so each invocation opens one, while the
  // meeting is being made.
  const opening = openPublisher(process.env.AMQP_URL, process.env.AMQP_PREFIX);
  opening.catch(() => {}); // shows where it is awaited
  try {
    return await action(userId, call, opening);
  } finally {
    const publisher = await opening.catch(() => undefined);
    await publisher?.close().catch(() => {});
  }
}

async function ring(callerId, { call_id, callee_id, media = "video" }, opening) {
  const [caller, callee] = await Promise.all([findUser(callerId), findUser(callee_id)]);
  if (!callee?.devices.length) return answer(404, { error: "the callee has no phone" });

  const sentAt = Date.now();
  const { Meeting, Attendees } = await chime.send(
    new CreateMeetingWithAttendeesCommand({
      // The same call again gives the same meeting.
      ClientRequestToken: call_id,
      ExternalMeetingId: call_id,
      MediaRegion: MEDIA_REGION,
      Attendees: [{ ExternalUserId: callerId }],
    }),
  );
  const publisher = await opening;
  await publisher.publish({
    v: 1,
    event: "ring",
    event_id: eventId(`${call_id}/ring`),
    call_id,
    sent_at: new Date(sentAt).toISOString(),
    expires_at: new Date(sentAt + RING_SECONDS * 1_000).toISOString(),
    media,
    caller: { id: callerId, name: caller?.name, avatar_url: caller?.avatar_url },
    callee: { id: callee_id },
    profile: "chime",
    // Never the join token: it lets anybody into the call. The app asks for
    // its own with "join" once the call is answered.
    data: { meeting_id: Meeting.MeetingId, media_region: Meeting.MediaRegion },
    devices: callee.devices,
  });
  return answer(201, { call_id, meeting: Meeting, attendee: Attendees[0] });
}

async function join(userId, { call_id, meeting_id, device_id }, opening) {
  const { Attendee } = await chime.send(
    new CreateAttendeeCommand({ MeetingId: meeting_id, ExternalUserId: userId }),
  );
  // Her other phones stop ringing.
  const user = await findUser(userId);
  const others = user?.devices.filter((device) => device.id !== device_id) ?? [];
  if (others.length) {
    await (await opening).publish(cancellation(call_id, "answered_elsewhere", others));
  }
  return answer(201, { attendee: Attendee });
}

async function cancel(_callerId, { call_id, meeting_id, callee_id }, opening) {
  const callee = await findUser(callee_id);
  await (await opening).publish(cancellation(call_id, "caller_hangup", callee?.devices));
  await chime.send(new DeleteMeetingCommand({ MeetingId: meeting_id }));
  return answer(204);
}

function cancellation(call_id, reason, devices) {
  return {
    v: 1,
    event: "cancel",
    event_id: eventId(`${call_id}/${reason}`),
    call_id,
    sent_at: new Date().toISOString(),
    reason,
    profile: "chime",
    devices,
  };
}

function answer(statusCode, body) {
  return {
    statusCode,
    headers: { "content-type": "application/json" },
    body: body && JSON.stringify(body),
  };
}
