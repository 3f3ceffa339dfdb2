//! A worker on standard input, and a browser of few words.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use ringpush::simulator::{Options, Script, Simulator};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// Two device tokens that no page may show.
pub(crate) const IOS_TOKEN: &str =
    "0a281d3d8ccd19fa29a723fe148b3fbc187daf3c395d99c2866bd373be41cf21";
pub(crate) const ANDROID_TOKEN: &str = "VxdfeYmDgL0mbe3aUyELqw:APA91bHt9ISGQDft18ybfZg80VeuCiApHq";
/// A name that no page may show.
pub(crate) const CALLER: &str = "Alice Unmistakable";

/// The running program and what it sends to.
pub(crate) struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    outcomes: mpsc::Receiver<Value>,
    pub(crate) log: Arc<Mutex<Vec<Value>>>,
    pub(crate) address: SocketAddr,
    config: PathBuf,
    written: String,
    _simulator: Simulator,
    _folder: tempfile::TempDir,
}

impl Worker {
    /// With the simulator's script and this log level.
    pub(crate) async fn start(script: &str, level: &str) -> Self {
        let simulator = Simulator::start(Options {
            script: Script::from_toml(script).unwrap(),
            ..Options::default()
        })
        .await
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = simulator.write_files(folder.path()).unwrap().config;
        let written = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, logging(&written, level)).unwrap();
        let mut child = ringpush()
            .args(["run", "--stdin", "--config"])
            .arg(&config)
            .env("RINGPUSH__ADMIN__LISTEN", "127.0.0.1:0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (found, address) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).expect("a log line is JSON");
                if let Some(address) = line["address"].as_str() {
                    let _ = found.send(address.parse().unwrap());
                }
                kept.lock().unwrap().push(line);
            }
        });
        let (tell, outcomes) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = tell.send(serde_json::from_str(&line).unwrap());
            }
        });
        let address = address.recv_timeout(PATIENCE).expect("an admin address");
        Self {
            input: child.stdin.take(),
            child,
            outcomes,
            log,
            address,
            config,
            written,
            _simulator: simulator,
            _folder: folder,
        }
    }

    /// Hands over an event and waits for the outcomes of so many pushes.
    pub(crate) fn send(&mut self, event: &Value, pushes: usize) -> Vec<Value> {
        writeln!(self.input.as_mut().unwrap(), "{event}").unwrap();
        self.outcomes(pushes)
    }

    /// The outcomes of so many pushes.
    pub(crate) fn outcomes(&mut self, pushes: usize) -> Vec<Value> {
        let mut outcomes = Vec::new();
        while outcomes.len() < pushes {
            let outcome = self.outcomes.recv_timeout(PATIENCE).expect("an outcome");
            if outcome["type"] == "push" {
                outcomes.push(outcome);
            }
        }
        outcomes
    }

    /// Changes the level in the configuration and sends SIGHUP; waits until the
    /// worker says that it has read it.
    pub(crate) fn set_level(&self, level: &str) {
        std::fs::write(&self.config, logging(&self.written, level)).unwrap();
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-HUP", &pid]).status().unwrap();
        assert!(sent.success());
        let began = Instant::now();
        let read = "configuration, keys and profiles were read again";
        while !self
            .log
            .lock()
            .unwrap()
            .iter()
            .any(|line| line["message"] == read)
        {
            assert!(began.elapsed() < PATIENCE, "SIGHUP was not heard");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Hands over an event and waits for nothing.
    pub(crate) fn hand_over(&mut self, event: &Value) {
        writeln!(self.input.as_mut().unwrap(), "{event}").unwrap();
    }

    /// Status, head and body of an answer.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Answer {
        self.ask_for(method, path, "*/*")
    }

    /// The same, of these media types.
    pub(crate) fn ask_for(&self, method: &str, path: &str, accept: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn page(&self, path: &str) -> String {
        let answer = self.ask("GET", path);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    /// `ringpush trace` with these arguments.
    pub(crate) fn trace(&self, args: &[&str]) -> Output {
        ringpush()
            .arg("trace")
            .args(args)
            .arg("--config")
            .arg(&self.config)
            .env("RINGPUSH__ADMIN__LISTEN", self.address.to_string())
            .output()
            .unwrap()
    }

    /// Ends it by ending its input; everything is in the log then.
    pub(crate) fn end(&mut self) {
        drop(self.input.take());
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

fn logging(config: &str, level: &str) -> String {
    format!("{config}\n[log]\nformat = \"json\"\nlevel = \"{level}\"\n")
}

fn ringpush() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringpush"));
    command.env_remove("RINGPUSH_CONFIG");
    command
}

/// A ring sent just now.
pub(crate) fn ring(call_id: &str, devices: &[Value]) -> Value {
    json!({
        "v": 1, "event": "ring", "event_id": uuid::Uuid::new_v4(), "call_id": call_id,
        "sent_at": chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        "caller": {"id": "alice", "name": CALLER}, "devices": devices,
    })
}

pub(crate) fn ios(id: &str) -> Value {
    json!({"id": id, "platform": "ios", "app": "com.example.calls", "token": IOS_TOKEN})
}

pub(crate) fn android(id: &str) -> Value {
    json!({"id": id, "platform": "android", "app": "com.example.calls", "token": ANDROID_TOKEN})
}
