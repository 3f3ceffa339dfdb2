//! One device's part of an event: its push, its outcome, its token's verdict.

use std::sync::Arc;
use std::time::Instant;

use super::calls::RingState;
use super::deadline::{Deadline, wall_clock};
use super::dispatch::Dispatcher;
use super::flights::Entered;
use super::history::Subject;
use super::journey::{Parcel, Trip};
use super::routes::{Direction, NoRoute};
use super::verdict::{Finding, TokenFacts, judge};
use crate::call::event::{Action, Data, Device, Event, Platform};
use crate::call::ids::push_id;
use crate::call::outcome::{PushResult, Receipt, ReportBody, TokenEvent, TraceContext};
use crate::call::payload::CancelMode;
use crate::call::push::PushKind;
use crate::call::secret::Secret;
use crate::call::time::Timestamp;
use crate::metrics::TokenLabels;

/// An event as it was taken from its queue.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The event.
    pub event: Arc<Event>,
    /// Its deadline on our clock.
    pub deadline: Deadline,
    /// When it was taken, on the wall clock.
    pub at: Timestamp,
    /// The same on our own clock.
    pub instant: Instant,
    /// The trace that it belongs to.
    pub trace: Arc<TraceContext>,
}

impl Taken {
    /// What the history is told of a push.
    fn subject(&self, device: &Device, token: Option<&Secret>) -> Subject {
        Subject {
            device_id: Some(Arc::clone(&device.id)),
            app: Some(Arc::clone(&device.app)),
            platform: device.platform,
            token: token.map(Secret::shortened),
            ..self.subject_of_event()
        }
    }

    pub(super) fn subject_of_event(&self) -> Subject {
        Subject {
            event_id: self.event.event_id,
            kind: self.event.kind(),
            call_id: Arc::clone(&self.event.call_id),
            device_id: None,
            app: None,
            platform: Platform::Unknown,
            token: None,
            sent_at: self.event.sent_at,
            taken_at: self.at,
            deadline: self.deadline.at(),
            trace_id: self.trace.trace_id().map(str::to_owned),
        }
    }
}

/// What came of one device.
#[derive(Debug)]
pub enum Done {
    /// It is final, and these reports say so.
    Final(PushResult, Vec<Receipt>),
    /// It is or was made final by another message.
    Elsewhere(PushResult),
    /// There was nothing to send and nothing to report.
    Nothing,
    /// The one who did it gave up half-way: the message must stay.
    Unfinished,
}

impl Dispatcher {
    /// Rings one device, once.
    pub(super) async fn ring(&self, taken: &Taken, device: &Arc<Device>) -> Done {
        let event = &taken.event;
        self.once(taken, device, async |id| {
            let call = self.calls.get(&event.call_id);
            let kept = self.repeats_ring(event, device).then_some(event);
            call.begin_ring(&device.id, event.sent_at, kept);
            let parcel = Parcel {
                kind: PushKind::Call,
                token: &device.token,
                call: Some(&call),
            };
            let (result, unclear, mut receipts) = self.deliver(taken, device, id, &parcel).await;
            let state = match result {
                PushResult::Accepted => RingState::Accepted,
                PushResult::DeadToken
                | PushResult::SuspectToken
                | PushResult::Rejected
                | PushResult::CredentialFault
                | PushResult::Expired
                | PushResult::Cancelled => {
                    if unclear {
                        RingState::Unclear
                    } else {
                        RingState::NotSent
                    }
                }
            };
            call.end_ring(&device.id, state);
            // It rings although the caller gave up while the push was on its
            // way: nobody else knows, so the cancel is pushed from here.
            if state != RingState::NotSent
                && let Some(cancel) = call.cancel_to_push(&device.id, event.sent_at)
                && let Done::Final(_, more) =
                    self.push_cancel(&cancel, &device.id, &taken.trace).await
            {
                receipts.extend(more);
            }
            (result, receipts)
        })
        .await
    }

    /// Pushes a cancel to one of the devices that it lists.
    async fn push_cancel(
        &self,
        cancel: &Arc<Event>,
        device: &str,
        trace: &Arc<TraceContext>,
    ) -> Done {
        let listed = cancel
            .devices()
            .iter()
            .find_map(|entry| match &entry.device {
                Ok(listed) if &*listed.id == device => Some(listed),
                Ok(_) | Err(_) => None,
            });
        match listed {
            Some(listed) => {
                let taken = Taken::now(Arc::clone(cancel), Arc::clone(trace), self.ring.max_ttl);
                Box::pin(self.cancel(&taken, listed)).await
            }
            None => Done::Nothing,
        }
    }

    /// Whether this ring's cancel has to say again what the ring said.
    fn repeats_ring(&self, event: &Event, device: &Device) -> bool {
        let direction = self.routes().find(event.profile.as_ref(), device);
        direction.is_ok_and(|direction| direction.cancel == CancelMode::Voip)
    }

    /// Where a cancel goes: by its own profile, or by its ring's.
    pub(super) fn cancel_direction(
        &self,
        cancel: &Event,
        device: &Device,
    ) -> Result<Direction, NoRoute> {
        let ring = self.calls.get(&cancel.call_id).own_ring(&device.id);
        let profile = cancel
            .profile
            .as_ref()
            .or(ring.as_ref().and_then(|ring| ring.profile.as_ref()));
        self.routes().find(profile, device)
    }

    /// Pushes a cancel to one device, once, if the phone may be ringing.
    pub(super) async fn cancel(&self, taken: &Taken, device: &Arc<Device>) -> Done {
        let direction = self.cancel_direction(&taken.event, device);
        let mode = direction
            .as_ref()
            .map_or(CancelMode::None, |direction| direction.cancel);
        if direction.is_ok_and(|direction| !direction.pushes_cancel) {
            return Done::Nothing;
        }
        let call = self.calls.get(&taken.event.call_id);
        let own_ring = call.ring(&device.id, taken.event.sent_at);
        let own_ring = tokio::time::timeout_at(taken.deadline.instant(), own_ring).await;
        let own_ring = own_ring.unwrap_or(Some(RingState::Unclear));
        // A phone that got nothing, or a later ring only, has nothing to stop;
        // and a VoIP cancel where no ring came before would ring by itself.
        let pointless = own_ring == Some(RingState::NotSent)
            || (mode == CancelMode::Voip && own_ring != Some(RingState::Accepted));
        if pointless {
            return Done::Nothing;
        }
        let ring = call.own_ring(&device.id);
        if let Some(ring) = ring.filter(|_| mode == CancelMode::Voip) {
            let (event, device) = repeated(&taken.event, &ring, device);
            let mut taken = taken.clone();
            taken.event = Arc::new(event);
            return self.push_cancel_to(&taken, &device, mode).await;
        }
        self.push_cancel_to(taken, device, mode).await
    }

    async fn push_cancel_to(&self, taken: &Taken, device: &Arc<Device>, mode: CancelMode) -> Done {
        self.once(taken, device, async |id| {
            let (kind, token) = match (device.platform, mode) {
                (Platform::Ios, CancelMode::Background) => {
                    (PushKind::Background, device.background_token())
                }
                _ => (PushKind::Call, Ok(&device.token)),
            };
            let token = match token {
                Ok(token) => token,
                Err((reason, detail)) => {
                    let finding =
                        Finding::new(PushResult::Rejected, reason).explained(Some(detail));
                    let trail = self.history.open(taken.subject(device, None));
                    let receipts = self.report(taken, device, None, finding, (0, &trail));
                    return (PushResult::Rejected, receipts);
                }
            };
            let parcel = Parcel {
                kind,
                token,
                call: None,
            };
            let (result, _, receipts) = self.deliver(taken, device, id, &parcel).await;
            (result, receipts)
        })
        .await
    }

    /// Does the work unless it is done or under way already.
    async fn once(
        &self,
        taken: &Taken,
        device: &Device,
        work: impl AsyncFnOnce(uuid::Uuid) -> (PushResult, Vec<Receipt>),
    ) -> Done {
        let id = push_id(taken.event.event_id, &device.id);
        let flight = match self.under_way.enter(&id) {
            Entered::First(flight) => flight,
            Entered::Second(landing) => {
                return landing
                    .wait()
                    .await
                    .map_or(Done::Unfinished, Done::Elsewhere);
            }
        };
        if let Some(result) = self.finished.get(&id) {
            flight.land(result);
            return Done::Elsewhere(result);
        }
        let (result, receipts) = work(id).await;
        self.finished.insert(id, result);
        flight.land(result);
        Done::Final(result, receipts)
    }

    /// Sends a push over its route and reports how that ended. The second
    /// value tells whether the phone may have got it all the same.
    async fn deliver(
        &self,
        taken: &Taken,
        device: &Device,
        id: uuid::Uuid,
        parcel: &Parcel<'_>,
    ) -> (PushResult, bool, Vec<Receipt>) {
        let trail = self.history.open(taken.subject(device, Some(parcel.token)));
        let direction = match self.routes().find(taken.event.profile.as_ref(), device) {
            Ok(direction) => direction,
            Err(none) => {
                let finding = Finding::new(PushResult::Rejected, none.reason)
                    .explained(Some(none.detail.to_owned()));
                return (
                    finding.result,
                    false,
                    self.report(taken, device, None, finding, (0, &trail)),
                );
            }
        };
        let trip = self
            .travel(taken, device, id, parcel, &direction, &trail)
            .await;
        let facts = TokenFacts {
            token: parcel.token,
            registered_at: device.registered_at,
            ordinary: parcel.kind == PushKind::Background,
        };
        let Trip {
            route,
            environment,
            ending,
            finding,
        } = trip;
        let finding = finding.unwrap_or_else(|| judge(&ending, &route, facts));
        if let Some(verdict) = finding.token {
            let labels = TokenLabels {
                platform: device.platform.name(),
                verdict: verdict.name(),
            };
            self.metrics.tokens.get_or_create(&labels).inc();
        }
        let token = finding.token.map(|verdict| {
            ReportBody::Token(TokenEvent {
                at: wall_clock(),
                verdict,
                reason: finding.reason.clone(),
                app: Arc::clone(&device.app),
                platform: device.platform,
                environment,
                device_id: Arc::clone(&device.id),
                token: parcel.token.clone(),
                registered_at: device.registered_at,
                provider_timestamp: finding.provider_timestamp,
            })
        });
        let result = finding.result;
        let course = (ending.attempts, &trail);
        let mut receipts = self.report(taken, device, environment, finding, course);
        receipts.extend(token.map(|body| self.publish(taken, body)));
        (result, ending.unclear, receipts)
    }
}

/// A cancel that also says what its ring said, for an app to which it comes as
/// a second `VoIP` push: that must be complete, or the phone rings a ghost.
/// The cancel's own words win, but not against the ring's UUID. A ring that was
/// sealed is not repeated in clear.
fn repeated(cancel: &Event, ring: &Event, device: &Arc<Device>) -> (Event, Arc<Device>) {
    let mut event = cancel.clone();
    event.call_uuid = ring.call_uuid;
    event.profile = cancel.profile.clone().or_else(|| ring.profile.clone());
    let rung = ring
        .devices()
        .iter()
        .filter_map(|entry| entry.device.as_ref().ok())
        .find(|rung| rung.id == device.id);
    let Some(rung) = rung.filter(|rung| rung.sealed.is_none()) else {
        return (event, Arc::clone(device));
    };
    event.media = ring.media;
    event.action = Action::Cancel {
        caller: cancel.caller().or(ring.caller()).cloned(),
        reason: cancel.reason(),
    };
    event.callee = cancel.callee.clone().or_else(|| ring.callee.clone());
    event.conversation = cancel
        .conversation
        .clone()
        .or_else(|| ring.conversation.clone());
    let mut data = (*rung.data.0).clone();
    for (key, value) in device.data.0.iter() {
        data.insert(key.clone(), value.clone());
    }
    let mut device = Device::clone(device);
    device.data = Data(Arc::new(data));
    (event, Arc::new(device))
}
