//! A push, what is said of it, and what of that is kept.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::call::event::{Environment, EventKind, Platform};
use crate::call::outcome::PushResult;
use crate::call::time::Timestamp;

/// Longer texts of others are cut, in characters.
pub(super) const LONGEST_WORD: usize = 100;
pub(super) const LONGEST_SENTENCE: usize = 300;

/// Whom a push goes to and what for.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The event.
    pub event_id: Uuid,
    /// Ring or cancel.
    pub kind: EventKind,
    /// The call.
    pub call_id: Arc<str>,
    /// The device, unless the event gave none that could be used.
    pub device_id: Option<Arc<str>>,
    /// The device's app.
    pub app: Option<Arc<str>>,
    /// The device's platform.
    pub platform: Platform,
    /// The token, shortened; none if the device was unusable.
    pub token: Option<String>,
    /// When the producer sent the event.
    pub sent_at: Timestamp,
    /// When this worker took it from its queue.
    pub taken_at: Timestamp,
    /// When the ring is over.
    pub deadline: Timestamp,
    /// The trace that it belongs to.
    pub trace_id: Option<String>,
}

/// One attempt that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What the worker made of its end.
    pub class: &'static str,
    /// The provider's word, or ours.
    pub reason: Option<String>,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// `production`, `sandbox`; empty on Android.
    pub environment: &'static str,
    /// Whether a request went out.
    pub started: bool,
    /// A sentence for people.
    pub detail: Option<String>,
}

/// How far a push has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// An attempt or a wait goes on.
    UnderWay,
    /// The worker stopped first; the message went back to the broker.
    Left,
    /// It is final.
    Final(Box<Ended>),
}

/// A push's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// How.
    pub result: PushResult,
    /// The provider's word, or ours.
    pub reason: Option<String>,
    /// A sentence for people.
    pub detail: Option<String>,
    /// `apns-id` or FCM's message name.
    pub provider_id: Option<String>,
    /// The environment that answered last.
    pub environment: Option<Environment>,
    /// Requests that were started.
    pub attempts: u32,
    /// From `sent_at` until taken.
    pub queue_ms: u64,
    /// From taken until final.
    pub push_ms: u64,
}

/// A push as it stands. What is said of it grows until it is final.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Counts the pushes of this worker.
    pub number: u64,
    /// Whom and what for.
    pub subject: Subject,
    /// The attempts that have ended, the oldest first.
    pub attempts: Vec<Attempted>,
    /// How many in their middle were not kept.
    pub left_out: u32,
    /// How far it is.
    pub stage: Stage,
}

impl Seen {
    /// In memory, estimated.
    pub(super) fn bytes(&self) -> usize {
        let attempts: usize = self.attempts.iter().map(Attempted::bytes).sum();
        let ended = match &self.stage {
            Stage::Final(ended) => ended.bytes(),
            Stage::UnderWay | Stage::Left => 0,
        };
        size_of::<Self>() + self.subject.bytes() + attempts + ended
    }
}

impl Ended {
    fn bytes(&self) -> usize {
        let texts = [&self.reason, &self.detail, &self.provider_id];
        let text = texts.iter().map(|t| t.as_ref().map_or(0, String::len));
        size_of::<Self>() + text.sum::<usize>()
    }
}

impl Subject {
    fn bytes(&self) -> usize {
        let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        let own = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.call_id.len()
            + text(&self.device_id)
            + text(&self.app)
            + own(&self.token)
            + own(&self.trace_id)
    }
}

impl Attempted {
    fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        size_of::<Self>() + text(&self.reason) + text(&self.detail)
    }
}

pub(super) fn shortened(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    cut(&text, most)
}

/// At most so many characters, the last one an ellipsis if some are missing.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => text[..end].chars().take(most - 1).chain(['…']).collect(),
    }
}
