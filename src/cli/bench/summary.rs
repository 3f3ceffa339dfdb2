//! What a run came to, as numbers; programs get them as JSON.

use std::path::PathBuf;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Args;
use super::load::Sent;
use super::record::{Side, Tally};
use super::target::Target;
use super::usage::{Cost, peak_memory};
use crate::call::event::Platform;
use crate::call::outcome::PushResult;

/// What was measured.
pub(super) struct Run {
    pub(super) tally: Tally,
    pub(super) sent: Sent,
    pub(super) cost: Cost,
    /// Why something could not be sent at the end.
    pub(super) hindrances: Vec<String>,
}

/// What a run came to. Times are in milliseconds unless their name says seconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    pub(super) version: &'static str,
    pub(super) target: Goal,
    pub(super) settings: Settings,
    /// From the end of the warm-up to the last end.
    pub(super) seconds: f64,
    /// Ended early by a signal.
    pub(super) stopped: bool,
    pub(super) rings: u64,
    /// Pushes: what `results` adds up to.
    pub(super) sent: u64,
    pub(super) accepted: u64,
    pub(super) failed: u64,
    /// Pushes that took more than one attempt.
    pub(super) repeated: u64,
    pub(super) attempts: u64,
    /// Rings that were due and never begun.
    pub(super) behind: u64,
    /// Accepted pushes a second.
    pub(super) rate: f64,
    pub(super) results: Vec<End>,
    pub(super) hindrances: Vec<String>,
    /// From when a ring was due until it was accepted.
    pub(super) latency: Latency,
    /// One attempt at the provider, of a sample of the pushes.
    pub(super) attempt: Latency,
    /// From when a ring was due until the worker got it; with a rate only.
    pub(super) late: Option<Times>,
    pub(super) cost: Costs,
    pub(super) report: Option<PathBuf>,
    pub(super) exit: u8,
}

/// Where the load went.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Goal {
    pub(super) what: &'static str,
    pub(super) app: String,
    pub(super) ios: Option<String>,
    pub(super) android: Option<String>,
}

/// What was asked for, and the worker's settings that matter for it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Settings {
    pub(super) rate: Option<f64>,
    pub(super) in_flight: u32,
    pub(super) duration_seconds: Option<f64>,
    pub(super) count: Option<u64>,
    pub(super) warm_up_seconds: f64,
    pub(super) devices: u32,
    pub(super) profile: String,
    pub(super) timeout_seconds: f64,
    pub(super) latency: Option<f64>,
    pub(super) script: bool,
    pub(super) apns_connections: usize,
    pub(super) apns_in_flight: usize,
    pub(super) fcm_connections: usize,
    pub(super) fcm_in_flight: usize,
    pub(super) cores: usize,
}

/// How many pushes ended so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct End {
    pub(super) platform: &'static str,
    pub(super) result: &'static str,
    pub(super) reason: Option<String>,
    pub(super) count: u64,
}

/// Times by platform.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Latency {
    pub(super) ios: Option<Times>,
    pub(super) android: Option<Times>,
    pub(super) all: Option<Times>,
}

/// Percentiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Times {
    pub(super) count: u64,
    pub(super) min: f64,
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) max: f64,
}

/// What it cost. Unknown where the system does not tell.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Costs {
    /// Of this process: the worker's code and the making of the rings.
    pub(super) cpu_seconds: Option<f64>,
    pub(super) cpu_seconds_per_10000: Option<f64>,
    /// Of all cores.
    pub(super) cpu_share: Option<f64>,
    pub(super) simulator_cpu_seconds: Option<f64>,
    pub(super) peak_memory_bytes: Option<u64>,
}

impl Times {
    /// None if nothing was timed.
    #[allow(clippy::cast_precision_loss)] // microseconds of less than a day
    pub(super) fn of(took: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| took.value_at_quantile(quantile) as f64 / 1_000.0;
        (!took.is_empty()).then(|| Self {
            count: took.len(),
            min: took.min() as f64 / 1_000.0,
            mean: took.mean() / 1_000.0,
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p99_9: at(0.999),
            max: took.max() as f64 / 1_000.0,
        })
    }
}

impl Latency {
    fn of(tally: &Tally, which: fn(&Side) -> &Histogram<u64>) -> Self {
        let [ios, android] = &tally.sides;
        let mut both = which(ios).clone();
        // They are of one size.
        let _ = both.add(which(android));
        Self {
            ios: Times::of(which(ios)),
            android: Times::of(which(android)),
            all: Times::of(&both),
        }
    }
}

impl Summary {
    pub(super) fn of(args: &Args, target: &Target, run: &Run) -> Self {
        let tally = &run.tally;
        let accepted = tally.count(|result| result == PushResult::Accepted);
        let ended = tally.count(|_| true);
        let seconds = tally.last.as_secs_f64();
        let sides = &tally.sides;
        let mut summary = Self {
            version: env!("CARGO_PKG_VERSION"),
            target: Goal::of(target),
            settings: Settings::of(args, target),
            seconds,
            stopped: run.sent.stopped,
            rings: tally.rings,
            sent: tally.sent,
            accepted,
            failed: tally.sent.saturating_sub(accepted),
            repeated: sides.iter().map(|side| side.repeated).sum(),
            attempts: sides.iter().map(|side| side.attempts).sum(),
            behind: run.sent.behind,
            rate: per(accepted, seconds),
            results: results(target, tally),
            hindrances: run.hindrances.clone(),
            latency: Latency::of(tally, |side| &side.took),
            attempt: Latency::of(tally, |side| &side.attempt),
            late: Times::of(&tally.late).filter(|_| args.rate.is_some()),
            cost: Costs::of(run.cost, ended),
            report: None,
            exit: 0,
        };
        let unexpected = summary.failed > 0 && args.script.is_none();
        let bad = accepted == 0 || summary.behind > 0 || unexpected;
        summary.exit = u8::from(bad);
        summary
    }

    pub(super) fn written_to(mut self, report: Option<PathBuf>) -> Self {
        self.report = report;
        self
    }

    /// Whether everything that was due was sent and accepted.
    pub(super) const fn good(&self) -> bool {
        self.exit == 0
    }
}

impl Goal {
    fn of(target: &Target) -> Self {
        let url = |wanted: Platform| {
            let hit = target.urls.iter().find(|(platform, _)| *platform == wanted);
            hit.map(|(_, url)| url.clone())
        };
        Self {
            what: target.what,
            app: target.app.clone(),
            ios: url(Platform::Ios),
            android: url(Platform::Android),
        }
    }
}

impl Settings {
    fn of(args: &Args, target: &Target) -> Self {
        let config = &target.config;
        let (pace, until) = (args.pace(), args.until());
        let profile = args.profile.as_ref().unwrap_or(&target.profile);
        Self {
            rate: pace.rate,
            in_flight: pace.in_flight,
            duration_seconds: until.duration.map(|span| span.as_secs_f64()),
            count: until.count,
            warm_up_seconds: until.warm_up.as_secs_f64(),
            devices: args.devices,
            profile: profile.clone(),
            timeout_seconds: args.timeout.as_secs_f64(),
            latency: args.latency.map(|span| span.as_secs_f64() * 1_000.0),
            script: args.script.is_some(),
            apns_connections: config.apns.connections,
            apns_in_flight: config.apns.in_flight,
            fcm_connections: config.fcm.connections,
            fcm_in_flight: config.fcm.in_flight,
            cores: std::thread::available_parallelism().map_or(1, Into::into),
        }
    }
}

impl Costs {
    #[allow(clippy::cast_precision_loss)] // counts and seconds
    fn of(cost: Cost, pushes: u64) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let own = cost.own.map(|own| own.as_secs_f64());
        let whole = cost.wall.as_secs_f64() * cores as f64;
        Self {
            cpu_seconds: own,
            cpu_seconds_per_10000: own
                .filter(|_| pushes > 0)
                .map(|own| own / pushes as f64 * 10_000.0),
            cpu_share: own.filter(|_| whole > 0.0).map(|own| own / whole),
            simulator_cpu_seconds: cost.simulator.map(|cpu| cpu.as_secs_f64()),
            peak_memory_bytes: peak_memory(),
        }
    }
}

/// Every push by how it ended; those of which nothing was heard last.
fn results(target: &Target, tally: &Tally) -> Vec<End> {
    let ends = tally.ends.iter();
    let mut results: Vec<End> = ends
        .map(|((platform, result, reason), count)| End {
            platform: platform.name(),
            result: result.name(),
            reason: reason.clone(),
            count: *count,
        })
        .collect();
    results.sort_by_key(|end| (end.result != "accepted", end.platform, u64::MAX - end.count));
    let lost = tally.sent.saturating_sub(tally.count(|_| true));
    if lost > 0 {
        results.push(End {
            platform: match target.platforms[..] {
                [Platform::Ios] => "ios",
                [Platform::Android] => "android",
                _ => "unknown",
            },
            result: "no_outcome",
            reason: None,
            count: lost,
        });
    }
    results
}

#[allow(clippy::cast_precision_loss)] // rounded anyway
fn per(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn percentiles_are_in_milliseconds_to_three_digits() {
        let mut took = Histogram::<u64>::new(3).unwrap();
        assert_eq!(Times::of(&took), None);
        for micros in 1..=10_000 {
            took.record(micros * 100).unwrap();
        }
        let times = Times::of(&took).unwrap();
        let near = |value: f64, wanted: f64| (value - wanted).abs() <= wanted / 1_000.0;
        assert!(near(times.p50, 500.0), "{times:?}");
        assert!(near(times.p99, 990.0), "{times:?}");
        assert!(near(times.p99_9, 999.0), "{times:?}");
        assert!(
            near(times.max, 1_000.0) && near(times.min, 0.1),
            "{times:?}"
        );
        assert!(near(times.mean, 500.0), "{times:?}");
    }

    #[test]
    fn the_cost_of_nothing_is_not_divided() {
        let cost = Cost {
            own: Some(Duration::from_secs(1)),
            ..Cost::default()
        };
        let costs = Costs::of(cost, 0);
        assert_eq!((costs.cpu_seconds_per_10000, costs.cpu_share), (None, None));
        assert!(per(5, 0.0).abs() < 1e-9);
        let costs = Costs::of(cost, 5_000);
        assert_eq!(costs.cpu_seconds_per_10000, Some(2.0));
    }
}
