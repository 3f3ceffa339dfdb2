//! What a run came to: the document that programs get, and that the report and
//! the terminal are written from.

use std::path::Path;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::args::Args;
use super::record::{Tally, Timed};
use super::target::Target;
use crate::call::event::Platform;

/// What was measured.
pub(super) struct Run {
    pub(super) tally: Tally,
    /// Rings that were due and were never begun: too many others were under way.
    pub(super) behind: u64,
    /// A signal ended it early.
    pub(super) stopped: bool,
    /// What it cost: the document's `cost`.
    pub(super) cost: Value,
    /// What stood in the worker's way at the end.
    pub(super) problems: Vec<String>,
    /// Pushes that the simulator took more than once, if it was looked at.
    pub(super) twice_at_gateway: Option<u64>,
}

/// What a run came to.
pub(super) struct Summary {
    /// The fields are in `docs/benchmarks.md`.
    pub(super) document: Value,
    /// The exit status.
    pub(super) exit: u8,
}

impl Summary {
    #[allow(clippy::cast_precision_loss)] // rounded anyway
    pub(super) fn of(args: &Args, target: &Target, run: &Run) -> Self {
        let tally = &run.tally;
        let accepted = tally.accepted();
        let lost = tally.sent.saturating_sub(tally.ended());
        let failed = tally.sent.saturating_sub(accepted);
        let seconds = tally.last.as_secs_f64();
        let twice = tally.twice + run.twice_at_gateway.unwrap_or(0);
        let unexpected = failed > 0 && args.script.is_none();
        let bad = accepted == 0 || run.behind > 0 || unexpected || lost + twice > 0;
        let exit = u8::from(bad);
        let late = Some(times(&tally.late)).filter(|_| args.rate.is_some());
        let document = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "target": {
                "what": target.what,
                "app": target.app,
                "ios": target.url(Platform::Ios),
                "android": target.url(Platform::Android),
                "broker": target.broker,
            },
            "settings": settings(args, target),
            "seconds": seconds,
            "stopped": run.stopped,
            "rings": tally.rings,
            "sent": tally.sent,
            "accepted": accepted,
            "failed": failed,
            "lost": lost,
            "twice": tally.twice,
            "twice_at_gateway": run.twice_at_gateway,
            "repeated": tally.repeated,
            "attempts": tally.attempts,
            "behind": run.behind,
            "rate": if seconds > 0.0 { accepted as f64 / seconds } else { 0.0 },
            "results": results(tally, lost),
            "hindrances": run.problems,
            "latency": platforms(tally, Timed::Latency),
            "gateway": platforms(tally, Timed::Gateway),
            "attempt": platforms(tally, Timed::Attempt),
            "late": late,
            "cost": run.cost,
            "report": null,
            "exit": exit,
        });
        Self { document, exit }
    }

    pub(super) fn written_to(mut self, report: Option<&Path>) -> Self {
        self.document["report"] = json!(report);
        self
    }

    /// Everything that was timed: how it is drawn, what it is, and its times.
    pub(super) fn rows(&self) -> Vec<Value> {
        let names = [
            ("latency", "due to outcome"),
            ("gateway", "due to gateway"),
            ("attempt", "one attempt"),
        ];
        let rows = names.into_iter().flat_map(|(what, name)| {
            [("ios", "iOS"), ("android", "Android")].map(|(kind, platform)| {
                let times = &self.document[what][kind];
                json!({"kind": kind, "name": format!("{platform}, {name}"), "times": times})
            })
        });
        let late = json!({"kind": "idle", "name": "due to sent", "times": self.document["late"]});
        let rows = rows.chain([late]);
        rows.filter(|row| row["times"].is_object()).collect()
    }
}

/// What was asked for, and the worker's settings that matter for it.
fn settings(args: &Args, target: &Target) -> Value {
    let (apns, fcm) = (&target.config.apns, &target.config.fcm);
    json!({
        "rate": args.rate,
        "in_flight": args.most_in_flight(),
        "duration_seconds": args.span().map(|span| span.as_secs_f64()),
        "count": args.count,
        "warm_up_seconds": args.warm_up.as_secs_f64(),
        "devices": args.devices,
        "profile": args.profile.as_ref().unwrap_or(&target.profile),
        "timeout_seconds": args.timeout.as_secs_f64(),
        "latency": args.latency.map(|span| span.as_secs_f64() * 1_000.0),
        "script": args.script.is_some(),
        "apns_connections": apns.connections,
        "apns_in_flight": apns.in_flight,
        "fcm_connections": fcm.connections,
        "fcm_in_flight": fcm.in_flight,
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
    })
}

/// Percentiles in milliseconds; null if nothing was timed.
#[allow(clippy::cast_precision_loss)] // microseconds of less than a day
fn times(took: &Histogram<u64>) -> Value {
    let at = |quantile| took.value_at_quantile(quantile) as f64 / 1_000.0;
    if took.is_empty() {
        return Value::Null;
    }
    json!({
        "count": took.len(),
        "min": took.min() as f64 / 1_000.0,
        "mean": took.mean() / 1_000.0,
        "p50": at(0.5),
        "p90": at(0.9),
        "p95": at(0.95),
        "p99": at(0.99),
        "p99_9": at(0.999),
        "max": took.max() as f64 / 1_000.0,
    })
}

fn platforms(tally: &Tally, timed: Timed) -> Value {
    json!({
        "ios": times(tally.times(timed, "ios")),
        "android": times(tally.times(timed, "android")),
        "all": times(&tally.both(timed)),
    })
}

/// Every push by how it ended; those of which nothing was heard last.
fn results(tally: &Tally, lost: u64) -> Vec<Value> {
    let mut ends: Vec<_> = tally.ends.iter().collect();
    ends.sort_by_key(|((platform, result, _), count)| {
        (*result != "accepted", platform.clone(), u64::MAX - **count)
    });
    let ended = ends.into_iter().map(|((platform, result, reason), count)| {
        json!({"platform": platform, "result": result, "reason": reason, "count": count})
    });
    let unheard = json!({
        "platform": "unknown", "result": "no_outcome", "reason": null, "count": lost,
    });
    ended.chain((lost > 0).then_some(unheard)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_milliseconds_to_three_digits() {
        let mut took = Histogram::<u64>::new(3).unwrap();
        assert!(times(&took).is_null());
        for micros in 1..=10_000 {
            took.record(micros * 100).unwrap();
        }
        let times = times(&took);
        for (name, wanted) in [
            ("min", 0.1),
            ("mean", 500.0),
            ("p50", 500.0),
            ("p99", 990.0),
            ("p99_9", 999.0),
            ("max", 1_000.0),
        ] {
            let value = times[name].as_f64().unwrap();
            assert!(
                (value - wanted).abs() <= wanted / 1_000.0,
                "{name}: {value}"
            );
        }
    }
}
