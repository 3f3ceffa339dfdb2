//! How it goes, while it goes: on a terminal, and only there.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Args;
use super::record::{Now, Recorder};
use super::show::millis;
use super::usage::Meter;
use crate::app::App;

/// Between two looks.
const TICK: Duration = Duration::from_millis(250);

/// Shows the run and takes samples of it until it is dropped.
pub(super) async fn watch(
    args: &Args,
    app: &App,
    recorder: &Recorder,
    meter: &mut Meter,
) -> Infallible {
    let bar = Bar::new();
    let mut before = Now::default();
    let mut ticks = tokio::time::interval(TICK);
    let warm = tokio::time::Instant::from(recorder.began()) + args.warm_up;
    let mut warmed = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(warm), if !warmed => {
                warmed = true;
                meter.begin();
            }
            _ = ticks.tick() => {
                recorder.sample(app.dispatcher().history());
                if !bar.0.is_hidden() {
                    let now = recorder.now();
                    bar.show(args, &before, &now);
                    before = now;
                }
            }
        }
    }
}

/// Goes when it is dropped, and leaves nothing on the screen.
struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Bar {
    fn new() -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(1_000), target);
        let template = "{bar:24} {elapsed} {wide_msg}";
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    fn show(&self, args: &Args, before: &Now, now: &Now) {
        self.0.set_position(share(args, now));
        self.0.set_message(line(args, before, now));
    }
}

/// Of a thousand.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
#[allow(clippy::cast_sign_loss)] // between 0 and 1000
fn share(args: &Args, now: &Now) -> u64 {
    let until = args.until();
    let by_time = until
        .duration
        .map(|_| now.elapsed.as_secs_f64() / until.end().as_secs_f64());
    let by_count = until.count.map(|count| now.rings as f64 / count as f64);
    let most = by_time.into_iter().chain(by_count).fold(0.0, f64::max);
    (most.min(1.0) * 1_000.0) as u64
}

/// What is said beside the bar.
fn line(args: &Args, before: &Now, now: &Now) -> String {
    if now.elapsed < args.warm_up {
        return format!("warming up, {} under way", now.under_way);
    }
    let ended = (now.accepted + now.failed).saturating_sub(before.accepted + before.failed);
    #[allow(clippy::cast_precision_loss)] // of a quarter of a second
    let rate = ended as f64
        / now
            .elapsed
            .saturating_sub(before.elapsed)
            .as_secs_f64()
            .max(1e-3);
    let mut line = format!("{rate:.0}/s  {} under way", now.under_way);
    if now.accepted > 0 {
        let (half, nearly_all) = (millis(now.half), millis(now.nearly_all));
        // Writing to a string does not fail.
        let _ = write!(line, "  p50 {half}  p99 {nearly_all}");
    }
    if now.failed > 0 {
        let _ = write!(line, "  {} failed", now.failed);
    }
    line
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(more: &[&str]) -> Args {
        let line = ["bench"].iter().chain(more);
        Line::try_parse_from(line).ok().unwrap().args
    }

    #[test]
    fn the_bar_follows_time_or_count_whichever_is_further() {
        let at = |seconds, rings| Now {
            elapsed: Duration::from_secs(seconds),
            rings,
            ..Now::default()
        };
        let by_time = args(&["--duration", "9s"]);
        assert_eq!(share(&by_time, &at(5, 0)), 500);
        assert_eq!(share(&by_time, &at(50, 0)), 1_000);
        let by_count = args(&["--count", "200"]);
        assert_eq!(share(&by_count, &at(500, 50)), 250);
        let both = args(&["--count", "200", "--duration", "9s"]);
        assert_eq!(share(&both, &at(1, 150)), 750);
    }

    #[test]
    fn the_line_tells_rate_latency_and_failures() {
        let before = Now {
            elapsed: Duration::from_secs(2),
            accepted: 100,
            ..Now::default()
        };
        let now = Now {
            elapsed: Duration::from_secs(4),
            rings: 1_200,
            accepted: 1_090,
            failed: 10,
            under_way: 5,
            half: Duration::from_micros(850),
            nearly_all: Duration::from_millis(12),
        };
        let args = args(&[]);
        let line = line(&args, &before, &now);
        assert_eq!(
            line,
            "500/s  5 under way  p50 0.85 ms  p99 12.0 ms  10 failed"
        );
        assert!(super::line(&args, &before, &Now::default()).starts_with("warming up"));
    }
}
