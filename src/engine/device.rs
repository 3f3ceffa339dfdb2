//! One device's part of an event: its push, its outcome, its token's verdict.

use std::sync::Arc;

use tracing::Instrument as _;
use uuid::Uuid;

use super::calls::RingState;
use super::deadline::wall_clock;
use super::dispatch::Dispatcher;
use super::flights::Entered;
use super::journey::{Parcel, Trip};
use super::taken::Taken;
use super::verdict::{Finding, TokenFacts, judge};
use crate::call::event::{Device, Event};
use crate::call::ids::push_id;
use crate::call::outcome::{PushResult, ReportBody, TokenEvent};
use crate::call::payload::CancelMode;
use crate::call::push::PushKind;
use crate::metrics::TokenLabels;
use crate::spans;

/// What came of one device.
#[derive(Debug)]
pub enum Done {
    /// It is final and reported.
    Final(PushResult),
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
            let (result, unclear) = self.deliver(taken, device, id, &parcel).await;
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
            call.end_ring(&device.id, event.sent_at, state);
            // It rings although the caller gave up while the push was on its
            // way: nobody else knows, so the cancel is pushed from here.
            if state != RingState::NotSent
                && let Some(cancel) = call.cancel_to_push(&device.id, event.sent_at)
            {
                self.push_cancel(&cancel, &device.id, taken).await;
            }
            result
        })
        .await
    }

    /// Whether this ring's cancel has to say again what the ring said.
    fn repeats_ring(&self, event: &Event, device: &Device) -> bool {
        let direction = self.routes().find(event.profile.as_ref(), device);
        direction.is_ok_and(|direction| direction.cancel == CancelMode::Voip)
    }

    /// Does the work unless it is done or under way already.
    pub(super) async fn once(
        &self,
        taken: &Taken,
        device: &Device,
        work: impl AsyncFnOnce(Uuid) -> PushResult,
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
        let span = spans::push(&device.app, device.platform.name(), &device.id, id);
        let result = work(id).instrument(span).await;
        self.finished.insert(id, result);
        flight.land(result);
        Done::Final(result)
    }

    /// Sends a push over its route and reports how that ended. The second
    /// value tells whether the phone may have got it all the same.
    pub(super) async fn deliver(
        &self,
        taken: &Taken,
        device: &Device,
        id: Uuid,
        parcel: &Parcel<'_>,
    ) -> (PushResult, bool) {
        let trail = self.history.open(taken.subject(device, Some(parcel.token)));
        let direction = match self.routes().find(taken.event.profile.as_ref(), device) {
            Ok(direction) => direction,
            Err(none) => {
                let finding = Finding::new(PushResult::Rejected, none.reason)
                    .explained(Some(none.detail.to_owned()));
                let result = finding.result;
                self.report(taken, device, None, finding, (0, &trail));
                return (result, false);
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
        self.report(taken, device, environment, finding, course);
        if let Some(body) = token {
            self.publish(taken, body);
        }
        (result, ending.unclear)
    }
}
