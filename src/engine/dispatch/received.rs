//! An event that was taken from its queue, with the times that count for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::Span;

use crate::call::event::{Device, Event, Platform};
use crate::call::outcome::TraceContext;
use crate::call::receipt::Receipts;
use crate::call::secret::Secret;
use crate::call::time::Timestamp;
use crate::engine::calls::Call;
use crate::engine::deadline::{Deadline, wall_clock};
use crate::engine::history::Subject;
use crate::engine::routes::Routes;
use crate::spans;

/// An event as it was taken from its queue, and what is looked up once for all
/// of its devices.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) event: Arc<Event>,
    /// Of the message's body.
    pub(super) bytes: usize,
    /// Its deadline on our clock.
    pub(super) deadline: Deadline,
    /// When it was taken, on the wall clock.
    pub(super) at: Timestamp,
    /// The same on our own clock.
    pub(super) instant: Instant,
    /// The trace that it belongs to.
    pub(super) trace: Arc<TraceContext>,
    /// The reports of its message.
    pub(super) receipts: Receipts,
    /// Its call.
    pub(super) call: Arc<Call>,
    /// The routes as they stood when it was taken.
    pub(super) routes: Arc<Routes>,
}

/// The event with an end that is at most `max_ttl` from `now`, however far in
/// the future it was sent.
pub(super) fn clamped(mut event: Event, now: Timestamp, max_ttl: Duration) -> Event {
    event.expires_at = event.expires_at.min(now.plus(max_ttl));
    event
}

impl Received {
    /// An event that was taken just now.
    pub(super) fn new(
        event: Arc<Event>,
        bytes: usize,
        at: Timestamp,
        trace: Arc<TraceContext>,
        call: Arc<Call>,
        routes: Arc<Routes>,
    ) -> Self {
        Self {
            deadline: Deadline::new(event.expires_at, at),
            event,
            bytes,
            at,
            instant: Instant::now(),
            trace,
            receipts: Receipts::default(),
            call,
            routes,
        }
    }

    /// The span in which it is handled.
    pub(super) fn span(&self) -> Span {
        let event = &self.event;
        let devices = event.devices().len();
        spans::event(event.kind().name(), &event.call_id, event.event_id, devices)
    }

    /// A cancel that was kept for one of this ring's devices; its reports are
    /// this message's.
    pub(super) fn cancelled_by(&self, cancel: &Arc<Event>) -> Self {
        let at = wall_clock();
        Self {
            event: Arc::clone(cancel),
            deadline: Deadline::new(cancel.expires_at, at),
            at,
            instant: Instant::now(),
            ..self.clone()
        }
    }

    /// What the history is told of a push.
    pub(super) fn subject(&self, device: &Device, token: Option<&Secret>) -> Subject {
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
