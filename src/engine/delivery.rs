//! A message as the engine gets it, and what it says is to be done with it.

use std::sync::Arc;

use bytes::Bytes;

use crate::call::event::{EventError, Part, PartNumber, Platform};
use crate::call::outcome::TraceContext;

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The queue of events for any platform, which are split first.
    Calls,
    /// The queue of one platform ([`Platform::Ios`] or [`Platform::Android`]).
    Platform(Platform),
}

/// A message.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The event, not yet decoded.
    pub body: Bytes,
    /// Where it came from.
    pub source: Source,
    /// Which part of a split event it is ([`PartNumber::WHOLE`] if it was not split).
    pub part: PartNumber,
    /// The trace that it belongs to.
    pub trace: Arc<TraceContext>,
}

impl Delivery {
    /// A part of a split event, as if it had come from its platform's queue.
    #[must_use]
    pub fn of_part(part: &Part, trace: Arc<TraceContext>) -> Self {
        Self {
            body: part.body.clone(),
            source: Source::Platform(part.platform),
            part: part.number,
            trace,
        }
    }
}

/// What is to be done with a message. Whoever took it carries it out; the
/// engine never touches a channel.
#[derive(Debug)]
pub enum Verdict {
    /// Every device is final and every report is safe: acknowledge it.
    Settled,
    /// It could not be understood: publish it to the dead exchange with this
    /// error, confirmed, then acknowledge it.
    Dead(EventError),
    /// Publish these parts to their platforms' queues, confirmed, then
    /// acknowledge it.
    Split(Vec<Part>),
    /// It was not finished (draining, or its reports can no longer be made
    /// safe): leave it to the broker, which gives it to another worker.
    Abandoned,
}
