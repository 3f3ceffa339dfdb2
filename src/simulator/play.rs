//! From a judgement and the script to what is really done.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use http::header::{AUTHORIZATION, DATE};
use http::request::Parts;

use super::control::{Control, Mode};
use super::exchange::{Judged, Reply};
use super::kind::ServerKind;
use super::record::{Answer, Record};
use super::script::{Body, Effect, Step};
use super::world::World;
use super::{apns, fcm_errors, oauth};

/// What a connection knows of its server.
pub(super) struct Endpoint {
    pub(super) kind: ServerKind,
    pub(super) world: Arc<World>,
    /// Refuses new connections for so long, and with `true` resets those there
    /// are.
    pub(super) interrupt: Box<dyn Fn(Duration, bool) + Send + Sync>,
}

/// What to do with a request.
pub(super) struct Decision {
    pub(super) delay: Option<Duration>,
    pub(super) effect: Effect,
    /// Unless the effect is that there is none.
    pub(super) reply: Reply,
    pub(super) body: Body,
}

/// Where a request came in.
pub(super) struct Place {
    pub(super) connection: u64,
    pub(super) stream: u32,
}

impl Endpoint {
    /// Asks the script, for a request that is right by the rules, and says what
    /// is done and how it goes on record. The answer is dated by the service's
    /// clock.
    pub(super) fn decide(&self, judged: &mut Judged) -> Decision {
        let token = judged.token.as_deref();
        let step = judged
            .sound
            .then(|| self.world.player.request(self.kind, token));
        let step = step.flatten().unwrap_or_else(|| Step::new(Effect::Honest));
        let Step {
            effect,
            delay,
            body,
            ..
        } = step;
        let mut reply = self.reply(&effect, judged);
        reply
            .headers
            .extend(self.world.accounts.date().map(|date| (DATE, date)));
        let unfinished = (body == Body::Never).then_some("headers_then_hang");
        if let Some(fault) = effect.fault().or(unfinished) {
            judged.answer = Answer {
                fault: Some(fault),
                id: judged.answer.id.take(),
                ..Answer::default()
            };
        }
        Decision {
            delay,
            effect,
            reply,
            body,
        }
    }

    /// The answer by the server's own rules, or the one that the script wants,
    /// in the provider's form.
    fn reply(&self, effect: &Effect, judged: &mut Judged) -> Reply {
        let Effect::Answer {
            status,
            reason,
            timestamp,
            retry_after,
            body,
        } = effect
        else {
            return judged.reply.clone();
        };
        let (status, word) = (*status, reason.as_deref());
        let apple = self.kind.environment();
        let reply = match (body, apple) {
            (Some(body), _) => Reply::new(status, body.clone()),
            (None, Some(_)) => apns::error(status, word, *timestamp),
            (None, None) if status < 300 => Reply {
                status,
                ..judged.reply.clone()
            },
            (None, None) if self.kind == ServerKind::Oauth => oauth::error(status, word),
            (None, None) => fcm_errors::scripted(status, word),
        };
        let id = judged.answer.id.clone().unwrap_or_default();
        judged.answer.status = Some(status);
        judged.answer.delivered = status == 200 && self.kind != ServerKind::Oauth;
        judged.answer.reason.clone_from(reason);
        let reply = match apple {
            Some(environment) => apns::with_ids(reply, &id, environment),
            None => reply,
        };
        reply.retry_after(*retry_after)
    }

    /// What an effect does to the connection and the server; whether the
    /// request is answered all the same.
    pub(super) fn apply(&self, effect: &Effect, control: &Control) -> bool {
        match effect {
            Effect::Refuse(time) => (self.interrupt)(*time, false),
            Effect::Outage(time) => (self.interrupt)(*time, true),
            Effect::TcpReset => control.set_mode(Mode::Killed),
            Effect::BlackHole => control.set_mode(Mode::BlackHole),
            Effect::Honest
            | Effect::Answer { .. }
            | Effect::Hang
            | Effect::Reset(_)
            | Effect::GoAway { .. }
            | Effect::MaxStreams(_)
            | Effect::Stall => {}
        }
        effect.fault().is_none()
    }

    /// Puts a judged request on record.
    pub(super) fn record(&self, place: &Place, head: Parts, body: Bytes, judged: Judged) {
        if let (ServerKind::Fcm, true, Some(token)) =
            (self.kind, judged.answer.delivered, &judged.token)
        {
            self.world.accounts.delivered(token);
        }
        let mut headers = head.headers;
        headers.remove(AUTHORIZATION);
        // The assertion in a token request is a credential.
        let secret = self.kind == ServerKind::Oauth;
        self.world.journal.push(Record {
            at: Utc::now(),
            server: self.kind,
            connection: place.connection,
            stream: place.stream,
            method: head.method,
            path: head.uri.path().to_owned(),
            headers,
            claims: judged.claims,
            body: if secret { Bytes::new() } else { body },
            token: judged.token,
            push_id: judged.push_id,
            violations: judged.violations,
            answer: judged.answer,
        });
    }
}
