//! The commands, one file each.

mod admin_client;
pub mod bench;
pub mod check;
mod common;
pub mod demo;
pub mod enqueue;
pub mod explain;
mod fresh;
pub mod health;
mod preview;
pub mod profiles;
mod reference;
pub mod run;
mod screen;
pub mod send;
pub mod simulate;
mod table;
pub mod trace;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

pub use common::{ConfigArgs, DONE, FAILED, USAGE, Usage};

use crate::amqp::AmqpError;
use crate::config::ConfigError;
use crate::telemetry::TelemetryError;
use crate::trust::{self, TrustError};

/// Makes phones ring: call events from `RabbitMQ` become `PushKit` `VoIP` pushes
/// and high-priority FCM data messages.
#[derive(Debug, Parser)]
#[command(name = "ringpush", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Demo(demo::Args),
    Simulate(simulate::Args),
    Enqueue(enqueue::Args),
    Send(Box<send::Args>),
    Bench(Box<bench::Args>),
    Check(check::Args),
    Explain(explain::Args),
    Health(health::Args),
    Completions(reference::CompletionsArgs),
    Man(reference::ManArgs),
    Profiles(profiles::Args),
    Trace(trace::Args),
}

/// `docs/cli.md`.
#[must_use]
pub fn document() -> String {
    reference::document(Cli::command())
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    trust::forget_empty_file();
    let cli = Cli::parse();
    // The one TLS provider of every library in here.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        return complain(&anyhow::anyhow!("TLS was set up twice"));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return complain(&anyhow::Error::new(error)),
    };
    let done = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run::run(args).await,
            Command::Demo(args) => demo::run(args).await,
            Command::Simulate(args) => simulate::run(args).await.map(|()| DONE),
            Command::Enqueue(args) => enqueue::run(args).await,
            Command::Send(args) => send::run(*args).await,
            Command::Bench(args) => bench::run(*args).await,
            Command::Check(args) => check::run(args).await,
            Command::Explain(args) => explain::run(&args),
            Command::Health(args) => health::run(args).await,
            Command::Completions(args) => reference::completions(&args, Cli::command()),
            Command::Man(args) => reference::man(&args, Cli::command()),
            Command::Profiles(args) => profiles::run(&args),
            Command::Trace(args) => trace::run(args).await,
        }
    });
    // Blocked reads of standard input must not keep the process.
    runtime.shutdown_background();
    done.map_or_else(|error| complain(&error), ExitCode::from)
}

/// Says what went wrong and ends with the status that belongs to it.
fn complain(error: &anyhow::Error) -> ExitCode {
    let closed = |cause: &(dyn std::error::Error + 'static)| {
        let error = cause.downcast_ref::<std::io::Error>();
        error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(closed) {
        // Whoever read has seen enough, as `head` does.
        return ExitCode::from(FAILED);
    }
    // If even this cannot be written there is nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "ringpush: {error:#}");
    let configuration = error.chain().any(|cause| {
        cause.is::<ConfigError>()
            || cause.is::<Usage>()
            || cause.is::<TelemetryError>()
            || cause.is::<TrustError>()
            || cause
                .downcast_ref::<AmqpError>()
                .is_some_and(AmqpError::is_configuration)
    });
    ExitCode::from(if configuration { USAGE } else { FAILED })
}
