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
use crate::simulator::{Keep, Options, Record, Script, Simulator, Stop};

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
        let dir = tempfile::tempdir().context("no temporary folder for the keys")?;
        let scripts = scripts(args, dir.path())?;
        let mut script = Script::default();
        for file in &scripts {
            let read = Script::from_file(file);
            let read = read.map_err(|error| Usage(format!("--script: {error}")))?;
            script.rules.extend(read.rules);
        }
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
            let (child, config) = spawn(&scripts, dir.path()).await?;
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

async fn spawn(scripts: &[PathBuf], dir: &Path) -> anyhow::Result<(Child, PathBuf)> {
    let mut command = own_program("simulate")?;
    command.args(["--json", "--quiet", "--until-eof", "--dir"]);
    command.arg(dir.join("sim"));
    for script in scripts {
        command.arg("--script").arg(script);
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

/// The scripts that the simulator plays: the faults that are wanted, and after
/// them one that makes everything else slow.
fn scripts(args: &Args, dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut scripts: Vec<PathBuf> = args.script.iter().cloned().collect();
    if let Some(latency) = args.latency.filter(|latency| !latency.is_zero()) {
        let delay = humantime::format_duration(latency);
        let slow =
            |server| format!("[[rule]]\nserver = \"{server}\"\nthen = {{ delay = \"{delay}\" }}\n");
        let file = dir.join("latency.toml");
        std::fs::write(&file, slow("apns") + &slow("fcm"))
            .context("cannot write the simulator's script")?;
        scripts.push(file);
    }
    Ok(scripts)
}
