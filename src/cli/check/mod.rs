//! `ringpush check`: proves a set-up before the first call depends on it.

mod apple;
mod broker;
mod clock;
mod files;
mod google;
mod proof;
mod table;

use std::time::Duration;

use futures_util::future::join_all;

use super::{ConfigArgs, DONE, FAILED};
use crate::config::Config;
use proof::{Proof, State};

/// Proves the set-up: files, keys, certificates, profiles, clock, broker,
/// topology, TLS to each provider, OAuth. Says what is wrong and what to do.
///
/// Rings no phone: Apple is asked with a device token that cannot exist, Google
/// with a message that is only checked. On the broker it declares what a worker
/// would (nothing with `amqp.declare = false`). Ends with 0 if nothing failed,
/// 1 if something did, 2 if the configuration cannot be read.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ringpush check --config /etc/ringpush/ringpush.toml\n  \
                        ringpush check --offline --json"
)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Files, keys, certificates and profiles only: connects to nobody.
    #[arg(long)]
    offline: bool,
    /// Leaves the broker out, as for `run --stdin`.
    #[arg(long)]
    no_broker: bool,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// How long each provider may take.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Proves everything that can be proved, and shows it.
///
/// # Errors
/// The configuration cannot be read, or standard output is closed.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let config = Config::load(&args.config.config)?;
    let mut proofs = vec![Proof::ok(
        "configuration",
        format!("{}, {} app(s)", config.file().display(), config.apps.len()),
    )];
    proofs.extend(files::profiles(&config));
    let mut apps = Vec::new();
    for (name, app) in &config.apps {
        let (found, usable) = files::app(&config, name, app);
        proofs.extend(found);
        apps.extend(usable);
    }
    proofs.extend(files::authorities(&config));
    if args.offline {
        if !args.no_broker {
            proofs.push(broker::address(&config));
        }
        proofs.push(Proof::skipped("providers and broker", "--offline"));
    } else {
        proofs.extend(online(&config, &args, apps).await);
    }
    let failed = proofs.iter().any(|proof| proof.state == State::Failed);
    table::show(&proofs, args.json)?;
    Ok(if failed { FAILED } else { DONE })
}

async fn online(config: &Config, args: &Args, apps: Vec<files::Usable>) -> Vec<Proof> {
    let limit = args.timeout;
    let broker = async {
        if args.no_broker {
            vec![Proof::skipped("broker", "--no-broker")]
        } else {
            broker::prove(config).await
        }
    };
    let lanes = join_all(apps.into_iter().map(async |app| match app {
        files::Usable::Ios {
            name,
            settings,
            credentials,
        } => Box::pin(apple::prove(config, &name, &settings, &credentials, limit)).await,
        files::Usable::Android { name, account } => {
            Box::pin(google::prove(config, &name, &account, limit)).await
        }
    }));
    let (broker, lanes) = tokio::join!(broker, lanes);
    let mut clocks = Vec::new();
    let mut proofs = broker;
    for (found, clock) in lanes {
        proofs.extend(found);
        clocks.extend(clock);
    }
    proofs.push(clock::prove(&clocks));
    proofs
}
