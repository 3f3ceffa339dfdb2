//! A real `RabbitMQ` for a test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A broker: the one at `AMQP_URL`, or a private node that goes with the test
/// process, however that ends.
pub(crate) struct Broker {
    /// Where it is.
    pub(crate) url: String,
    folder: Option<PathBuf>,
}

impl Broker {
    /// One for all tests of this process that do it no harm.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| match std::env::var("AMQP_URL") {
            Ok(url) if !url.is_empty() => Self { url, folder: None },
            _ => Self::private(),
        })
    }

    /// One of the test's own, to be stopped, killed and blocked.
    pub(crate) fn private() -> Self {
        Self::private_with("")
    }

    /// The same with more configuration (`rabbitmq.conf`).
    pub(crate) fn private_with(configuration: &str) -> Self {
        let name = format!("ringpush-broker-{}", uuid::Uuid::new_v4().simple());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder for the broker");
        std::fs::write(folder.join("extra.conf"), configuration).expect("its configuration");
        let mut broker = Self {
            url: String::new(),
            folder: Some(folder),
        };
        broker.start();
        let folder = broker.folder.as_ref().expect("private");
        let env = std::fs::read_to_string(folder.join("env")).expect("DIR/env");
        env.lines()
            .find_map(|line| line.strip_prefix("AMQP_URL="))
            .expect("AMQP_URL in DIR/env")
            .clone_into(&mut broker.url);
        broker
    }

    /// Starts it again, with its data.
    pub(crate) fn start(&self) {
        self.script("start", &[]);
    }

    /// Ends it gracefully.
    pub(crate) fn stop(&self) {
        self.script("stop", &[]);
    }

    /// Kills it.
    pub(crate) fn kill(&self) {
        self.script("kill", &[]);
    }

    /// Ends it and deletes its files.
    pub(crate) fn remove(&self) {
        self.script("remove", &[]);
    }

    /// Runs rabbitmqctl.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        self.script("ctl", arguments)
    }

    fn script(&self, command: &str, arguments: &[&str]) -> String {
        let folder = self.folder.as_ref().expect("a private broker");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/broker");
        let output = Command::new(script)
            .arg(command)
            .arg(folder)
            .args(arguments)
            .env("RINGPUSH_BROKER_OWNER", std::process::id().to_string())
            .output()
            .expect("scripts/broker runs");
        assert!(
            output.status.success(),
            "scripts/broker {command} failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.folder.is_some() && !std::thread::panicking() {
            self.remove();
        }
    }
}
