//! A worker, the simulator that plays a script, and the books.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ringpush::simulator::{Options, Script};

use crate::ledger::{Books, Ledger};
use crate::support::broker::Broker;
use crate::support::stage::{Stage, shared};
use crate::support::worker::Worker;

/// The longest that a scenario's reports may take: longer than any ring lives
/// and any broker takes to come back.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

pub(crate) struct Scene {
    pub(crate) stage: Stage,
    pub(crate) worker: Worker,
    pub(crate) ledger: Ledger,
}

/// A script that users can play too: `ringpush simulate --script`.
pub(crate) fn script(name: &str) -> Script {
    let file = folder().join(name).with_extension("toml");
    Script::from_file(&file).expect("a script")
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/faults")
}

/// A broker of the test's own. Starting one blocks.
pub(crate) async fn private_broker() -> &'static Broker {
    let broker = tokio::task::spawn_blocking(Broker::private).await;
    Box::leak(Box::new(broker.expect("a broker")))
}

/// Does something to a broker, which blocks.
pub(crate) async fn blocking(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.expect("done");
}

impl Scene {
    /// A worker that is ready, then the script.
    pub(crate) async fn playing(name: &str) -> Self {
        let scene = Self::ready("").await;
        scene.play(name);
        scene
    }

    /// A worker that is ready, on the shared broker.
    pub(crate) async fn ready(configuration: &str) -> Self {
        Self::on(shared().await, configuration).await
    }

    /// The same on this broker.
    pub(crate) async fn on(url: &str, configuration: &str) -> Self {
        let mut scene = Self::starting(url, configuration, None).await;
        scene.worker.ready().await;
        scene
    }

    /// A worker that has only been started, with a script that is played from
    /// the start.
    pub(crate) async fn starting(url: &str, configuration: &str, name: Option<&str>) -> Self {
        let options = Options {
            script: name.map(script).unwrap_or_default(),
            ..Options::default()
        };
        let stage = Stage::on(url, configuration, options).await;
        let ledger = Ledger::open(url, &stage.client.prefix).await;
        let worker = stage.starting();
        Self {
            stage,
            worker,
            ledger,
        }
    }

    pub(crate) fn play(&self, name: &str) {
        self.stage.simulator.script(script(name)).expect("valid");
    }

    pub(crate) async fn books(&mut self) -> Books {
        self.ledger.collect(PATIENCE).await
    }

    /// The worker ends with nothing left behind.
    pub(crate) async fn end(self) {
        self.stage.end(self.worker).await;
    }

    /// The same where the broker the stage began with is gone.
    pub(crate) async fn end_on(mut self, broker: &'static Broker) {
        assert_eq!(self.worker.stop().await, 0);
        blocking(|| broker.remove()).await;
    }
}
