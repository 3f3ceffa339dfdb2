//! How it goes, while it goes: on a terminal, and only there.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

use super::args::Args;
use super::record::{Recorder, Tally, Timed};
use super::show::digits;
use super::usage::Meter;
use super::worker::Entrance;

/// Between two looks.
const TICK: Duration = Duration::from_millis(250);

/// Shows the run and takes samples of it until it is dropped.
pub(super) async fn watch(
    args: &Args,
    entrance: &Entrance,
    recorder: &Recorder,
    meter: &mut Meter,
) -> Infallible {
    let bar = bar();
    let mut before = 0;
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
                entrance.sample(recorder);
                if !bar.is_hidden() {
                    let (tally, elapsed) = (recorder.take(), recorder.began().elapsed());
                    bar.set_position(share(args, &tally, elapsed));
                    bar.set_message(if warmed {
                        line(&tally, before)
                    } else {
                        format!("warming up, {} under way", tally.under_way)
                    });
                    before = tally.ended();
                }
            }
        }
    }
}

/// On standard error, if that is a terminal. Goes when it is dropped.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new(1_000).with_finish(ProgressFinish::AndClear);
    match ProgressStyle::with_template("{bar:24} {elapsed} {wide_msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Of a thousand.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
#[allow(clippy::cast_sign_loss)] // between 0 and 1000
fn share(args: &Args, tally: &Tally, elapsed: Duration) -> u64 {
    let by_time = args
        .span()
        .map(|_| elapsed.as_secs_f64() / args.end().as_secs_f64());
    let by_count = args.count.map(|count| tally.rings as f64 / count as f64);
    let most = by_time.into_iter().chain(by_count).fold(0.0, f64::max);
    (most.min(1.0) * 1_000.0) as u64
}

/// What is said beside the bar, when so many pushes had ended at the last look.
#[allow(clippy::cast_precision_loss)] // of a quarter of a second
fn line(tally: &Tally, before: u64) -> String {
    let ended = tally.ended().saturating_sub(before);
    let rate = ended as f64 / TICK.as_secs_f64();
    let mut line = format!("{rate:.0}/s  {} under way", tally.under_way);
    let took = tally.both(Timed::Latency);
    if !took.is_empty() {
        let [half, most] = [0.5, 0.99].map(|q| digits(took.value_at_quantile(q) as f64 / 1e3));
        // Writing to a string does not fail.
        let _ = write!(line, "  p50 {half} ms  p99 {most} ms");
    }
    let failed = tally.ended() - took.len();
    if failed > 0 {
        let _ = write!(line, "  {failed} failed");
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
        let at = |args: &Args, seconds, rings| {
            let mut tally = Tally::new().unwrap();
            tally.rings = rings;
            share(args, &tally, Duration::from_secs(seconds))
        };
        let by_time = args(&["--duration", "9s"]);
        assert_eq!(at(&by_time, 5, 0), 500);
        assert_eq!(at(&by_time, 50, 0), 1_000);
        let by_count = args(&["--count", "200"]);
        assert_eq!(at(&by_count, 500, 50), 250);
        let both = args(&["--count", "200", "--duration", "9s"]);
        assert_eq!(at(&both, 1, 150), 750);
    }

    #[test]
    fn the_line_tells_rate_latency_and_failures() {
        let mut tally = Tally::new().unwrap();
        tally.under_way = 5;
        assert_eq!(line(&tally, 0), "0/s  5 under way");
        for _ in 0..10 {
            tally.times[0][1].record(850).unwrap();
        }
        let key = |result: &'static str| ("android".into(), result.into(), None);
        tally.ends.insert(key("accepted"), 10);
        tally.ends.insert(key("expired"), 15);
        let said = "100/s  5 under way  p50 0.85 ms  p99 0.85 ms  15 failed";
        assert_eq!(line(&tally, 0), said);
    }
}
