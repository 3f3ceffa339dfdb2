//! The last pushes of this worker with their timelines, for whoever asks why a
//! phone did not ring.
//!
//! Bounded in number and in bytes. Of a token only the shortened form is kept,
//! and nothing of what a push said.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::meter::{Counts, Meter};
use crate::call::event::{Environment, EventKind, Platform};
use crate::call::outcome::{PushOutcome, PushResult};
use crate::call::time::Timestamp;

/// The most attempts kept of one push: the first few and the last ones.
const MAX_ATTEMPTS: usize = 32;
const FIRST_ATTEMPTS: usize = 8;

/// Longer texts of others are cut, in characters.
const LONGEST_WORD: usize = 100;
const LONGEST_SENTENCE: usize = 300;

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pushes.
    pub pushes: usize,
    /// Bytes, estimated.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pushes: 10_000,
            bytes: 16 * 1024 * 1024,
        }
    }
}

/// The last pushes. No lock in here is ever held across an await.
#[derive(Debug, Default)]
pub struct History {
    limits: Limits,
    bytes: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The number of the next push.
    next: u64,
    pushes: VecDeque<Arc<Push>>,
    latencies: VecDeque<Latency>,
    meter: Meter,
}

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

/// One push. What is said of it grows until it is final.
#[derive(Debug)]
pub struct Push {
    number: u64,
    subject: Subject,
    course: Mutex<Course>,
}

#[derive(Debug)]
struct Course {
    attempts: Vec<Attempted>,
    left_out: u32,
    stage: Stage,
    bytes: usize,
    /// It was pushed out by newer ones and counts no longer.
    gone: bool,
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

/// A push as it stood when somebody looked.
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

/// How long an accepted ring took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Where it went.
    pub platform: Platform,
    /// From taken until accepted.
    pub push_ms: u32,
}

/// Which pushes somebody wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// All.
    All,
    /// Those that were neither accepted nor cancelled.
    Failed,
    /// Those of a call.
    Call(&'a str),
}

impl Wanted<'_> {
    fn has(self, push: &Push) -> bool {
        match self {
            Self::All => true,
            Self::Failed => match &push.course().stage {
                Stage::Final(end) => counted(end.result).failed > 0,
                Stage::UnderWay => false,
                Stage::Left => true,
            },
            Self::Call(id) => *push.subject.call_id == *id,
        }
    }
}

impl History {
    /// A history of other bounds than the usual ones.
    #[must_use]
    pub fn with(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// A push begins.
    pub fn open(&self, mut subject: Subject) -> Trail<'_> {
        for text in [&mut subject.device_id, &mut subject.app] {
            if let Some(long) = text.as_ref().filter(|text| text.len() > LONGEST_WORD) {
                *text = Some(cut(long, LONGEST_WORD).into());
            }
        }
        let bytes = subject.bytes() + size_of::<Push>() + 4 * size_of::<usize>();
        let course = Course {
            attempts: Vec::new(),
            left_out: 0,
            stage: Stage::UnderWay,
            bytes,
            gone: false,
        };
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut kept = self.lock();
        let push = Arc::new(Push {
            number: kept.next,
            subject,
            course: Mutex::new(course),
        });
        kept.next += 1;
        kept.pushes.push_back(Arc::clone(&push));
        self.trim(&mut kept);
        drop(kept);
        Trail {
            history: self,
            push,
        }
    }

    /// The newest pushes that are wanted, the newest first.
    #[must_use]
    pub fn last(&self, most: usize, wanted: Wanted<'_>) -> Vec<Seen> {
        let found: Vec<Arc<Push>> = {
            let kept = self.lock();
            let newest = kept.pushes.iter().rev();
            let hits = newest.filter(|push| wanted.has(push));
            hits.take(most).cloned().collect()
        };
        found.iter().map(|push| push.seen()).collect()
    }

    /// How many pushes it holds, and how many it has seen.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        let kept = self.lock();
        (kept.pushes.len(), kept.next)
    }

    /// Bytes, estimated.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How much it remembers at most.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// How long the last accepted rings took; as many as pushes are kept.
    #[must_use]
    pub fn latencies(&self) -> Vec<Latency> {
        self.lock().latencies.iter().copied().collect()
    }

    /// Ends in steps of so many seconds, the oldest first, and since the start.
    #[must_use]
    pub fn rates(&self, seconds: u64) -> (Vec<Counts>, Counts) {
        let kept = self.lock();
        (kept.meter.steps(seconds), kept.meter.total())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing in here can panic half-way, so a poisoned state is whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trim(&self, kept: &mut Kept) {
        while kept.pushes.len() > self.limits.pushes || self.bytes() > self.limits.bytes {
            let Some(oldest) = kept.pushes.pop_front() else {
                return;
            };
            let mut course = oldest.course();
            course.gone = true;
            self.bytes.fetch_sub(course.bytes, Ordering::Relaxed);
        }
    }

    fn count(&self, outcome: &PushOutcome) {
        let mut kept = self.lock();
        kept.meter.count(counted(outcome.result));
        if outcome.result == PushResult::Accepted && outcome.event == EventKind::Ring {
            if kept.latencies.len() >= self.limits.pushes {
                kept.latencies.pop_front();
            }
            kept.latencies.push_back(Latency {
                platform: outcome.platform,
                push_ms: u32::try_from(outcome.push_ms).unwrap_or(u32::MAX),
            });
        }
        self.trim(&mut kept);
    }
}

fn counted(result: PushResult) -> Counts {
    let mut counts = Counts::default();
    match result {
        PushResult::Accepted => counts.accepted = 1,
        PushResult::Cancelled => counts.cancelled = 1,
        PushResult::DeadToken
        | PushResult::SuspectToken
        | PushResult::Rejected
        | PushResult::CredentialFault
        | PushResult::Expired => counts.failed = 1,
    }
    counts
}

impl Push {
    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> Seen {
        let course = self.course();
        Seen {
            number: self.number,
            subject: self.subject.clone(),
            attempts: course.attempts.clone(),
            left_out: course.left_out,
            stage: course.stage.clone(),
        }
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

/// Where a push writes down what happens to it. If it is dropped before the
/// end, the worker has left the push to the broker.
#[derive(Debug)]
pub struct Trail<'a> {
    history: &'a History,
    push: Arc<Push>,
}

impl Trail<'_> {
    /// The call.
    #[must_use]
    pub fn call_id(&self) -> &str {
        &self.push.subject.call_id
    }

    /// The trace.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.push.subject.trace_id.as_deref()
    }

    /// An attempt has ended.
    pub fn attempt(&self, mut attempt: Attempted) {
        attempt.reason = attempt.reason.map(|text| shortened(text, LONGEST_WORD));
        attempt.detail = attempt.detail.map(|text| shortened(text, LONGEST_SENTENCE));
        let more = attempt.bytes();
        let mut less = 0;
        let mut course = self.push.course();
        if course.attempts.len() >= MAX_ATTEMPTS {
            less = course.attempts.remove(FIRST_ATTEMPTS).bytes();
            course.left_out += 1;
        }
        course.attempts.push(attempt);
        self.grow(&mut course, more, less);
    }

    /// It is final.
    pub fn end(&self, outcome: &PushOutcome) {
        let word = |text: &Option<String>| text.as_deref().map(|t| cut(t, LONGEST_WORD));
        let ended = Ended {
            at: outcome.at,
            result: outcome.result,
            reason: word(&outcome.reason),
            detail: outcome.detail.as_deref().map(|t| cut(t, LONGEST_SENTENCE)),
            provider_id: outcome
                .provider_id
                .as_deref()
                .map(|t| cut(t, 2 * LONGEST_WORD)),
            environment: outcome.environment,
            attempts: outcome.attempts,
            queue_ms: outcome.queue_ms,
            push_ms: outcome.push_ms,
        };
        let texts = [&ended.reason, &ended.detail, &ended.provider_id];
        let text: usize = texts
            .iter()
            .map(|t| t.as_ref().map_or(0, String::len))
            .sum();
        {
            let mut course = self.push.course();
            course.stage = Stage::Final(Box::new(ended));
            self.grow(&mut course, size_of::<Ended>() + text, 0);
        }
        self.history.count(outcome);
    }

    fn grow(&self, course: &mut Course, more: usize, less: usize) {
        if course.gone {
            return;
        }
        course.bytes = course.bytes + more - less;
        self.history.bytes.fetch_add(more, Ordering::Relaxed);
        self.history.bytes.fetch_sub(less, Ordering::Relaxed);
    }
}

impl Drop for Trail<'_> {
    fn drop(&mut self) {
        let mut course = self.push.course();
        if course.stage == Stage::UnderWay {
            course.stage = Stage::Left;
        }
    }
}

fn shortened(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    cut(&text, most)
}

/// At most so many characters, the last one an ellipsis if some are missing.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => text[..end].chars().take(most - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests;
