//! A worker between a broker and the simulator.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringpush::simulator::{Options, Record, ServerKind, Simulator};
use tempfile::TempDir;
use uuid::Uuid;

use super::broker::Broker;
use super::client::Client;
use super::worker::{PATIENCE, Worker};

/// The simulator, the files that point a worker at it and at a prefix of its
/// own on a broker, and a client on that broker.
pub(crate) struct Stage {
    pub(crate) simulator: Simulator,
    pub(crate) client: Client,
    pub(crate) url: String,
    pub(crate) config: PathBuf,
    folder: TempDir,
}

impl Stage {
    /// On the shared broker.
    pub(crate) async fn new() -> Self {
        Self::with("", Options::default()).await
    }

    /// On the shared broker, with more configuration: TOML that is laid over
    /// what the simulator writes.
    pub(crate) async fn with(configuration: &str, options: Options) -> Self {
        Self::on(shared().await, configuration, options).await
    }

    /// On this broker.
    pub(crate) async fn on(url: &str, configuration: &str, options: Options) -> Self {
        let simulator = Simulator::start(options).await.expect("the simulator");
        let prefix = format!("t{}", Uuid::new_v4().simple());
        let folder = tempfile::tempdir().expect("a folder");
        let files = simulator.write_files(folder.path()).expect("its files");
        let stage = Self {
            client: Client::open(url, &prefix).await,
            simulator,
            url: url.to_owned(),
            config: files.config,
            folder,
        };
        let own = format!(
            "[amqp]\nurl = \"{url}\"\nprefix = \"{prefix}\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n"
        );
        stage.configure(&own);
        stage.configure(configuration);
        stage
    }

    /// Lays TOML over the configuration file.
    pub(crate) fn configure(&self, configuration: &str) {
        configure(&self.config, configuration);
    }

    /// A file of the configuration's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Every attempt at a push so far, once there are so many. (To open its
    /// connections the worker also makes requests that push nothing.)
    pub(crate) async fn pushes(&self, at_least: usize) -> Vec<Arc<Record>> {
        let is_push = |record: &&Arc<Record>| {
            record.server != ServerKind::Oauth && record.method == http::Method::POST
        };
        let journal = self.simulator.record();
        let enough = |all: &[Arc<Record>]| all.iter().filter(is_push).count() >= at_least;
        assert!(
            journal.wait_until(PATIENCE, enough).await,
            "fewer than {at_least} pushes"
        );
        journal.all().iter().filter(is_push).cloned().collect()
    }

    /// A worker that is ready.
    pub(crate) async fn worker(&self) -> Worker {
        let mut worker = self.starting();
        worker.ready().await;
        worker
    }

    /// A worker that has only been started.
    pub(crate) fn starting(&self) -> Worker {
        Worker::run(&self.config, &["--grace", "10s"])
    }

    /// Stops the worker and proves that it left nothing behind: exit status 0,
    /// no event ready or unacknowledged. Then deletes the exchanges and queues.
    pub(crate) async fn end(self, mut worker: Worker) {
        assert_eq!(worker.stop().await, 0);
        self.client.intake_is_empty().await;
        self.client.clean().await;
    }
}

/// Where the shared broker is. Its start blocks, so it is not left to the
/// tests' own threads.
pub(crate) async fn shared() -> &'static str {
    let broker = tokio::task::spawn_blocking(Broker::shared).await;
    &broker.expect("a broker").url
}

/// The simulator and the files that point a worker at it; no broker anywhere.
pub(crate) struct Offline {
    pub(crate) simulator: Simulator,
    pub(crate) config: PathBuf,
    pub(crate) folder: TempDir,
}

impl Offline {
    /// Without a table `[amqp]`, and with an admin address of its own.
    pub(crate) async fn new() -> Self {
        let simulator = Simulator::start(Options::default())
            .await
            .expect("the simulator");
        let folder = tempfile::tempdir().expect("a folder");
        let config = simulator
            .write_files(folder.path())
            .expect("its files")
            .config;
        edit(&config, |all| {
            all.remove("amqp");
        });
        configure(&config, "[admin]\nlisten = \"127.0.0.1:0\"");
        Self {
            simulator,
            config,
            folder,
        }
    }
}

/// Lays TOML over a configuration file.
pub(crate) fn configure(config: &Path, configuration: &str) {
    let above = toml::from_str(configuration).expect("TOML");
    edit(config, |all| lay_over(all, above));
}

/// Changes a configuration file.
pub(crate) fn edit(config: &Path, change: impl FnOnce(&mut toml::Table)) {
    let text = std::fs::read_to_string(config).expect("the configuration");
    let mut all: toml::Table = toml::from_str(&text).expect("TOML");
    change(&mut all);
    std::fs::write(config, all.to_string()).expect("the configuration");
}

fn lay_over(below: &mut toml::Table, above: toml::Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}
