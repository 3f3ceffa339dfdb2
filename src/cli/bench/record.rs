//! What became of every push, counted as it ends. The memory it takes does not
//! grow with the number of pushes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::{CreationError, Histogram};

use super::rings::due;
use super::series::Series;
use crate::call::event::Platform;
use crate::call::outcome::{Outcomes, PushOutcome, PushResult, Report, ReportBody};
use crate::call::receipt::Receipt;
use crate::engine::history::{History, Stage, Wanted};

/// Three significant digits, as everybody who compares such numbers has them.
const DIGITS: u8 = 3;
/// Longer than any ring lives, in microseconds.
const LONGEST: u64 = 2 * 3_600 * 1_000_000;
/// Different ends that are told apart; there are not nearly as many.
const MOST_ENDS: usize = 100;
/// Pushes looked at in a sample.
const SAMPLE: usize = 256;

/// Takes the worker's reports and sums them up.
#[derive(Debug)]
pub(super) struct Recorder {
    warm_up: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    began: Instant,
    /// Pushes begun and not ended, those of the warm-up too.
    under_way: u64,
    /// The history's next push that no sample has looked at.
    next: u64,
    tally: Tally,
}

/// Everything that is counted, without the warm-up.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Pushes begun.
    pub(super) sent: u64,
    /// Rings begun.
    pub(super) rings: u64,
    /// By platform.
    pub(super) sides: [Side; 2],
    /// Platform, result and the provider's word.
    pub(super) ends: BTreeMap<(Platform, PushResult, Option<String>), u64>,
    /// Over time.
    pub(super) series: Series,
    /// How long after a ring was due it was given to the worker, in microseconds.
    pub(super) late: Histogram<u64>,
    /// The last end, from the end of the warm-up.
    pub(super) last: Duration,
}

/// One platform's numbers.
#[derive(Clone, Debug)]
pub(super) struct Side {
    /// From when an accepted push was due until it was accepted, in microseconds.
    pub(super) took: Histogram<u64>,
    /// One attempt at the provider, of a sample of the pushes, in microseconds.
    pub(super) attempt: Histogram<u64>,
    /// Attempts of the pushes that ended.
    pub(super) attempts: u64,
    /// Pushes that took more than one.
    pub(super) repeated: u64,
}

/// Where a platform stands in arrays.
pub(super) const fn place(platform: Platform) -> usize {
    match platform {
        Platform::Ios | Platform::Unknown => 0,
        Platform::Android => 1,
    }
}

/// For a histogram.
pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// How it goes, for the progress bar.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Now {
    pub(super) elapsed: Duration,
    pub(super) rings: u64,
    pub(super) accepted: u64,
    pub(super) failed: u64,
    pub(super) under_way: u64,
    pub(super) half: Duration,
    pub(super) nearly_all: Duration,
}

impl Tally {
    fn new() -> Result<Self, CreationError> {
        // Of a fixed size: some 200 KiB each.
        let times = || Histogram::new_with_max(LONGEST, DIGITS);
        let side = || -> Result<Side, CreationError> {
            Ok(Side {
                took: times()?,
                attempt: times()?,
                attempts: 0,
                repeated: 0,
            })
        };
        Ok(Self {
            sent: 0,
            rings: 0,
            sides: [side()?, side()?],
            ends: BTreeMap::new(),
            series: Series::new()?,
            late: times()?,
            last: Duration::ZERO,
        })
    }

    /// Both platforms.
    pub(super) fn took(&self) -> Histogram<u64> {
        let [ios, android] = &self.sides;
        let mut both = ios.took.clone();
        // They are of one size.
        let _ = both.add(&android.took);
        both
    }

    /// Pushes that ended so.
    pub(super) fn count(&self, wanted: impl Fn(PushResult) -> bool) -> u64 {
        let hits = self
            .ends
            .iter()
            .filter(|((_, result, _), _)| wanted(*result));
        hits.map(|(_, count)| count).sum()
    }

    fn end(&mut self, outcome: PushOutcome, due: Duration, now: Duration, under_way: u64) {
        let spent = now.saturating_sub(due);
        let (platform, result) = (outcome.platform, outcome.result);
        let side = &mut self.sides[place(platform)];
        side.attempts += u64::from(outcome.attempts);
        side.repeated += u64::from(outcome.attempts > 1);
        let step = self.series.at(now);
        step.in_flight = step.in_flight.max(under_way);
        if result == PushResult::Accepted {
            side.took.saturating_record(micros(spent));
            // These begin small and grow.
            let _ = step.took[place(platform)].record(micros(spent).min(LONGEST));
        } else {
            step.failed += 1;
        }
        self.last = self.last.max(now);
        let mut key = (platform, result, outcome.reason);
        if self.ends.len() >= MOST_ENDS && !self.ends.contains_key(&key) {
            key.2 = None;
        }
        *self.ends.entry(key).or_default() += 1;
    }
}

impl Recorder {
    /// # Errors
    /// Never: the digits are among those that the library takes.
    pub(super) fn new(warm_up: Duration) -> Result<Self, CreationError> {
        let tally = Tally::new()?;
        let inner = Inner {
            began: Instant::now(),
            under_way: 0,
            next: 0,
            tally,
        };
        Ok(Self {
            warm_up,
            inner: Mutex::new(inner),
        })
    }

    /// The clock of all rings begins here.
    pub(super) fn start(&self, at: Instant) {
        self.lock().began = at;
    }

    /// When the clock began.
    pub(super) fn began(&self) -> Instant {
        self.lock().began
    }

    /// A ring with so many phones is given to the worker now.
    pub(super) fn begin(&self, due: Duration, phones: u32) {
        let mut inner = self.lock();
        inner.under_way += u64::from(phones);
        let late = inner.began.elapsed().saturating_sub(due);
        if due >= self.warm_up {
            inner.tally.sent += u64::from(phones);
            inner.tally.rings += 1;
            inner.tally.late.saturating_record(micros(late));
        }
    }

    /// How it goes.
    pub(super) fn now(&self) -> Now {
        let inner = self.lock();
        let tally = &inner.tally;
        let both = tally.took();
        let accepted = both.len();
        Now {
            elapsed: inner.began.elapsed(),
            rings: tally.rings,
            accepted,
            failed: tally.count(|result| result != PushResult::Accepted),
            under_way: inner.under_way,
            half: Duration::from_micros(both.value_at_quantile(0.5)),
            nearly_all: Duration::from_micros(both.value_at_quantile(0.99)),
        }
    }

    /// Looks at how long the last pushes' attempts took. The worker remembers
    /// them anyway; nothing is in their way for it.
    pub(super) fn sample(&self, history: &History) {
        let seen = history.last(SAMPLE, Wanted::All);
        let mut inner = self.lock();
        let next = inner.next;
        for push in seen.iter().filter(|push| push.number >= next) {
            let ended = matches!(push.stage, Stage::Final(_));
            if !ended || due(push.subject.event_id) < self.warm_up {
                continue;
            }
            let side = &mut inner.tally.sides[place(push.subject.platform)];
            for attempt in push.attempts.iter().filter(|attempt| attempt.started) {
                side.attempt.saturating_record(micros(attempt.took));
            }
        }
        inner.next = seen.first().map_or(next, |newest| newest.number + 1);
    }

    /// What was counted so far.
    pub(super) fn take(&self) -> Tally {
        self.lock().tally.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, outcome: PushOutcome) {
        let due = due(outcome.event_id);
        let mut inner = self.lock();
        let under_way = inner.under_way;
        inner.under_way = under_way.saturating_sub(1);
        if let Some(due) = due.checked_sub(self.warm_up) {
            let now = inner.began.elapsed().saturating_sub(self.warm_up);
            inner.tally.end(outcome, due, now, under_way);
        }
    }
}

impl Outcomes for Recorder {
    fn publish(&self, report: Report, receipt: Receipt) {
        match report.body {
            ReportBody::Push(outcome) => self.ended(outcome),
            ReportBody::Token(_) | ReportBody::Unreachable(_) => {}
        }
        // Counted is as safe as it gets here.
        receipt.safe();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::call::event::EventKind;
    use crate::call::time::Timestamp;

    fn outcome(due: Duration, platform: Platform, result: PushResult) -> PushOutcome {
        let due = u64::try_from(due.as_nanos()).unwrap();
        PushOutcome {
            at: Timestamp::from_millis(0),
            event: EventKind::Ring,
            event_id: Uuid::from_u64_pair(7, due),
            call_id: Arc::from("c"),
            device_id: None,
            app: None,
            platform,
            environment: None,
            result,
            reason: Some(format!("{result:?}")),
            detail: None,
            provider_id: None,
            attempts: 2,
            queue_ms: 0,
            push_ms: 0,
        }
    }

    #[test]
    fn the_warm_up_is_in_no_number_and_what_is_counted_adds_up() {
        let recorder = Recorder::new(Duration::from_secs(1)).unwrap();
        recorder.start(Instant::now().checked_sub(Duration::from_secs(3)).unwrap());
        let (early, late) = (Duration::from_millis(900), Duration::from_millis(1_500));
        for due in [early, late, late] {
            recorder.begin(due, 2);
        }
        for (due, platform, result) in [
            (early, Platform::Ios, PushResult::Expired),
            (early, Platform::Ios, PushResult::Accepted),
            (late, Platform::Ios, PushResult::Accepted),
            (late, Platform::Android, PushResult::Accepted),
            (late, Platform::Android, PushResult::DeadToken),
        ] {
            recorder.ended(outcome(due, platform, result));
        }
        let tally = recorder.take();
        assert_eq!((tally.rings, tally.sent), (2, 4));
        assert_eq!(tally.count(|_| true), 3);
        assert_eq!(tally.count(|result| result == PushResult::Accepted), 2);
        assert_eq!(tally.sides.clone().map(|side| side.attempts), [2, 4]);
        // From when it was due, however late it was begun.
        let took = tally.took();
        assert_eq!(took.len(), 2);
        assert!(took.min() >= 1_490_000, "{}", took.min());
        assert_eq!(tally.late.len(), 2);
        assert_eq!(recorder.now().under_way, 1);
        let steps = tally.series.steps();
        assert_eq!(steps.iter().map(|step| step.failed).sum::<u64>(), 1);
    }

    #[test]
    fn reasons_without_end_take_no_memory_without_end() {
        let recorder = Recorder::new(Duration::ZERO).unwrap();
        for n in 0..1_000 {
            let mut outcome = outcome(Duration::ZERO, Platform::Ios, PushResult::Rejected);
            outcome.reason = Some(format!("reason {n}"));
            recorder.ended(outcome);
        }
        let tally = recorder.take();
        assert_eq!(tally.count(|_| true), 1_000);
        assert_eq!(tally.ends.len(), MOST_ENDS + 1);
    }
}
