//! From a judgement and the script to what is really done.

use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use http::header::{AUTHORIZATION, DATE};
use http::request::Parts;

use super::accounts::Environment;
use super::exchange::{Judged, Reply, Scripted};
use super::record::{Answer, Record};
use super::script::{Body, Effect, Step};
use super::{ServerKind, World, apns, fcm, oauth};

/// What to do with a request.
pub(super) struct Plan {
    pub(super) delay: Option<Duration>,
    pub(super) body: Body,
    pub(super) act: Act,
}

/// See [`Effect`].
pub(super) enum Act {
    Reply(Reply),
    Hang,
    Reset(u32),
    TcpReset,
    GoAway {
        processed: bool,
        reason: String,
        reply: Reply,
    },
    BlackHole,
    MaxStreams(u32, Reply),
    Refuse(Duration, Reply),
    Outage(Duration),
}

/// Where a request came in.
pub(super) struct Place {
    pub(super) server: ServerKind,
    pub(super) connection: u64,
    pub(super) stream: u32,
}

/// [`Plan`] of a request, its answer dated by the service's clock.
pub(super) fn decide(world: &World, server: ServerKind, judged: &mut Judged) -> Plan {
    let mut plan = scripted(world, server, judged);
    match &mut plan.act {
        Act::Reply(reply)
        | Act::GoAway { reply, .. }
        | Act::MaxStreams(_, reply)
        | Act::Refuse(_, reply) => {
            let date = world.accounts.clock.date();
            reply.headers.extend(date.map(|date| (DATE, date)));
        }
        Act::Hang | Act::Reset(_) | Act::TcpReset | Act::BlackHole | Act::Outage(_) => {}
    }
    plan
}

/// Asks the script, for a request that is right by the rules, and says what is
/// done and how it goes on record.
fn scripted(world: &World, server: ServerKind, judged: &mut Judged) -> Plan {
    let step = if judged.sound {
        world.player.request(server, judged.token.as_deref())
    } else {
        None
    };
    let Some(Step {
        effect,
        delay,
        body,
        ..
    }) = step
    else {
        return Plan {
            delay: None,
            body: Body::Whole,
            act: Act::Reply(judged.reply.clone()),
        };
    };
    let fault = match &effect {
        Effect::Hang => Some("hang"),
        Effect::Reset(_) => Some("reset"),
        Effect::TcpReset => Some("tcp_reset"),
        Effect::GoAway {
            processed: false, ..
        } => Some("goaway"),
        Effect::BlackHole => Some("black_hole"),
        Effect::Outage(_) => Some("outage"),
        Effect::Honest
        | Effect::Answer { .. }
        | Effect::GoAway {
            processed: true, ..
        }
        | Effect::MaxStreams(_)
        | Effect::Stall
        | Effect::Refuse(_) => (body == Body::Never).then_some("headers_then_hang"),
    };
    let act = act(server, effect, judged);
    if let Some(fault) = fault {
        let id = judged.answer.id.take();
        judged.answer = Answer {
            fault: Some(fault),
            id,
            ..Answer::default()
        };
    }
    Plan { delay, body, act }
}

fn act(server: ServerKind, effect: Effect, judged: &mut Judged) -> Act {
    let reply = judged.reply.clone();
    match effect {
        Effect::Honest | Effect::Stall => Act::Reply(reply),
        Effect::Answer {
            status,
            reason,
            timestamp,
            retry_after,
            body,
        } => {
            let asked = Scripted {
                status,
                reason: reason.as_deref(),
                timestamp,
                retry_after,
                body: body.as_deref(),
            };
            let reply = match server {
                ServerKind::ApnsProduction => {
                    apns::scripted(judged, Environment::Production, &asked)
                }
                ServerKind::ApnsSandbox => apns::scripted(judged, Environment::Sandbox, &asked),
                ServerKind::Fcm => fcm::scripted(judged, &asked),
                ServerKind::Oauth => oauth::scripted(judged, &asked),
            };
            judged.answer.status = Some(status);
            judged.answer.delivered = status == 200 && server != ServerKind::Oauth;
            judged.answer.reason = reason;
            Act::Reply(reply)
        }
        Effect::Hang => Act::Hang,
        Effect::Reset(code) => Act::Reset(code),
        Effect::TcpReset => Act::TcpReset,
        Effect::GoAway { processed, reason } => Act::GoAway {
            processed,
            reason,
            reply,
        },
        Effect::BlackHole => Act::BlackHole,
        Effect::MaxStreams(limit) => Act::MaxStreams(limit, reply),
        Effect::Refuse(time) => Act::Refuse(time, reply),
        Effect::Outage(time) => Act::Outage(time),
    }
}

/// Puts a judged request on record.
pub(super) fn record(world: &World, place: &Place, head: Parts, body: Bytes, judged: Judged) {
    let mut headers = head.headers;
    headers.remove(AUTHORIZATION);
    world.journal.push(Record {
        at: Utc::now(),
        server: place.server,
        connection: place.connection,
        stream: place.stream,
        method: head.method,
        path: head.uri.path().to_owned(),
        headers,
        claims: judged.claims,
        // The assertion in a token request is a credential.
        body: if place.server == ServerKind::Oauth {
            Bytes::new()
        } else {
            body
        },
        token: judged.token,
        push_id: judged.push_id,
        violations: judged.violations,
        answer: judged.answer,
    });
}
