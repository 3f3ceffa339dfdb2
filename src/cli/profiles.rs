//! `ringpush profiles`: which payload profiles there are, and the exact
//! request that one makes of an event.

mod list;
mod preview;
mod render;
mod table;

use std::path::PathBuf;

use clap::Subcommand;

use crate::app::profiles;
use crate::call::payload::Profiles;
use crate::config::Config;

/// Payload profiles: which there are, and exactly what one sends.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  ringpush profiles list\n  \
                        ringpush profiles render --profile chime --event ring.json")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::Args),
    Render(render::Args),
}

/// Where own profiles and the apps are, if anywhere.
#[derive(Debug, clap::Args)]
struct SetupArgs {
    /// The configuration file, for `profiles.dir` and the apps; without it
    /// there are only the built-in profiles, and an app's name is taken for
    /// its bundle id.
    #[arg(long, short, value_name = "FILE", env = "RINGPUSH_CONFIG")]
    config: Option<PathBuf>,
}

/// Profiles and settings, those of a file or the default ones.
struct Setup {
    config: Config,
    profiles: Profiles,
    /// Whether a file was named.
    configured: bool,
}

impl SetupArgs {
    fn load(&self) -> anyhow::Result<Setup> {
        let config = match &self.config {
            Some(file) => Config::load(file)?,
            None => Config::default(),
        };
        Ok(Setup {
            profiles: profiles(&config)?,
            config,
            configured: self.config.is_some(),
        })
    }
}

/// Lists or renders.
///
/// # Errors
/// The configuration or a profile cannot be used, or the event cannot be read.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    match &args.command {
        Command::List(args) => list::run(args),
        Command::Render(args) => render::run(args),
    }
}
