//! `ringpush bench`: load through the worker's own code, without a broker, and
//! a report of what it did.

mod chart;
mod columns;
mod load;
mod paper;
mod plots;
mod progress;
mod record;
mod report;
mod rings;
mod series;
mod show;
mod summary;
mod target;
mod usage;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tokio_util::sync::CancellationToken;

use super::screen::Screen;
use super::{DONE, FAILED, Usage};
use crate::app::App;
use crate::call::event::Platform;
use crate::call::outcome::Outcomes;
use crate::metrics::Metrics;
use crate::shutdown::{Request, Signals};

use load::{Load, Pace, Until};
use paper::Paper;
use record::Recorder;
use rings::Rings;
use summary::{Run, Summary};
use target::Target;
use usage::Meter;

/// For connections to be closed at the end.
const FAREWELL: Duration = Duration::from_secs(1);
/// The longest that it runs.
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Rings under way at a time: all there are, or the most that a rate may leave
/// unanswered. The second is as much as two queues of a worker hold.
const IN_FLIGHT: (u32, u32) = (64, 2_000);

/// Load against the simulator or a gateway, with rate or in-flight control, and a
/// report with latency and throughput plots.
///
/// Rings go through the worker's own code, without a broker, to phones that do not
/// exist. Without --config and --gateway they go to a simulator of its own in
/// another process. With --rate they leave on a fixed schedule however slow the
/// answers are, and are timed from the moment they were due; with --in-flight each
/// one waits for another to end. Ends with 0 if everything was sent and accepted,
/// with 1 if rings stayed behind, if nothing was accepted, or if pushes failed
/// without a --script to make them, and with 2 for wrong usage or configuration.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  ringpush bench\n  \
                        ringpush bench --rate 500 --duration 1m --report bench.html\n  \
                        ringpush bench --in-flight 200 --platform ios --latency 40ms\n  \
                        ringpush bench --rate 200 --script faults.toml\n  \
                        ringpush bench --gateway https://127.0.0.1:8443 --gateway-ca ca.pem --json\n  \
                        ringpush bench --config staging.toml --app com.example.calls --count 10000")]
pub struct Args {
    /// A configuration whose gateways and keys are used. Apple's and Google's own
    /// are refused. Without it a simulator is started.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The app of that configuration, if it has several.
    #[arg(long, value_name = "NAME", requires = "config")]
    app: Option<String>,
    /// Where pushes go instead, to both paths: an HTTP/2 server. Keys are the
    /// configuration's, or made up.
    #[arg(long, value_name = "URL")]
    gateway: Option<String>,
    /// The certificates to trust there, PEM; without it the system's.
    #[arg(long, value_name = "FILE", requires = "gateway")]
    gateway_ca: Option<PathBuf>,
    /// Which phones ring, alternately if both.
    #[arg(long, default_value = "both")]
    platform: PlatformArg,
    /// So many rings a second on a fixed schedule; timed from when they were due.
    #[arg(long, value_name = "PER SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// So many rings under way at a time (64 without --rate). With --rate the most
    /// that may be unanswered (2000): what is due beyond waits, and counts as late.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    in_flight: Option<u32>,
    /// How long rings are sent, after the warm-up; 10s unless --count is given.
    #[arg(long, value_name = "TIME", value_parser = span)]
    duration: Option<Duration>,
    /// How many rings are sent, after the warm-up.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    count: Option<u64>,
    /// Rings are sent for so long first that are in no number.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// Phones that one ring is for.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    devices: u32,
    /// The payload profile, instead of the app's.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// How long a ring lives: what is not accepted by then has failed.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = life)]
    timeout: Duration,
    /// How late the simulator answers.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["config", "gateway"], value_parser = humantime::parse_duration)]
    latency: Option<Duration>,
    /// Faults that the simulator plays. Tokens begin with random hexadecimal digits:
    /// `token_prefix = "0"` is one phone in 16.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "gateway"])]
    script: Option<PathBuf>,
    /// Where the report is written.
    #[arg(long, value_name = "FILE", default_value = "ringpush-bench.html")]
    report: PathBuf,
    /// Writes none.
    #[arg(long, conflicts_with = "report")]
    no_report: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// `--platform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PlatformArg {
    Ios,
    Android,
    /// Or the one that the app has.
    Both,
}

impl PlatformArg {
    const fn has(self, platform: Platform) -> bool {
        match platform {
            Platform::Ios => matches!(self, Self::Ios | Self::Both),
            Platform::Android => matches!(self, Self::Android | Self::Both),
            Platform::Unknown => false,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=100_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("choose 0.1 to 100000".to_owned())
    }
}

fn span(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_millis(100), DAY)
}

fn life(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_secs(1), Duration::from_secs(3_600))
}

fn between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (least..=most).contains(&span) {
        Ok(span)
    } else {
        let [least, most] = [least, most].map(humantime::format_duration);
        Err(format!("choose {least} to {most}"))
    }
}

impl Args {
    fn pace(&self) -> Pace {
        let unset = if self.rate.is_some() {
            IN_FLIGHT.1
        } else {
            IN_FLIGHT.0
        };
        Pace {
            rate: self.rate,
            in_flight: self.in_flight.unwrap_or(unset),
        }
    }

    fn until(&self) -> Until {
        let unlimited = self.count.is_none().then_some(Duration::from_secs(10));
        Until {
            warm_up: self.warm_up,
            duration: self.duration.or(unlimited),
            count: self.count,
        }
    }

    fn check(&self) -> Result<(), Usage> {
        if self.warm_up > Duration::from_secs(600) {
            return Err(Usage("--warm-up: at most 10m".to_owned()));
        }
        if self.latency.is_some_and(|latency| latency >= self.timeout) {
            let problem = "--latency: shorter than --timeout, or no ring is ever accepted";
            return Err(Usage(problem.to_owned()));
        }
        Ok(())
    }
}

/// Sends load and says what came of it.
///
/// # Errors
/// Arguments or configuration cannot be used, the simulator does not come up, a
/// ring is broken, or nothing can be written where it should.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    args.check()?;
    // Before there is anything that a signal would leave behind.
    let mut signals = Signals::listen()?;
    let paper = if args.no_report {
        None
    } else {
        Some(Paper::at(&args.report)?)
    };
    let target = tokio::select! {
        target = Target::find(&args) => target?,
        () = stop_wanted(&mut signals) => return Ok(FAILED),
    };
    let Some(run) = measure(&args, &target, &mut signals).await? else {
        return Ok(FAILED);
    };
    let summary = Summary::of(&args, &target, &run);
    target.close().await;
    let written = paper.map(|paper| {
        let page = report::page(&summary, &run.tally)?;
        paper.write(page.as_bytes())
    });
    // The numbers are not lost with a disk that is full.
    let (written, problem) = match written.transpose() {
        Ok(written) => (written, None),
        Err(problem) => (None, Some(problem)),
    };
    let summary = summary.written_to(written);
    summary.show(&mut Screen::stdout(), args.json)?;
    if let Some(problem) = problem {
        return Err(problem.context("the report was not written"));
    }
    Ok(if summary.good() { DONE } else { FAILED })
}

/// Sends the load and watches it; none if it was to end at once. What was made for
/// it goes with whoever holds it, which the end of the process would not see to.
async fn measure(
    args: &Args,
    target: &Target,
    signals: &mut Signals,
) -> anyhow::Result<Option<Run>> {
    let rings = Rings::new(target, args)?;
    let recorder = Arc::new(Recorder::new(args.warm_up)?);
    let reports = Arc::clone(&recorder) as Arc<dyn Outcomes>;
    let app = App::new(target.config.clone(), reports, Metrics::default())?;
    tokio::select! {
        () = app.warm() => {}
        () = stop_wanted(signals) => return Ok(None),
    }
    let stop = CancellationToken::new();
    let mut meter = Meter::new(target.simulator_pid());
    recorder.start(Instant::now());
    let how = (args.pace(), args.until());
    let load = Load::new(
        Arc::clone(&app),
        rings,
        Arc::clone(&recorder),
        how,
        stop.clone(),
    );
    let sent = tokio::select! {
        sent = load.drive() => sent?,
        never = progress::watch(args, &app, &recorder, &mut meter) => match never {},
        () = stop_twice(signals, &stop) => return Ok(None),
    };
    meter.end();
    recorder.sample(app.dispatcher().history());
    let run = Run {
        tally: recorder.take(),
        sent,
        cost: meter.cost(),
        hindrances: hindrances(&app),
    };
    let _ = tokio::time::timeout(FAREWELL, app.close()).await;
    Ok(Some(run))
}

/// Why lanes could not send a push now.
fn hindrances(app: &App) -> Vec<String> {
    let routes = app.dispatcher().routes();
    let said = routes.lanes().filter_map(|lane| {
        let platform = lane.labels().platform;
        lane.hindrance().map(|why| format!("{platform}: {why}"))
    });
    said.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The first signal ends the sending, and what was measured until then is shown;
/// with the second one this is over.
async fn stop_twice(signals: &mut Signals, stop: &CancellationToken) {
    stop_wanted(signals).await;
    stop.cancel();
    stop_wanted(signals).await;
}

/// Waits for a signal to stop.
async fn stop_wanted(signals: &mut Signals) {
    while signals.next().await != Request::Stop {}
}
