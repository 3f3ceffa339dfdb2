//! A simulator, a configuration that points at it, and the program.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use ringpush::simulator::{Options, Script, Simulator};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const APP: &str = "com.example.calls";
pub(crate) const IOS_TOKEN: &str =
    "80f1c2d3e4a5968778695a4b3c2d1e0f00112233445566778899aabbccddeeff";
pub(crate) const ANDROID_TOKEN: &str = "fGzJ3kq9T0abcdef:APA91bSecretPartOfTheToken_0123456789";

pub(crate) struct Rig {
    pub(crate) simulator: Simulator,
    folder: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub(crate) async fn start_with(options: Options) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let simulator = Simulator::start(options).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        simulator.write_files(folder.path()).unwrap();
        Self { simulator, folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }

    /// Changes the configuration.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        self.edit_file("ringpush.toml", from, to);
    }

    pub(crate) fn edit_file(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{from:?} is not in {name}:\n{text}");
        self.write(name, text.replace(from, to));
    }

    pub(crate) fn script(&self, toml: &str) {
        self.simulator
            .script(Script::from_toml(toml).unwrap())
            .unwrap();
    }

    /// `ringpush COMMAND --config …` with more arguments.
    pub(crate) async fn run(&self, command: &str, more: &[&str]) -> Ran {
        let config = self.path("ringpush.toml");
        let mut arguments = vec![command, "--config", config.to_str().unwrap()];
        arguments.extend(more);
        run(&arguments).await
    }

    /// `ringpush send` to a phone, as JSON.
    pub(crate) async fn send(&self, platform: &str, more: &[&str]) -> Ran {
        let token = if platform == "ios" {
            IOS_TOKEN
        } else {
            ANDROID_TOKEN
        };
        let mut arguments = vec!["--json", "--app", APP, "--platform", platform];
        if !more.contains(&"--token") {
            arguments.extend(["--token", token]);
        }
        arguments.extend(more);
        self.run("send", &arguments).await
    }
}

/// Any command. It sees nothing of this process's environment.
pub(crate) async fn run(arguments: &[&str]) -> Ran {
    run_with(arguments, &[]).await
}

/// The same with an environment of its own.
pub(crate) async fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
    let child = Command::new(env!("CARGO_BIN_EXE_ringpush"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, child).await.expect("it ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran {
        code: output.status.code().expect("no signal"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}
