//! A `ringpush run` of its own behind a real broker, on queues of its own:
//! rings are published as a service publishes them, and outcomes are read.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, Consumer};
use tempfile::TempDir;
use tokio::process::Child;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::args::Args;
use super::record::{End, Recorder};
use super::rings::{Ring, due_of_token};
use super::simulated::{Simulated, own_program};
use super::target::Target;
use super::worker_config;
use crate::amqp::{self, Connector, Names};
use crate::call::event::Platform;
use crate::simulator::{Record, ServerKind};

/// For the worker to take from its queues.
const START: Duration = Duration::from_secs(60);
/// Between two looks whether it does.
const LOOK: Duration = Duration::from_millis(100);
/// Beyond a ring's life for its outcomes, and for everything to be deleted.
const GRACE: Duration = Duration::from_secs(5);
/// Lines of the worker's log that are shown when it ends.
const LINES: usize = 3;

/// The worker.
pub(super) struct Process {
    pub(super) pid: Option<u32>,
    /// The worker, and those who read what it does. They end with an error only.
    tasks: JoinSet<anyhow::Result<()>>,
    // Configuration and log are in here.
    _dir: TempDir,
}

/// Publishes rings, and knows which have no outcome yet.
pub(super) struct Client {
    channel: Channel,
    names: Names,
    /// Pushes without an outcome, by event and phone, and who waits for it.
    open: Mutex<HashMap<(Uuid, String), oneshot::Sender<()>>>,
    phones: u32,
    /// How long a ring's outcomes are waited for.
    patience: Duration,
    /// Why the broker does not take rings.
    refusals: mpsc::Sender<anyhow::Error>,
    // Everything goes over it.
    _connection: Connection,
}

impl Process {
    /// Starts the worker and waits until it takes from its queues.
    ///
    /// # Errors
    /// The broker cannot be used, or the worker does not start; says why.
    pub(super) async fn start(
        args: &Args,
        target: &Target,
        recorder: &Arc<Recorder>,
    ) -> anyhow::Result<(Self, Arc<Client>)> {
        let settings = &target.config.amqp;
        let connection = Connector::new(settings)?.connect("ringpush bench").await?;
        let dir = tempfile::tempdir().context("no temporary folder for the configuration")?;
        let log = dir.path().join("worker.log");
        let mut child = spawn(target, dir.path(), &log)?;
        timeout(START, taking(&mut child, target))
            .await
            .unwrap_or_else(|_| bail!("it takes nothing from its queues"))
            .with_context(|| format!("the worker does not start: {}", tail(&log)))?;
        let channel = connection.create_channel().await?;
        let outcomes = outcomes(&channel, settings).await?;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        confirms.await?;
        let (refusals, mut refused) = mpsc::channel(1);
        let client = Arc::new(Client {
            channel,
            names: Names::new(&settings.prefix),
            open: Mutex::default(),
            phones: args.devices,
            patience: args.timeout + GRACE,
            refusals,
            _connection: connection,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { refused.recv().await.map_or(Ok(()), Err) });
        tasks.spawn(read(outcomes, Arc::clone(&client), Arc::clone(recorder)));
        let simulator = target.simulator.as_ref();
        if let Some(requests) = simulator.and_then(Simulated::requests) {
            tasks.spawn(arrivals(requests, Arc::clone(recorder)));
        }
        let pid = child.id();
        tasks.spawn(async move {
            let ended = child.wait().await?;
            bail!("the worker ended ({ended}): {}", tail(&log));
        });
        let process = Self {
            pid,
            tasks,
            _dir: dir,
        };
        Ok((process, client))
    }

    /// Why it cannot go on, as soon as that is so.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(problem))) => problem,
            ended => anyhow::anyhow!("outcomes are read no more ({ended:?})"),
        }
    }

    /// Ends it. It has nothing left to do, and its queues go as well.
    pub(super) async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

/// The last lines of the worker's log.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let before = text.lines().count().saturating_sub(LINES);
    text.lines().skip(before).collect::<Vec<_>>().join("\n")
}

/// The worker, with a configuration of its own.
fn spawn(target: &Target, dir: &Path, log: &Path) -> anyhow::Result<Child> {
    let file = dir.join("worker.toml");
    let output = File::create(log).context("cannot write the worker's log")?;
    let mut command = own_program("run")?;
    command.arg("--config").arg(&file);
    worker_config::write(target, &file, &mut command)?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("cannot start the worker")
}

/// Waits until the worker takes from the queues of its platforms, which it does
/// when it is connected to the gateway.
async fn taking(child: &mut Child, target: &Target) -> anyhow::Result<()> {
    let names = Names::new(&target.config.amqp.prefix);
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("it ended ({status})");
        }
        // They are not there until it has declared them.
        let counts = amqp::count(&target.config.amqp).await.unwrap_or_default();
        let taken = |platform: &Platform| {
            let queue = names.queue_of(*platform);
            let mut counts = counts.iter().filter(|count| count.name == queue);
            counts.any(|count| count.consumers > 0)
        };
        if target.platforms().iter().all(taken) {
            return Ok(());
        }
        sleep(LOOK).await;
    }
}

/// Reads the outcomes of pushes, without acknowledging them.
async fn outcomes(channel: &Channel, settings: &amqp::Settings) -> anyhow::Result<Consumer> {
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let none = FieldTable::default;
    let queue = channel.queue_declare("".into(), options, none()).await?;
    let (queue, exchange) = (queue.name(), Names::new(&settings.prefix).outcomes.into());
    let options = QueueBindOptions::default();
    let bind = channel.queue_bind(queue.clone(), exchange, "push.#".into(), options, none());
    bind.await?;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let consumer = channel.basic_consume(queue.clone(), "".into(), options, none());
    Ok(consumer.await?)
}

async fn read(
    mut outcomes: Consumer,
    client: Arc<Client>,
    recorder: Arc<Recorder>,
) -> anyhow::Result<()> {
    while let Some(delivery) = outcomes.next().await {
        let outcome = serde_json::from_slice(&delivery?.data).context("an outcome is none")?;
        client.ended(outcome, &recorder);
    }
    bail!("the broker ended the reading of outcomes")
}

/// Times the requests that come to the simulator.
async fn arrivals(
    mut requests: broadcast::Receiver<Arc<Record>>,
    recorder: Arc<Recorder>,
) -> anyhow::Result<()> {
    loop {
        let request = match requests.recv().await {
            Ok(request) => request,
            // Fewer of them are timed, at a load that nobody can follow.
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => bail!("the simulator ended"),
        };
        let fcm = request.server == ServerKind::Fcm;
        let platform = if fcm { "android" } else { "ios" };
        let now = Instant::now();
        let ago = chrono::Utc::now() - request.at;
        let at = now.checked_sub(ago.to_std().unwrap_or_default());
        if let Some(due) = request.token.as_deref().and_then(due_of_token) {
            recorder.arrived(platform, due, at.unwrap_or(now));
        }
    }
}

impl Client {
    /// Publishes a ring and waits until all of its pushes have ended. One that does
    /// not end is given up; if its outcome comes later it counts all the same.
    pub(super) async fn ring(&self, ring: Ring) {
        let all = (0..self.phones).map(|phone| {
            let (done, ended) = oneshot::channel();
            let key = (ring.event_id, format!("phone-{phone}"));
            self.open().insert(key, done);
            ended
        });
        let all = join_all(all);
        if let Err(problem) = self.publish(&ring).await {
            // Only the first one is looked at.
            let _ = self.refusals.try_send(problem);
        }
        let _ = timeout(self.patience, all).await;
    }

    async fn publish(&self, ring: &Ring) -> anyhow::Result<()> {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_message_id(ring.event_id.to_string().into());
        let key = format!("ring.{}", ring.platform.name()).into();
        let calls = self.names.calls.as_str().into();
        let (channel, how) = (&self.channel, BasicPublishOptions::default());
        let publish = channel.basic_publish(calls, key, how, &ring.body, properties);
        let confirm = timeout(self.patience, async { publish.await?.await }).await;
        let confirm = confirm.context("the broker does not confirm a ring")??;
        anyhow::ensure!(confirm.is_ack(), "the broker refused a ring");
        Ok(())
    }

    fn ended(&self, mut end: End, recorder: &Recorder) {
        let push = (end.event_id, std::mem::take(&mut end.device_id));
        let open = self.open().remove(&push);
        let Some(done) = open else {
            recorder.ended_again();
            return;
        };
        recorder.ended(end);
        // Nobody waits if it was given up.
        let _ = done.send(());
    }

    fn open(&self) -> MutexGuard<'_, HashMap<(Uuid, String), oneshot::Sender<()>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Deletes every queue and exchange with this prefix.
///
/// # Errors
/// The broker cannot be reached any more, or it refuses.
pub(super) async fn clean(settings: &amqp::Settings) -> anyhow::Result<()> {
    let names = Names::new(&settings.prefix);
    let delete = async {
        let connection = Connector::new(settings)?.connect("ringpush bench").await?;
        let channel = connection.create_channel().await?;
        let queues = [&names.ios, &names.android, &names.cancels, &names.tokens];
        for queue in queues.into_iter().chain([&names.calls, &names.dead]) {
            let options = QueueDeleteOptions::default();
            channel.queue_delete(queue.as_str().into(), options).await?;
        }
        for exchange in [&names.calls, &names.outcomes, &names.dead] {
            let options = ExchangeDeleteOptions::default();
            let deleted = channel.exchange_delete(exchange.as_str().into(), options);
            deleted.await?;
        }
        anyhow::Ok(())
    };
    let deleted = timeout(GRACE, delete).await;
    deleted
        .unwrap_or_else(|_| bail!("the broker does not answer"))
        .with_context(|| format!("queues named {}.* are left on the broker", settings.prefix))
}
