//! The program itself, as a process.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{sleep, timeout};

/// Longer than anything here takes, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a process printed so far.
#[derive(Clone, Default)]
pub(crate) struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic holding it")).into_owned()
    }

    fn gather(&self, mut from: impl AsyncRead + Unpin + Send + 'static) {
        let all = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(read @ 1..) = from.read(&mut buffer).await {
                all.lock()
                    .expect("no panic holding it")
                    .extend(&buffer[..read]);
            }
        });
    }
}

/// A running `ringpush`. Dropped, it is killed, and if the test failed its log
/// is shown.
pub(crate) struct Worker {
    child: Child,
    pub(crate) input: Option<ChildStdin>,
    pub(crate) output: Printed,
    pub(crate) log: Printed,
}

impl Worker {
    /// `ringpush run` with this configuration.
    pub(crate) fn run(config: &Path, more: &[&str]) -> Self {
        let config = config.to_str().expect("a readable path");
        let mut arguments = vec!["run", "--config", config];
        arguments.extend(more);
        Self::command(&arguments)
    }

    /// Any command. It sees nothing of this process's environment.
    pub(crate) fn command(arguments: &[&str]) -> Self {
        Self::command_with(arguments, &[])
    }

    /// The same with environment variables.
    pub(crate) fn command_with(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringpush"));
        command
            .args(arguments)
            .env_clear()
            .envs(variables.iter().copied())
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("the program starts");
        let (output, log) = (Printed::default(), Printed::default());
        output.gather(child.stdout.take().expect("piped"));
        log.gather(child.stderr.take().expect("piped"));
        Self {
            input: child.stdin.take(),
            child,
            output,
            log,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it has not been waited for")
    }

    /// Sends `TERM`, `HUP`, `STOP` and the like.
    pub(crate) fn signal(&self, name: &str) {
        // The shell has `kill` where there is no such program.
        let sent = std::process::Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.id())])
            .status()
            .expect("sh runs");
        assert!(sent.success(), "SIG{name} could not be sent");
    }

    /// Waits for the end and gives the status.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let status = timeout(PATIENCE, self.child.wait()).await;
        status
            .unwrap_or_else(|_| panic!("it does not end"))
            .expect("it can be waited for")
    }

    /// The status that it ends with; panics if a signal ended it.
    pub(crate) async fn exit_code(&mut self) -> i32 {
        let status = self.ended().await;
        // What it printed last may still be on its way through the pipe.
        sleep(Duration::from_millis(50)).await;
        status.code().unwrap_or_else(|| panic!("{status}"))
    }

    /// SIGTERM, and its exit status.
    pub(crate) async fn stop(&mut self) -> i32 {
        self.signal("TERM");
        self.exit_code().await
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.child.start_kill().expect("it is ours");
        self.ended().await;
    }

    /// Whether it runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until the log has this text.
    pub(crate) async fn logs(&mut self, wanted: &str) {
        let wait = async {
            while !self.log.text().contains(wanted) {
                assert!(
                    self.is_running() || self.log.text().contains(wanted),
                    "ended without {wanted:?}"
                );
                sleep(Duration::from_millis(10)).await;
            }
        };
        let found = timeout(PATIENCE, wait).await.is_ok();
        assert!(found, "not in the log: {wanted:?}");
    }

    /// The admin address, which the log names when it is open.
    pub(crate) async fn admin(&mut self) -> String {
        const LINE: &str = "/healthz /readyz";
        self.logs(LINE).await;
        let text = self.log.text();
        let line = text.lines().find(|line| line.contains(LINE));
        let address = line
            .and_then(|line| line.split("127.0.0.1:").nth(1))
            .map(|rest| {
                rest.chars()
                    .take_while(char::is_ascii_digit)
                    .collect::<String>()
            })
            .expect("an address on loopback");
        format!("127.0.0.1:{address}")
    }

    /// Status and body of an admin page.
    pub(crate) async fn page(&mut self, path: &str) -> (u16, String) {
        let address = self.admin().await;
        let get = async {
            let mut stream = TcpStream::connect(&address).await?;
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = timeout(PATIENCE, get)
            .await
            .expect("an answer")
            .expect("the admin address answers");
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status.expect("an HTTP status"), body.to_owned())
    }

    /// Waits until `/readyz` says 200.
    pub(crate) async fn ready(&mut self) {
        self.readiness(200).await;
    }

    /// Waits until `/readyz` has this status, and gives its body.
    pub(crate) async fn readiness(&mut self, status: u16) -> String {
        let mut last = (0, String::new());
        let wait = async {
            loop {
                last = self.page("/readyz").await;
                if last.0 == status {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let became = timeout(PATIENCE, wait).await.is_ok();
        assert!(became, "/readyz is not {status} but {last:?}");
        last.1
    }

    /// The value of a metric: the sum over all its lines whose labels hold
    /// each of these texts (`platform="ios"`).
    pub(crate) async fn metric(&mut self, name: &str, labels: &[&str]) -> f64 {
        let (_, text) = self.page("/metrics").await;
        text.lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(series, _)| {
                series.split('{').next() == Some(name)
                    && labels.iter().all(|label| series.contains(label))
            })
            .map(|(_, value)| value.parse::<f64>().expect("a number"))
            .sum()
    }

    /// The most memory it ever had, in bytes (`VmHWM`).
    pub(crate) fn peak_memory(&self) -> u64 {
        let file = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(file).expect("a Linux /proc");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let number: u64 = kibibytes.and_then(|n| n.parse().ok()).expect("VmHWM");
        number * 1024
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log.text();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(60)..];
            eprintln!("--- the worker's log:\n{}\n---", tail.join("\n"));
        }
    }
}

/// Runs a command to its end: exit status, standard output, standard error.
pub(crate) async fn ringpush(arguments: &[&str]) -> (i32, String, String) {
    let mut worker = Worker::command(arguments);
    drop(worker.input.take());
    let code = worker.exit_code().await;
    (code, worker.output.text(), worker.log.text())
}
