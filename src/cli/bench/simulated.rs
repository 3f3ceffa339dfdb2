//! The simulator that the load goes to, apart from the worker, so that its work is
//! not taken for the worker's.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

use super::args::Args;
use crate::cli::Usage;
use crate::simulator::{
    Effect, Keep, Options, Record, Rule, Script, Simulator, Step, Stop, Target as Server,
};

/// The simulator makes an RSA key first, which takes a moment in a debug build.
const START: Duration = Duration::from_secs(60);
/// For the simulator to end by itself.
const END: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(super) struct Simulated {
    /// Of a worker in this process.
    child: Option<Child>,
    /// Of a worker that has a process of its own: what comes here can be timed.
    inside: Option<Simulator>,
    /// What it wrote for a worker.
    pub(super) config: PathBuf,
    // Keys are in here; it goes with the run.
    _dir: TempDir,
}

impl Simulated {
    /// # Errors
    /// The script cannot be read, or the simulator does not come up.
    pub(super) async fn start(args: &Args) -> anyhow::Result<Self> {
        let script = script(args)?;
        let dir = tempfile::tempdir().context("no temporary folder for the keys")?;
        let (child, inside, config) = if args.broker {
            let options = Options {
                keep: Keep::Counts,
                script,
                ..Options::default()
            };
            let simulator = Simulator::start(options).await?;
            let files = simulator.write_files(dir.path());
            let config = files.context("cannot write the simulator's keys")?.config;
            (None, Some(simulator), config)
        } else {
            let (child, config) = spawn(&script, dir.path()).await?;
            (Some(child), None, config)
        };
        Ok(Self {
            child,
            inside,
            config,
            _dir: dir,
        })
    }

    /// Its process, if it has one of its own.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref()?.id()
    }

    /// The requests that come to it from now on, if they can be seen.
    pub(super) fn requests(&self) -> Option<Receiver<Arc<Record>>> {
        Some(self.inside.as_ref()?.record().subscribe())
    }

    /// Pushes that it took more than once.
    pub(super) fn taken_twice(&self) -> Option<u64> {
        Some(self.inside.as_ref()?.record().tally().repeated)
    }

    /// Ends it.
    pub(super) async fn end(self) {
        if let Some(mut child) = self.child {
            drop(child.stdin.take());
            // If it does not end by itself it goes when it is dropped.
            let _ = timeout(END, child.wait()).await;
        }
        if let Some(simulator) = self.inside {
            simulator.stop(Stop::Abrupt).await;
        }
    }
}

async fn spawn(script: &Script, dir: &Path) -> anyhow::Result<(Child, PathBuf)> {
    let mut command = own_program("simulate")?;
    command.args(["--json", "--quiet", "--until-eof", "--dir"]);
    command.arg(dir.join("sim"));
    if !script.rules.is_empty() {
        let file = dir.join("script.json");
        std::fs::write(&file, serde_json::to_vec(script)?)
            .context("cannot write the simulator's script")?;
        command.arg("--script").arg(file);
    }
    let mut child = command
        // It ends with this process, however that ends.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the simulator")?;
    let output = child.stdout.take().context("the simulator has no output")?;
    let mut line = String::new();
    let mut output = BufReader::new(output);
    let hello = timeout(START, output.read_line(&mut line)).await;
    hello.context("the simulator does not come up")??;
    let hello: Value = serde_json::from_str(&line).unwrap_or_default();
    let Some(config) = hello["config"].as_str() else {
        bail!("the simulator ended at once; `ringpush simulate` shows why");
    };
    Ok((child, PathBuf::from(config)))
}

/// This very program, also if its file was replaced meanwhile. It is killed when it
/// is dropped.
pub(super) fn own_program(command: &str) -> anyhow::Result<Command> {
    let running = PathBuf::from("/proc/self/exe");
    let program = if running.exists() {
        running
    } else {
        std::env::current_exe().context("cannot find the program to start it again")?
    };
    let mut own = Command::new(program);
    // A Ctrl-C is for this process: what is under way still ends.
    own.arg(command).process_group(0).kill_on_drop(true);
    Ok(own)
}

/// The faults that are wanted, and after them the latency of everything else.
fn script(args: &Args) -> anyhow::Result<Script> {
    let read = args.script.as_deref().map(Script::from_file).transpose();
    let mut script = read
        .map_err(|error| Usage(format!("--script: {error}")))?
        .unwrap_or_default();
    if let Some(latency) = args.latency.filter(|latency| !latency.is_zero()) {
        for server in [Server::Apns, Server::Fcm] {
            let late = Step::new(Effect::Honest).after(latency);
            script
                .rules
                .push(Rule::every(server, Vec::new()).then(late));
        }
    }
    Ok(script)
}
