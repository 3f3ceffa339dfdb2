//! The arguments, and what they come to.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::call::event::Platform;
use crate::call::secret::Secret;
use crate::cli::Usage;

/// Rings under way at a time if nobody says how many.
const IN_FLIGHT: u32 = 64;
/// The same with a rate, which may leave so many unanswered, and with a broker: as
/// many as two queues of a worker hold.
const MANY_IN_FLIGHT: u32 = 2_000;
/// Load against the simulator or a gateway, with rate or in-flight control, and a
/// report with latency and throughput plots.
///
/// Rings go through the worker's own code, without a broker, to phones that do not
/// exist; with --broker through a worker of their own behind a real one. Without
/// --config and --gateway they go to a simulator in another process. With --rate they leave on a fixed schedule however slow the
/// answers are, and are timed from the moment they were due; with --in-flight each
/// one waits for another to end. Ends with 0 if everything was sent and accepted,
/// with 1 if rings stayed behind, if nothing was accepted, if a push had no outcome
/// or two, or if pushes failed without a --script to make them, and with 2 for wrong
/// usage or configuration.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  ringpush bench\n  \
                        ringpush bench --rate 500 --duration 1m --report bench.html\n  \
                        ringpush bench --in-flight 200 --platform ios --latency 40ms\n  \
                        ringpush bench --rate 200 --script faults.toml\n  \
                        AMQP_URL=amqp://guest:guest@127.0.0.1/%2f ringpush bench --broker --rate 500\n  \
                        ringpush bench --gateway https://127.0.0.1:8443 --gateway-ca ca.pem --json\n  \
                        ringpush bench --config staging.toml --app com.example.calls --count 10000")]
pub struct Args {
    /// A configuration whose gateways and keys are used. Apple's and Google's own
    /// are refused. Without it a simulator is started.
    #[arg(long, short, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The app of that configuration, if it has several.
    #[arg(
        long,
        value_name = "NAME",
        requires = "config",
        allow_hyphen_values = true
    )]
    pub(super) app: Option<String>,
    /// Where pushes go instead, to both paths: an HTTP/2 server. Keys are the
    /// configuration's, or made up.
    #[arg(long, value_name = "URL")]
    pub(super) gateway: Option<String>,
    /// The certificates to trust there, PEM; without it the system's.
    #[arg(long, value_name = "FILE", requires = "gateway")]
    pub(super) gateway_ca: Option<PathBuf>,
    /// Through a `ringpush run` of its own behind a real broker, on queues of its own
    /// that are deleted at the end.
    #[arg(long)]
    pub(super) broker: bool,
    /// That broker, instead of the configuration's `amqp.url`.
    #[arg(long, value_name = "URL", env = "AMQP_URL", hide_env_values = true, value_parser = |url: &str| Ok::<_, Infallible>(Secret::from(url)))]
    pub(super) amqp_url: Option<Secret>,
    /// Which phones ring, alternately if both.
    #[arg(long, default_value = "both")]
    pub(super) platform: PlatformArg,
    /// So many rings a second on a fixed schedule; timed from when they were due.
    #[arg(long, value_name = "PER SECOND")]
    pub(super) rate: Option<f64>,
    /// So many rings under way at a time (64, or 2000 with --broker, divided by --devices).
    /// With --rate the most that may be unanswered (2000, likewise): what is due beyond
    /// waits, and counts as late.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) in_flight: Option<u32>,
    /// How long rings are sent, after the warm-up; 10s unless --count is given.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(super) duration: Option<Duration>,
    /// How many rings are sent, after the warm-up.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(super) count: Option<u64>,
    /// Rings are sent for so long first that are in no number.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub(super) warm_up: Duration,
    /// Phones that one ring is for.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(super) devices: u32,
    /// The payload profile, instead of the app's.
    #[arg(long, value_name = "NAME")]
    pub(super) profile: Option<String>,
    /// How long a ring lives: what is not accepted by then has failed.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub(super) timeout: Duration,
    /// How late the simulator answers.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["config", "gateway"], value_parser = humantime::parse_duration)]
    pub(super) latency: Option<Duration>,
    /// Faults that the simulator plays. Tokens begin with random hexadecimal digits:
    /// `token_prefix = "0"` is one phone in 16.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "gateway"])]
    pub(super) script: Option<PathBuf>,
    /// Where the report is written.
    #[arg(long, value_name = "FILE", default_value = "ringpush-bench.html")]
    pub(super) report: PathBuf,
    /// Writes none.
    #[arg(long, conflicts_with = "report")]
    pub(super) no_report: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    pub(super) json: bool,
}

/// `--platform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PlatformArg {
    Ios,
    Android,
    /// Or the one that the app has.
    Both,
}

impl PlatformArg {
    pub(super) const fn has(self, platform: Platform) -> bool {
        match platform {
            Platform::Ios => matches!(self, Self::Ios | Self::Both),
            Platform::Android => matches!(self, Self::Android | Self::Both),
            Platform::Unknown => false,
        }
    }
}

impl Args {
    /// Rings under way at a time, at most.
    pub(super) fn most_in_flight(&self) -> u32 {
        let many = self.broker || self.rate.is_some();
        let unset = if many { MANY_IN_FLIGHT } else { IN_FLIGHT };
        // Each phone of a ring is a push.
        self.in_flight.unwrap_or((unset / self.devices).max(1))
    }

    /// How long rings are sent after the warm-up, if not until there were enough.
    pub(super) fn span(&self) -> Option<Duration> {
        let unset = self.count.is_none().then_some(Duration::from_secs(10));
        self.duration.or(unset)
    }

    /// When the last ring is due, from the beginning.
    pub(super) fn end(&self) -> Duration {
        let rest = self.span().unwrap_or(Duration::MAX);
        self.warm_up.saturating_add(rest)
    }

    /// # Errors
    /// A value makes no sense.
    pub(super) fn check(&self) -> Result<(), Usage> {
        let seconds = |span: Duration| span.as_secs_f64();
        let wrong = |rate: &f64| !(0.1..=100_000.0).contains(rate);
        let no_span = |span: &Duration| !(0.1..=86_400.0).contains(&seconds(*span));
        let problems = [
            (
                self.rate.as_ref().is_some_and(wrong),
                "--rate: choose 0.1 to 100000",
            ),
            (
                self.duration.as_ref().is_some_and(no_span),
                "--duration: choose 100ms to 24h",
            ),
            (seconds(self.warm_up) > 600.0, "--warm-up: at most 10m"),
            (
                !(1.0..=3_600.0).contains(&seconds(self.timeout)),
                "--timeout: choose 1s to 1h",
            ),
            (
                self.latency >= Some(self.timeout),
                "--latency: shorter than --timeout, or no ring is ever accepted",
            ),
        ];
        let problem = problems.into_iter().find(|(wrong, _)| *wrong);
        problem.map_or(Ok(()), |(_, problem)| Err(Usage(problem.to_owned())))
    }
}
