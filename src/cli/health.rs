//! `ringpush health`: is the worker ready? For a container's health check.

use std::io::Write as _;
use std::time::Duration;

use super::{ConfigArgs, DONE, FAILED, admin_client};
use crate::config::Config;

/// Asks a running worker on this host whether it is ready, and prints what it
/// says.
///
/// Ends with 0 if it is and with 1 if it is not or if nobody answers at
/// `admin.listen`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ringpush health --config /etc/ringpush/ringpush.toml\n  \
                        RINGPUSH_CONFIG=ringpush.toml ringpush health --timeout 1s"
)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// How long the answer may take.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Asks once.
///
/// # Errors
/// The configuration cannot be read, or nobody answers.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let config = Config::load(&args.config.config)?;
    let (status, body) = admin_client::get(config.admin.listen, "/readyz", args.timeout).await?;
    writeln!(std::io::stdout(), "{}", body.trim_end())?;
    Ok(if status.is_success() { DONE } else { FAILED })
}
