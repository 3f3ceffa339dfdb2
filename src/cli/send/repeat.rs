//! Many test pushes, and how long they took.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::event;
use super::judge::judge;
use super::plan::Plan;
use super::show::{facts, heading, millis};
use super::stage::{Shot, Stage};
use crate::cli::DONE;
use crate::cli::screen::Screen;

/// So many are under way at a time at most, whatever the rate.
const MOST: usize = 1_000;

/// What many pushes came to.
#[derive(Default)]
struct Tally {
    /// How many by result and reason.
    by_end: BTreeMap<(String, String), u32>,
    /// How long the accepted ones took.
    took: Vec<Duration>,
    /// The first status that is not [`DONE`].
    code: u8,
    /// Its meaning and cure.
    worst: Option<(String, String)>,
}

/// Sends them and shows the summary.
///
/// # Errors
/// The event is broken, or standard output is closed.
pub(super) async fn run(plan: &Plan, stage: &Stage, count: u32) -> anyhow::Result<u8> {
    let template = event::template(plan)?;
    let bar = bar(u64::from(count));
    let begun = Instant::now();
    let gap = plan
        .args
        .rate
        .map(|rate| Duration::from_secs_f64(1.0 / rate));
    let mut tally = Tally::default();
    let mut under_way = FuturesUnordered::new();
    let mut next = tokio::time::Instant::now();
    let mut left = count;
    while left > 0 || !under_way.is_empty() {
        let most = if gap.is_some() { MOST } else { 1 };
        tokio::select! {
            () = tokio::time::sleep_until(next), if left > 0 && under_way.len() < most => {
                left -= 1;
                next += gap.unwrap_or_default();
                let event = template.fresh(plan);
                under_way.push(async move { stage.shoot(&event, plan.args.timeout).await });
            }
            Some(shot) = under_way.next() => {
                tally.add(plan, &shot?);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    tally.show(plan, begun.elapsed())?;
    Ok(tally.code)
}

/// On standard error, and only if that is a terminal.
fn bar(count: u64) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(count), target);
    let template = "{bar:40} {pos}/{len}  {per_sec}  {eta} left";
    bar.set_style(
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar
}

impl Tally {
    fn add(&mut self, plan: &Plan, shot: &Shot) {
        let outcome = shot.outcome.as_ref();
        let result = outcome.map_or("no outcome", |o| o.result.name()).to_owned();
        let reason = outcome.and_then(|o| o.reason.clone()).unwrap_or_default();
        *self.by_end.entry((result, reason)).or_default() += 1;
        let judgement = judge(plan, shot);
        if judgement.code == DONE {
            self.took.push(shot.took);
        } else if self.code == DONE {
            self.code = judgement.code;
            self.worst = Some((judgement.means, judgement.next));
        }
    }

    fn show(&mut self, plan: &Plan, total: Duration) -> std::io::Result<()> {
        self.took.sort_unstable();
        let mut screen = Screen::stdout();
        let count: u32 = self.by_end.values().sum();
        let rate = f64::from(count) / total.as_secs_f64().max(1e-9);
        let points = [50, 95, 99, 100].map(|percent| (percent, self.percentile(percent)));
        if plan.args.json {
            let ends: Vec<_> = self
                .by_end
                .iter()
                .map(|((result, reason), count)| {
                    json!({"result": result, "reason": reason, "count": count})
                })
                .collect();
            let mut report = facts(plan);
            report.insert("pushes".into(), json!(count));
            report.insert("seconds".into(), json!(total.as_secs_f64()));
            report.insert("ends".into(), json!(ends));
            for (percent, time) in points {
                let key = if percent == 100 {
                    "max_ms".to_owned()
                } else {
                    format!("p{percent}_ms")
                };
                report.insert(key, json!(time.map(|time| time.as_secs_f64() * 1000.0)));
            }
            report.insert("means".into(), json!(self.worst.as_ref().map(|w| &w.0)));
            report.insert("do".into(), json!(self.worst.as_ref().map(|w| &w.1)));
            report.insert("exit".into(), json!(self.code));
            return writeln!(screen, "{:#}", json!(report));
        }
        heading(&mut screen, plan)?;
        let seconds = total.as_secs_f64();
        writeln!(
            screen,
            "{count} pushes in {seconds:.1} s, {rate:.0} a second"
        )?;
        for ((result, reason), count) in &self.by_end {
            writeln!(screen, "  {count:>7} {result} {reason}")?;
        }
        if !self.took.is_empty() {
            let line: Vec<String> = points
                .iter()
                .filter_map(|(percent, time)| Some((percent, (*time)?)))
                .map(|(percent, time)| match percent {
                    100 => format!("slowest {}", millis(time)),
                    _ => format!("{percent} % within {}", millis(time)),
                })
                .collect();
            screen.paragraph("accepted", &line.join(" · "))?;
        }
        if let Some((means, next)) = &self.worst {
            screen.paragraph("means", means)?;
            screen.paragraph("do", next)?;
        }
        Ok(())
    }

    /// Of the sorted times.
    fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.took.len() * percent).div_ceil(100).max(1);
        self.took.get(rank - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_smallest_time_that_so_many_did_not_exceed() {
        let tally = Tally {
            took: (1..=10).map(Duration::from_millis).collect(),
            ..Tally::default()
        };
        let at = |percent| tally.percentile(percent).map(|time| time.as_millis());
        assert_eq!([at(50), at(95), at(100)], [Some(5), Some(10), Some(10)]);
        assert_eq!(Tally::default().percentile(50), None);
    }
}
