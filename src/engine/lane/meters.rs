//! A lane's own series, looked up once and not with each push.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::call::event::EventKind;
use crate::call::outcome::{PushOutcome, PushResult};
use crate::call::push::Class;
use crate::metrics::{AttemptLabels, LaneLabels, Metrics, PlatformLabel, PushLabels};

const CLASSES: usize = Class::ALL.len();
const RESULTS: usize = PushResult::ALL.len();

/// The series of one app, platform and environment. Counters come into being
/// with the first thing that they count.
#[derive(Debug)]
pub(super) struct Meters {
    pub(super) labels: LaneLabels,
    metrics: Metrics,
    attempts: [OnceLock<Counter>; CLASSES],
    rings: [OnceLock<Counter>; RESULTS],
    cancels: [OnceLock<Counter>; RESULTS],
    provider_seconds: Histogram,
    push_seconds: Histogram,
    event_age_seconds: Histogram,
    /// Attempts under way on the platform.
    pub(super) in_flight: Gauge,
}

impl Meters {
    pub(super) fn new(labels: LaneLabels, metrics: &Metrics) -> Self {
        let platform = labels.platform;
        let label = PlatformLabel { platform };
        let counters = |_| OnceLock::new();
        Self {
            attempts: std::array::from_fn(counters),
            rings: std::array::from_fn(counters),
            cancels: std::array::from_fn(counters),
            provider_seconds: metrics.provider_seconds.get_or_create_owned(&label),
            push_seconds: metrics.push_seconds.get_or_create_owned(&label),
            event_age_seconds: metrics.event_age_seconds.get_or_create_owned(&label),
            in_flight: metrics.in_flight.get_or_create_owned(&label),
            metrics: metrics.clone(),
            labels,
        }
    }

    /// Counts an attempt that has ended.
    pub(super) fn attempt(&self, class: Class, took: Duration) {
        let counter = self.attempts[class as usize].get_or_init(|| {
            self.metrics.attempts.get_or_create_owned(&AttemptLabels {
                app: self.labels.app.clone(),
                platform: self.labels.platform,
                class: class.name(),
            })
        });
        counter.inc();
        self.provider_seconds.observe(took.as_secs_f64());
    }

    /// Counts a push that is final, so long after it was taken; `age` is what
    /// passed since an accepted ring was sent.
    pub(super) fn push(&self, outcome: &PushOutcome, took: Duration, age: Option<Duration>) {
        let counters = match outcome.event {
            EventKind::Ring => &self.rings,
            EventKind::Cancel => &self.cancels,
        };
        let counter = counters[outcome.result as usize].get_or_init(|| {
            self.metrics.pushes.get_or_create_owned(&PushLabels {
                app: self.labels.app.clone(),
                platform: self.labels.platform,
                event: outcome.event.name(),
                result: outcome.result.name(),
            })
        });
        counter.inc();
        self.push_seconds.observe(took.as_secs_f64());
        if let Some(age) = age {
            self.event_age_seconds.observe(age.as_secs_f64());
        }
    }
}
