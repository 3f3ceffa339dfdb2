//! One device's part of an event: its push, once, until it is final.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::timeout_at;
use tracing::Instrument as _;
use uuid::Uuid;

use super::cancels::{listed, repeating};
use super::environments::Environments;
use super::received::Received;
use super::reporter::{Ended, Reporter};
use crate::call::event::{BadDevice, Device, Event, Platform};
use crate::call::ids::push_id;
use crate::call::outcome::PushResult;
use crate::call::payload::{CancelMode, Payload, PayloadError};
use crate::call::push::PushKind;
use crate::call::receipt::Receipts;
use crate::call::secret::Secret;
use crate::call::time::Timestamp;
use crate::engine::calls::{Calls, DeviceKey, RingState, RingUnderWay};
use crate::engine::push::{Push, Refusal};
use crate::engine::recent::Recent;
use crate::engine::routes::{NoRoute, Route};
use crate::engine::tokens::{Finding, TokenFacts, judge};
use crate::spans;

/// The most finished pushes remembered, for messages that come twice.
const MAX_FINISHED: usize = 200_000;

/// For how long: a message that the broker keeps while it is away may come
/// again long after its ring.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// Makes each device of an event final, once.
pub(super) struct Pushes {
    pub(super) reporter: Reporter,
    calls: Arc<Calls>,
    /// Pushes under way and those that are final, by their id. Whoever comes
    /// second waits for the first.
    once: Recent<Uuid, Arc<OnceCell<Final>>>,
    environments: Environments,
}

/// A push that is final.
#[derive(Debug)]
struct Final {
    result: PushResult,
    /// Of the message that made it final.
    receipts: Receipts,
}

/// What came of one device.
#[derive(Debug)]
pub(super) enum Done {
    /// It is final and reported.
    Final(PushResult),
    /// It is or was made final by another message, whose reports are these.
    Elsewhere(PushResult, Receipts),
    /// There was nothing to send and nothing to report.
    Nothing,
}

/// What is pushed, and whom to.
struct Message<'a> {
    kind: PushKind,
    token: &'a Secret,
    ring: Option<&'a RingUnderWay>,
}

impl Pushes {
    pub(super) fn new(calls: Arc<Calls>, reporter: Reporter) -> Self {
        Self {
            calls,
            reporter,
            once: Recent::new(MAX_FINISHED, REMEMBERED),
            environments: Environments::default(),
        }
    }

    /// Reports a device that cannot be pushed to.
    pub(super) async fn reject(&self, event: &Received, bad: &BadDevice) -> Done {
        // It may have no id, but its place in the event is one.
        let place = format!("\0{}\0{}", bad.id.as_deref().unwrap_or_default(), bad.error);
        self.once(event, push_id(event.event.event_id, &place), async {
            self.reporter.reject(event, bad);
            PushResult::Rejected
        })
        .await
    }

    /// Rings one device.
    pub(super) async fn ring(&self, event: &Received, device: &Device) -> Done {
        let id = push_id(event.event.event_id, &device.id);
        let span = spans::push(&device.app, device.platform.name(), &device.id, id);
        // Pinned here: passed on by value it would be copied, kilobytes at a time.
        let ringing = pin!(
            async {
                let route = event.routes.find(event.event.profile.as_ref(), device);
                // Its cancel may have to say again what the ring said.
                let repeated = route.is_ok_and(|route| route.cancel == CancelMode::Voip);
                let kept = repeated.then(|| (Arc::clone(&event.event), event.bytes));
                if repeated {
                    self.calls.keep(event.bytes);
                }
                let key = self.calls.device(&device.id);
                let ring = event.call.begin_ring(key, event.event.sent_at, kept);
                let message = Message {
                    kind: PushKind::Call,
                    token: &device.token,
                    ring: Some(&ring),
                };
                let (result, unclear) = self.push(event, device, id, route, message).await;
                let state = if result == PushResult::Accepted {
                    RingState::Accepted
                } else if unclear {
                    RingState::Unclear
                } else {
                    RingState::NotSent
                };
                if let Some(cancel) = ring.end(state)
                    && let Some(device) = listed(&cancel, &device.id)
                {
                    let cancel = event.cancelled_by(&cancel);
                    Box::pin(self.cancel(&cancel, device)).await;
                }
                result
            }
            .instrument(span)
        );
        self.once(event, id, ringing).await
    }

    /// Pushes a cancel to one device, if the phone may be ringing.
    pub(super) async fn cancel(&self, event: &Received, device: &Arc<Device>) -> Done {
        let (cancel, key) = (&event.event, self.calls.device(&device.id));
        let route = cancel_route(event, device, key);
        let mode = route.map_or(CancelMode::None, |route| route.cancel);
        if route.is_ok_and(|route| !route.pushes_cancel) {
            return Done::Nothing;
        }
        let own_ring = event.call.ring_end(key, cancel.sent_at);
        let own_ring = timeout_at(event.deadline.instant(), own_ring).await;
        let own_ring = own_ring.unwrap_or(Some(RingState::Unclear));
        // A phone that got nothing, or a later ring only, has nothing to stop;
        // and a VoIP cancel where no ring came before would ring by itself.
        let pointless = own_ring == Some(RingState::NotSent)
            || (mode == CancelMode::Voip && own_ring != Some(RingState::Accepted));
        if pointless {
            return Done::Nothing;
        }
        let ring = event.call.own_ring(key, cancel.sent_at);
        if let Some(ring) = ring.filter(|_| mode == CancelMode::Voip) {
            let (whole, device) = repeating(cancel, &ring, device);
            let event = Received {
                event: Arc::new(whole),
                ..event.clone()
            };
            return self.push_cancel(&event, &device, mode).await;
        }
        self.push_cancel(event, device, mode).await
    }

    /// Whether this worker has rung a device by a profile that cancels with a
    /// second `VoIP` push: then nobody else can push that cancel.
    pub(super) fn owes_voip_cancel(&self, event: &Received, device: &Device) -> bool {
        let key = self.calls.device(&device.id);
        event.call.knows_ring(key)
            && cancel_route(event, device, key).is_ok_and(|r| r.cancel == CancelMode::Voip)
    }

    async fn push_cancel(&self, event: &Received, device: &Arc<Device>, mode: CancelMode) -> Done {
        let id = push_id(event.event.event_id, &device.id);
        let span = spans::push(&device.app, device.platform.name(), &device.id, id);
        let pushing = pin!(
            async {
                let (kind, token) = match (device.platform, mode) {
                    (Platform::Ios, CancelMode::Background) => {
                        (PushKind::Background, device.background_token())
                    }
                    _ => (PushKind::Call, Ok(&device.token)),
                };
                let token = match token {
                    Ok(token) => token,
                    Err((reason, detail)) => {
                        let finding = Finding::new(PushResult::Rejected, reason);
                        let finding = finding.explained(Some(detail));
                        return self.refuse(event, device, None, finding);
                    }
                };
                let message = Message {
                    kind,
                    token,
                    ring: None,
                };
                let route = event.routes.find(event.event.profile.as_ref(), device);
                self.push(event, device, id, route, message).await.0
            }
            .instrument(span)
        );
        self.once(event, id, pushing).await
    }

    /// Does the work of a push unless it is done or under way already.
    async fn once(
        &self,
        event: &Received,
        id: Uuid,
        work: impl Future<Output = PushResult>,
    ) -> Done {
        let (push, _) = self.once.get_or_insert_with(id, Arc::default);
        let mut own = false;
        let making = async || {
            own = true;
            Final {
                result: work.await,
                receipts: event.receipts.clone(),
            }
        };
        let done = push.get_or_init(making).await;
        if own {
            Done::Final(done.result)
        } else {
            Done::Elsewhere(done.result, done.receipts.clone())
        }
    }

    /// Sends a push over its route and reports how that ended. The second
    /// value tells whether the phone may have got it all the same.
    async fn push(
        &self,
        event: &Received,
        device: &Device,
        id: Uuid,
        route: Result<Route<'_>, NoRoute>,
        message: Message<'_>,
    ) -> (PushResult, bool) {
        let route = match route {
            Ok(route) => route,
            Err(none) => {
                let finding = Finding::new(PushResult::Rejected, none.reason)
                    .explained(Some(none.detail.to_owned()));
                let token = Some(message.token);
                return (self.refuse(event, device, token, finding), false);
            }
        };
        let subject = event.subject(device, Some(message.token));
        let trail = self.reporter.history.open(subject);
        let render = |now: Timestamp| render(&route, &event.event, device, now);
        let push = Push {
            id,
            call_id: &event.event.call_id,
            trace_id: event.trace.trace_id(),
            kind: message.kind,
            token: message.token,
            target: device.target,
            deadline: event.deadline,
            ring: message.ring,
            second_guess: false,
            trail: &trail,
            render: &render,
        };
        let sent = self.environments.send(push, route.target).await;
        let facts = TokenFacts {
            token: message.token,
            registered_at: device.registered_at,
            ordinary: message.kind == PushKind::Background,
        };
        let finding = sent
            .finding
            .unwrap_or_else(|| judge(&sent.push, &sent.lane.brake, facts));
        let result = finding.result;
        self.reporter
            .token(event, device, message.token, sent.environment, &finding);
        let ended = Ended {
            lane: Some(sent.lane),
            environment: sent.environment,
            attempts: sent.push.attempts,
            finding,
        };
        self.reporter.ended(event, device, ended, trail);
        (result, sent.push.unclear)
    }

    /// Reports a push that no lane was asked for.
    fn refuse(
        &self,
        event: &Received,
        device: &Device,
        token: Option<&Secret>,
        finding: Finding,
    ) -> PushResult {
        let trail = self.reporter.history.open(event.subject(device, token));
        let result = finding.result;
        let ended = Ended {
            lane: None,
            environment: None,
            attempts: 0,
            finding,
        };
        self.reporter.ended(event, device, ended, trail);
        result
    }
}

/// Where a cancel goes: by its own profile, or by its ring's.
fn cancel_route<'a>(
    event: &'a Received,
    device: &Device,
    key: DeviceKey,
) -> Result<Route<'a>, NoRoute> {
    let cancel = &event.event;
    if cancel.profile.is_some() {
        return event.routes.find(cancel.profile.as_ref(), device);
    }
    let ring = event.call.own_ring(key, cancel.sent_at);
    let profile = ring.as_ref().and_then(|ring| ring.profile.as_ref());
    event.routes.find(profile, device)
}

fn render(
    route: &Route<'_>,
    event: &Event,
    device: &Device,
    now: Timestamp,
) -> Result<Payload, Refusal> {
    route
        .profile
        .render_by(event, device, now, route.cancel)
        .map_err(|error: PayloadError| Refusal {
            reason: error.reason(),
            detail: error.to_string(),
        })
}
