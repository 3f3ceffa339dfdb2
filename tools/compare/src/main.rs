//! ringpush's APNs client beside others, against one server: see README.md.

mod measure;
mod report;
mod senders;
mod server;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

/// The names that a2 and its fork go to in production; here they are this
/// machine's.
const HOSTS: [&str; 2] = ["api.push.apple.com", "localhost"];
const BUNDLE: &str = "com.example.calls";
const TOPIC: &str = "com.example.calls.voip";
/// Where the server takes commands.
const CONTROL: (&str, u16) = ("127.0.0.1", 8444);

/// Set in the namespaces of its own.
const INSIDE: &str = "COMPARE_INSIDE";
/// The server's CA, for the stand-in of webpki-roots and for ours.
const CA: &str = "COMPARE_CA";
/// The same for clients that trust what the system does.
const SYSTEM_CA: &str = "SSL_CERT_FILE";

const USAGE: &str = "usage: ringpush-compare [--runs N]";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        [] => compare(5),
        ["--runs", runs] => compare(runs.parse().context(USAGE)?),
        ["server", directory] => block_on(server::run(Path::new(directory))),
        ["client", name, case] => {
            let ca = std::env::var_os(CA).context("no CA")?;
            let result = block_on(measure::run(name, case, Path::new(&ca)))?;
            println!("{result}");
            Ok(())
        }
        _ => bail!(USAGE),
    }
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // One provider for every client whose TLS is rustls 0.23.
    let provider = rustls::crypto::ring::default_provider();
    provider
        .install_default()
        .map_err(|_| anyhow!("a provider is there"))?;
    tokio::runtime::Runtime::new()?.block_on(future)
}

/// All of it, in turns: a disturbance of the machine meets every client.
fn compare(runs: usize) -> anyhow::Result<()> {
    ensure!(runs > 0, USAGE);
    if std::env::var_os(INSIDE).is_none() {
        return enter();
    }
    let before = load_average();
    let mut results = report::Results::new();
    for run in 1..=runs {
        for case in measure::CASES {
            for name in senders::NAMES {
                let result = one(name, case).with_context(|| format!("{name}, {case}"))?;
                eprintln!("run {run} of {runs}: {name}, {case}: {result}");
                results.entry((name, case)).or_default().push(result);
            }
        }
    }
    println!("{}", report::markdown(&results));
    println!("{}", report::json(&results, &[before, load_average()]));
    Ok(())
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.trim().to_owned()
}

/// Begins again where this program is root of a network that is nothing but a
/// loopback, with a hosts file of its own: a client that knows only Apple's
/// names comes to port 443 of the server, and nothing can come to Apple.
fn enter() -> anyhow::Result<()> {
    let directory = TempDir::new()?;
    let hosts = directory.path().join("hosts");
    let lines = HOSTS.map(|name| format!("127.0.0.1 {name}\n")).concat();
    std::fs::write(&hosts, lines)?;
    let script = "ip link set lo up && mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--net"])
        .args(["sh", "-c", script, "sh"])
        .arg(hosts)
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()
        .context("unshare (of util-linux)")?;
    ensure!(status.success(), "ended with {status}");
    Ok(())
}

/// One measurement, with a server of its own.
fn one(name: &str, case: &str) -> anyhow::Result<Value> {
    let directory = TempDir::new()?;
    let ca = directory.path().join("ca.pem");
    let server = Server::start(directory.path())?;
    let client = Command::new(std::env::current_exe()?)
        .args(["client", name, case])
        .env(CA, &ca)
        .env(SYSTEM_CA, &ca)
        .stderr(Stdio::inherit())
        .output()?;
    drop(server);
    ensure!(
        client.status.success(),
        "the client ended with {}",
        client.status
    );
    Ok(serde_json::from_slice(&client.stdout)?)
}

/// A server's process, which ends with this.
struct Server(Child);

impl Server {
    fn start(directory: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("server").arg(directory).stdout(Stdio::piped());
        let mut server = Self(command.spawn()?);
        let output = server.0.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line == "ready\n", "the server did not start");
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
