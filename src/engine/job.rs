//! A push as a lane gets it, and how it ended.

use uuid::Uuid;

use super::calls::Call;
use super::deadline::Deadline;
use super::history::Trail;
use crate::call::payload::Payload;
use crate::call::push::{Answer, PushKind};
use crate::call::secret::Secret;
use crate::call::time::Timestamp;

/// A push as the lane gets it.
pub struct Job<'a> {
    /// The same on every attempt.
    pub id: Uuid,
    /// How it goes out.
    pub kind: PushKind,
    /// Whom it goes to.
    pub token: &'a Secret,
    /// When it makes no sense any more.
    pub deadline: Deadline,
    /// What may cancel it; a cancel itself cannot be cancelled.
    pub cancel: Option<CancelWatch<'a>>,
    /// The second half of an `auto` environment: its credential faults say
    /// nothing about the lane.
    pub second_guess: bool,
    /// Where it is written down what happens.
    pub trail: &'a Trail<'a>,
    /// Renders the payload for the moment of an attempt.
    pub render: &'a (dyn Fn(Timestamp) -> Result<Payload, Refusal> + Send + Sync),
}

/// Where a job learns that the caller gave up.
#[derive(Clone, Copy, Debug)]
pub struct CancelWatch<'a> {
    /// The call.
    pub call: &'a Call,
    /// The device that it rings.
    pub device_id: &'a str,
    /// When the ring was sent.
    pub sent_at: Timestamp,
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
pub struct Ending {
    /// What happened.
    pub end: End,
    /// Requests that were started.
    pub attempts: u32,
    /// Whether the phone may have got it although no acceptance was seen.
    pub unclear: bool,
}

/// What happened to a push.
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

impl Job<'_> {
    /// Waits until the caller gives up; for ever if nothing can cancel it.
    pub(super) async fn cancelled(&self) {
        match &self.cancel {
            Some(watch) => {
                watch
                    .call
                    .cancellation(watch.device_id, watch.sent_at)
                    .await;
            }
            None => std::future::pending().await,
        }
    }
}
