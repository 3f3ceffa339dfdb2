//! `ringpush profiles`: which payload profiles there are, and the exact
//! request that one makes of an event.

mod list;
mod render;
mod setup;

use clap::Subcommand;

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
