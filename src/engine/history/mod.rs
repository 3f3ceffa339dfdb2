//! The last pushes of this worker with their timelines, for whoever asks why a
//! phone did not ring.
//!
//! Bounded in number and in bytes. Of a token only the shortened form is kept,
//! and nothing of what a push said.

mod meter;
mod push;
mod trail;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use self::meter::Meter;
pub use self::meter::{Counts, WINDOW};
pub use self::push::{Attempted, Ended, Seen, Stage, Subject};
use self::push::{LONGEST_WORD, cut};
pub use self::trail::Trail;
use crate::call::event::{EventKind, Platform};
use crate::call::outcome::{PushOutcome, PushResult};

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Pushes.
    pub pushes: usize,
    /// Bytes, estimated.
    pub bytes: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            pushes: 10_000,
            bytes: 16 * 1024 * 1024,
        }
    }
}

/// The last pushes, in a ring buffer: a push is found by its number. No lock
/// in here is ever held across an await.
#[derive(Debug, Default)]
pub struct History {
    capacity: Capacity,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The number of the next push.
    next: u64,
    /// In the order of their numbers, without a gap.
    pushes: VecDeque<Seen>,
    /// Of `pushes`, estimated.
    bytes: usize,
    latencies: VecDeque<Latency>,
    meter: Meter,
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
pub enum Filter<'a> {
    /// All.
    All,
    /// Those that were neither accepted nor cancelled.
    Failed,
    /// Those of a call.
    Call(&'a str),
}

impl Filter<'_> {
    fn has(self, push: &Seen) -> bool {
        match self {
            Self::All => true,
            Self::Failed => match &push.stage {
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
    pub fn with(capacity: Capacity) -> Self {
        Self {
            capacity,
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
        let mut kept = self.lock();
        let number = kept.next;
        kept.next += 1;
        let push = Seen {
            number,
            subject,
            attempts: Vec::new(),
            left_out: 0,
            stage: Stage::UnderWay,
        };
        kept.bytes += push.bytes();
        kept.pushes.push_back(push);
        kept.trim(self.capacity);
        Trail {
            history: self,
            number,
            open: true,
        }
    }

    /// The newest pushes that pass a filter, the newest first.
    #[must_use]
    pub fn last(&self, most: usize, filter: Filter<'_>) -> Vec<Seen> {
        let kept = self.lock();
        let newest = kept.pushes.iter().rev();
        let hits = newest.filter(|push| filter.has(push));
        hits.take(most).cloned().collect()
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
        self.lock().bytes
    }

    /// How much it remembers at most.
    #[must_use]
    pub const fn capacity(&self) -> Capacity {
        self.capacity
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

    fn end(&self, number: u64, ended: Box<Ended>, outcome: &PushOutcome) {
        let mut kept = self.lock();
        kept.change(number, |push| push.stage = Stage::Final(ended));
        kept.meter.count(counted(outcome.result));
        if outcome.result == PushResult::Accepted && outcome.event == EventKind::Ring {
            if kept.latencies.len() >= self.capacity.pushes {
                kept.latencies.pop_front();
            }
            kept.latencies.push_back(Latency {
                platform: outcome.platform,
                push_ms: u32::try_from(outcome.push_ms).unwrap_or(u32::MAX),
            });
        }
        kept.trim(self.capacity);
    }
}

impl Kept {
    /// Changes a push, unless newer ones have pushed it out.
    fn change(&mut self, number: u64, change: impl FnOnce(&mut Seen)) {
        let first = self.pushes.front().map_or(number, |push| push.number);
        let place = number
            .checked_sub(first)
            .and_then(|n| usize::try_from(n).ok());
        let Some(push) = place.and_then(|place| self.pushes.get_mut(place)) else {
            return;
        };
        let before = push.bytes();
        change(push);
        self.bytes = self.bytes + push.bytes() - before;
    }

    fn trim(&mut self, capacity: Capacity) {
        while self.pushes.len() > capacity.pushes || self.bytes > capacity.bytes {
            let Some(oldest) = self.pushes.pop_front() else {
                return;
            };
            self.bytes -= oldest.bytes();
        }
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

#[cfg(test)]
mod tests;
