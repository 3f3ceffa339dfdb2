//! An event that was taken from its queue, with the times that count for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::deadline::{Deadline, wall_clock};
use super::history::Subject;
use crate::call::event::{Device, Event, Platform};
use crate::call::outcome::TraceContext;
use crate::call::receipt::Receipts;
use crate::call::secret::Secret;
use crate::call::time::Timestamp;

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
    /// The reports of its message.
    pub receipts: Receipts,
}

impl Taken {
    /// An event that was taken from its queue just now.
    pub(super) fn now(event: Arc<Event>, trace: Arc<TraceContext>, max_ttl: Duration) -> Self {
        let at = wall_clock();
        // However far in the future it was sent, it ends within a ring's life.
        let end = event.expires_at.min(at.plus(max_ttl));
        let event = if end == event.expires_at {
            event
        } else {
            let mut clamped = (*event).clone();
            clamped.expires_at = end;
            Arc::new(clamped)
        };
        Self {
            event,
            deadline: Deadline::new(end, at),
            at,
            instant: Instant::now(),
            trace,
            receipts: Receipts::default(),
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
