//! What became of every push, counted as it ends. The memory it takes does not
//! grow with the number of pushes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::{CreationError, Histogram};
use serde::Deserialize;
use uuid::Uuid;

use super::rings::due;
use crate::call::event::Platform;
use crate::call::outcome::{Outcomes, PushResult, Report, ReportBody};
use crate::call::receipt::Receipt;
use crate::engine::history::{Filter, History, Stage};

/// Three significant digits, as everybody who compares such numbers has them.
const DIGITS: u8 = 3;
/// Longer than any ring lives, in microseconds.
const LONGEST: u64 = 2 * 3_600 * 1_000_000;
/// Different ends that are told apart; there are not nearly as many.
const MOST_ENDS: usize = 100;
/// Pushes looked at in a sample.
const SAMPLE: usize = 256;
/// Steps over time, at most, and how long they are at first: that doubles as the
/// run goes on.
const STEPS: (usize, Duration) = (120, Duration::from_millis(250));

/// Takes the worker's reports and sums them up.
#[derive(Debug)]
pub(super) struct Recorder {
    warm_up: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    began: Instant,
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
    /// Pushes begun and not ended, those of the warm-up too.
    pub(super) under_way: u64,
    /// Outcomes of pushes that had one already, those of the warm-up too.
    pub(super) twice: u64,
    /// Attempts of the pushes that ended.
    pub(super) attempts: u64,
    /// Pushes that took more than one.
    pub(super) repeated: u64,
    /// In microseconds, by [`Timed`] and platform.
    pub(super) times: [[Histogram<u64>; 2]; 3],
    /// How long after a ring was due it was given to the worker, in microseconds.
    pub(super) late: Histogram<u64>,
    /// Platform, result and the provider's word.
    pub(super) ends: BTreeMap<(Name, Name, Option<String>), u64>,
    /// Accepted, ended otherwise, and the longest that an accepted one took, in
    /// microseconds: in each step of time.
    pub(super) steps: Vec<[u64; 3]>,
    /// How long a step is.
    pub(super) width: Duration,
    /// The last end, from the end of the warm-up.
    pub(super) last: Duration,
}

/// What is timed of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timed {
    /// From when an accepted push was due until it had its outcome.
    Latency,
    /// From when a push was due until a request for it was at the simulator.
    Gateway,
    /// One attempt at the provider, of a sample of the pushes.
    Attempt,
}

/// How a push ended: of its outcome, what is counted.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct End {
    pub(super) event_id: Uuid,
    #[serde(default)]
    pub(super) device_id: String,
    pub(super) platform: Name,
    pub(super) result: Name,
    pub(super) reason: Option<String>,
    attempts: u32,
}

/// As it stands in outcomes.
type Name = Cow<'static, str>;

/// Where a platform stands in arrays.
fn place(platform: &str) -> usize {
    usize::from(platform == Platform::Android.name())
}

/// For a histogram.
fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

impl Tally {
    /// # Errors
    /// Never: the digits are among those that the library takes.
    pub(super) fn new() -> Result<Self, CreationError> {
        // Of a fixed size: some 200 KiB each.
        let times = Histogram::new_with_max(LONGEST, DIGITS)?;
        Ok(Self {
            sent: 0,
            rings: 0,
            under_way: 0,
            twice: 0,
            attempts: 0,
            repeated: 0,
            times: [(); 3].map(|()| [times.clone(), times.clone()]),
            late: times,
            ends: BTreeMap::new(),
            steps: Vec::new(),
            width: STEPS.1,
            last: Duration::ZERO,
        })
    }

    /// What was timed on a platform.
    pub(super) fn times(&self, timed: Timed, platform: &str) -> &Histogram<u64> {
        &self.times[timed as usize][place(platform)]
    }

    /// On both platforms.
    pub(super) fn both(&self, timed: Timed) -> Histogram<u64> {
        let [ios, android] = &self.times[timed as usize];
        let mut both = ios.clone();
        // They are of one size.
        let _ = both.add(android);
        both
    }

    fn time(&mut self, timed: Timed, platform: &str, span: Duration) {
        self.times[timed as usize][place(platform)].saturating_record(micros(span));
    }

    /// Pushes that were accepted.
    pub(super) fn accepted(&self) -> u64 {
        let times = self.times[Timed::Latency as usize].iter();
        times.map(Histogram::len).sum()
    }

    /// Pushes that have an outcome.
    pub(super) fn ended(&self) -> u64 {
        self.ends.values().sum()
    }

    fn end(&mut self, end: End, due: Duration, now: Duration) {
        self.attempts += u64::from(end.attempts);
        self.repeated += u64::from(end.attempts > 1);
        let took = now.saturating_sub(due);
        let step = self.step(now);
        if end.result == PushResult::Accepted.name() {
            step[0] += 1;
            step[2] = step[2].max(micros(took));
            self.time(Timed::Latency, &end.platform, took);
        } else {
            step[1] += 1;
        }
        self.last = self.last.max(now);
        let mut key = (end.platform, end.result, end.reason);
        if self.ends.len() >= MOST_ENDS && !self.ends.contains_key(&key) {
            key.2 = None;
        }
        *self.ends.entry(key).or_default() += 1;
    }

    /// The step of a moment.
    fn step(&mut self, moment: Duration) -> &mut [u64; 3] {
        let place = loop {
            let place = moment.as_nanos() / self.width.as_nanos();
            match usize::try_from(place) {
                Ok(place) if place < STEPS.0 => break place,
                Ok(_) | Err(_) => self.widen(),
            }
        };
        if self.steps.len() <= place {
            self.steps.resize(place + 1, [0; 3]);
        }
        &mut self.steps[place]
    }

    fn widen(&mut self) {
        self.width *= 2;
        let pair = |pair: &[[u64; 3]]| {
            let [a, b] = [pair[0], pair.get(1).copied().unwrap_or_default()];
            [a[0] + b[0], a[1] + b[1], a[2].max(b[2])]
        };
        self.steps = self.steps.chunks(2).map(pair).collect();
    }
}

impl Recorder {
    /// # Errors
    /// Never: the digits are among those that the library takes.
    pub(super) fn new(warm_up: Duration) -> Result<Self, CreationError> {
        let inner = Inner {
            began: Instant::now(),
            next: 0,
            tally: Tally::new()?,
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
        let late = inner.began.elapsed().saturating_sub(due);
        let tally = &mut inner.tally;
        tally.under_way += u64::from(phones);
        if due >= self.warm_up {
            tally.sent += u64::from(phones);
            tally.rings += 1;
            tally.late.saturating_record(micros(late));
        }
    }

    /// A push has its outcome.
    pub(super) fn ended(&self, end: End) {
        let due = due(end.event_id);
        let mut inner = self.lock();
        inner.tally.under_way = inner.tally.under_way.saturating_sub(1);
        if let Some(due) = due.checked_sub(self.warm_up) {
            let now = inner.began.elapsed().saturating_sub(self.warm_up);
            inner.tally.end(end, due, now);
        }
    }

    /// A push that has one already has another.
    pub(super) fn ended_again(&self) {
        self.lock().tally.twice += 1;
    }

    /// A request for a push that was due then was at the simulator at this moment.
    pub(super) fn arrived(&self, platform: &str, due: Duration, at: Instant) {
        let mut inner = self.lock();
        if due >= self.warm_up {
            let spent = at.saturating_duration_since(inner.began + due);
            inner.tally.time(Timed::Gateway, platform, spent);
        }
    }

    /// Looks at how long the last pushes' attempts took. The worker remembers
    /// them anyway; nothing is in their way for it.
    pub(super) fn sample(&self, history: &History) {
        let seen = history.last(SAMPLE, Filter::All);
        let mut inner = self.lock();
        let next = inner.next;
        for push in seen.iter().filter(|push| push.number >= next) {
            let ended = matches!(push.stage, Stage::Final(_));
            if !ended || due(push.subject.event_id) < self.warm_up {
                continue;
            }
            for attempt in push.attempts.iter().filter(|attempt| attempt.started) {
                let (platform, took) = (push.subject.platform.name(), attempt.took);
                inner.tally.time(Timed::Attempt, platform, took);
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
}

impl Outcomes for Recorder {
    fn publish(&self, report: Report, receipt: Receipt) {
        match report.body {
            ReportBody::Push(outcome) => self.ended(End {
                event_id: outcome.event_id,
                device_id: String::new(),
                platform: outcome.platform.name().into(),
                result: outcome.result.name().into(),
                reason: outcome.reason,
                attempts: outcome.attempts,
            }),
            ReportBody::Token(_) | ReportBody::Unreachable(_) => {}
        }
        // Counted is as safe as it gets here.
        receipt.safe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(due: Duration, platform: Platform, result: PushResult) -> End {
        let due = u64::try_from(due.as_nanos()).unwrap();
        End {
            event_id: Uuid::from_u64_pair(7, due),
            device_id: String::new(),
            platform: platform.name().into(),
            result: result.name().into(),
            reason: Some(format!("{result:?}")),
            attempts: 2,
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
            recorder.ended(end(due, platform, result));
        }
        let tally = recorder.take();
        assert_eq!((tally.rings, tally.sent), (2, 4));
        assert_eq!(tally.ended(), 3);
        assert_eq!(tally.accepted(), 2);
        assert_eq!((tally.attempts, tally.repeated), (6, 3));
        // From when it was due, however late it was begun.
        let took = tally.both(Timed::Latency);
        assert_eq!(took.len(), 2);
        assert!(took.min() >= 1_490_000, "{}", took.min());
        assert_eq!(tally.late.len(), 2);
        assert_eq!(tally.under_way, 1);
        assert_eq!(tally.steps.iter().map(|step| step[1]).sum::<u64>(), 1);
        let began = recorder.began();
        recorder.arrived("ios", early, began + early);
        recorder.arrived("ios", late, began + late + early);
        let tally = recorder.take();
        let gateway = tally.times(Timed::Gateway, "ios");
        assert_eq!((gateway.len(), gateway.max() / 1_000), (1, 900));
    }

    #[test]
    fn reasons_without_end_take_no_memory_without_end() {
        let recorder = Recorder::new(Duration::ZERO).unwrap();
        for n in 0..1_000 {
            let mut end = end(Duration::ZERO, Platform::Ios, PushResult::Rejected);
            end.reason = Some(format!("reason {n}"));
            recorder.ended(end);
        }
        let tally = recorder.take();
        assert_eq!(tally.ended(), 1_000);
        assert_eq!(tally.ends.len(), MOST_ENDS + 1);
    }

    #[test]
    fn steps_become_wider_and_nothing_is_lost() {
        let mut tally = Tally::new().unwrap();
        tally.step(Duration::from_millis(950))[1] += 1;
        assert_eq!(tally.steps, [[0; 3], [0; 3], [0; 3], [0, 1, 0]]);
        for second in 0..4_000 {
            let kind = usize::try_from(second % 2).unwrap();
            let step = tally.step(Duration::from_secs(second));
            (step[kind], step[2]) = (step[kind] + 1, second);
            assert!(tally.steps.len() <= STEPS.0);
        }
        assert_eq!(tally.width, Duration::from_secs(64));
        let sum = |kind: usize| tally.steps.iter().map(|step| step[kind]).sum::<u64>();
        assert_eq!([0, 1].map(sum), [2_000, 2_001]);
        assert_eq!(tally.steps[0], [32, 33, 63]);
        tally.step(Duration::from_secs(7 * 24 * 3_600))[0] += 1;
        assert!(tally.steps.len() <= STEPS.0);
    }
}
