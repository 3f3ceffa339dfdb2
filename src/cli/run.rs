//! `ringpush run`: the worker.

use std::time::Duration;

use tokio::io::BufReader;

use super::{ConfigArgs, DONE, FAILED};
use crate::app::{run_on_broker, run_on_lines};
use crate::config::Config;
use crate::shutdown::Signals;
use crate::telemetry::Telemetry;
use crate::trust;

/// The worker: takes events from the broker and makes phones ring.
///
/// SIGTERM or SIGINT: takes no more messages and finishes what is in flight; a
/// second one ends it at once. SIGHUP: reads configuration, keys and profiles
/// again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ringpush run --config /etc/ringpush/ringpush.toml\n  \
                        ringpush run --config sim/ringpush.toml --stdin < events.jsonl"
)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Takes events as JSON lines from standard input and writes outcomes as
    /// JSON lines to standard output; needs no broker.
    #[arg(long)]
    stdin: bool,
    /// How long what is in flight may take to finish after a signal.
    #[arg(long, value_name = "TIME", default_value = "25s", value_parser = humantime::parse_duration)]
    grace: Duration,
}

/// Runs until a signal, or until standard input ends.
///
/// # Errors
/// What cannot be used or fails, with its cure.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    // Both from the first moment on, so that no signal is missed by either.
    let (signals, mut again) = (Signals::listen()?, Signals::listen()?);
    tokio::select! {
        ended = work(args, signals) => ended.map(|()| DONE),
        // Whoever asks twice does not want to wait for anything, whatever is
        // being done or closed.
        () = again.second_stop() => Ok(FAILED),
    }
}

async fn work(args: Args, signals: Signals) -> anyhow::Result<()> {
    let config = Config::load(&args.config.config)?;
    // Token requests trust the system's roots also where nothing else does, and
    // are made when the worker runs already.
    trust::check()?;
    let telemetry = Telemetry::start(config.log)?;
    let ended = if args.stdin {
        let (input, output) = (BufReader::new(tokio::io::stdin()), tokio::io::stdout());
        run_on_lines(config, args.grace, &telemetry, signals, input, output).await
    } else {
        run_on_broker(config, args.grace, &telemetry, signals).await
    };
    telemetry.close().await;
    ended
}
