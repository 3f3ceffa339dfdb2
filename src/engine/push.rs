//! One push as a lane gets it, and how it ended.

use uuid::Uuid;

use super::calls::RingUnderWay;
use super::deadline::Deadline;
use super::history::Trail;
use crate::call::event::TargetKind;
use crate::call::payload::Payload;
use crate::call::push::{Answer, PushKind};
use crate::call::secret::Secret;
use crate::call::time::Timestamp;

/// A push as a lane gets it.
pub struct Push<'a> {
    /// The same on every attempt.
    pub id: Uuid,
    /// The call, for the log.
    pub call_id: &'a str,
    /// The trace, for the log.
    pub trace_id: Option<&'a str>,
    /// How it goes out.
    pub kind: PushKind,
    /// Whom it goes to.
    pub token: &'a Secret,
    /// Whether that is a token or an installation id.
    pub target: TargetKind,
    /// When it makes no sense any more.
    pub deadline: Deadline,
    /// The ring that a cancel may stop; a cancel itself cannot be cancelled.
    pub ring: Option<&'a RingUnderWay>,
    /// The second half of an `auto` environment: its credential faults say
    /// nothing about the lane.
    pub second_guess: bool,
    /// Where it is written down what happens.
    pub trail: &'a Trail<'a>,
    /// Renders the payload for the moment of an attempt.
    pub render: &'a (dyn Fn(Timestamp) -> Result<Payload, Refusal> + Send + Sync),
}

impl Push<'_> {
    /// Whether the caller has given up.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.ring.is_some_and(RingUnderWay::is_cancelled)
    }

    /// Waits until the caller gives up; for ever if nothing can cancel it.
    pub async fn cancelled(&self) {
        match self.ring {
            Some(ring) => ring.cancelled().await,
            None => std::future::pending().await,
        }
    }
}

/// Why a payload could not be rendered; no request is made for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Our own word for it, such as `payload_too_large`.
    pub reason: &'static str,
    /// A sentence for people.
    pub detail: String,
}

/// How a push ended.
#[derive(Debug)]
pub struct PushEnd {
    /// What ended it.
    pub end: End,
    /// Requests that were started.
    pub attempts: u32,
    /// Whether the phone may have got it although no acceptance was seen.
    pub unclear: bool,
}

/// What ended a push.
#[derive(Debug)]
pub enum End {
    /// The provider's last word, of a class that is not repeated.
    Answered(Answer),
    /// Out of time; the last reason for waiting, else `deadline`.
    Expired(Option<Answer>),
    /// The caller gave up.
    Cancelled(Option<Answer>),
    /// The lane is paused.
    Paused,
    /// No payload could be made.
    Refused(Refusal),
}
