//! One session with the broker, from connecting to the first thing that fails.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use lapin::{Connection, Event};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::call::event::Platform;
use crate::engine::delivery::Source;
use crate::engine::dispatch::Dispatcher;
use crate::metrics::Metrics;

use super::cancels::{CATCH_UP, Cancels};
use super::connect::close;
use super::intake::{Desk, Intake};
use super::publisher::{ConfirmChannel, Publisher};
use super::repair::Repairs;
use super::reports::ReportQueue;
use super::topology::Topology;
use super::{AmqpError, Connector};

/// How often a connection that says nothing is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How it stands with the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerState {
    /// Both connections are there and events are being taken.
    pub connected: bool,
    /// Why the broker takes no publishes, while it does not.
    pub blocked: Option<String>,
    /// Why there is no session, while there is none.
    pub error: Option<String>,
}

/// What a session is made of.
pub(crate) struct Session<'a> {
    pub(crate) connector: &'a Connector,
    pub(crate) topology: &'a Topology,
    pub(crate) ring_window: Duration,
    pub(crate) prefetch: u16,
    pub(crate) dispatcher: &'a Arc<Dispatcher>,
    pub(crate) tracker: &'a tokio_util::task::TaskTracker,
    pub(crate) stop: &'a CancellationToken,
    pub(crate) state: &'a watch::Sender<BrokerState>,
    pub(crate) metrics: &'a Metrics,
    /// Whether there has been no session yet: what is wrong from the start is
    /// for a person to mend.
    pub(crate) first: bool,
}

/// The two connections of a session.
pub(crate) struct Link {
    consuming: Connection,
    publishing: Connection,
}

impl Link {
    /// Says goodbye on both.
    pub(crate) async fn close(&self) {
        tokio::join!(close(&self.consuming), close(&self.publishing));
    }
}

type Tasks = JoinSet<Result<(), AmqpError>>;

impl Session<'_> {
    /// Connects, and makes sure that exchanges and queues are there.
    pub(crate) async fn connect(&self) -> Result<Link, AmqpError> {
        let (consuming, publishing) = tokio::try_join!(
            self.connector.connect("ringpush consume"),
            self.connector.connect("ringpush publish"),
        )?;
        let link = Link {
            consuming,
            publishing,
        };
        match self.topology.ensure(&link.consuming).await {
            Ok(()) => Ok(link),
            Err(error) => {
                link.close().await;
                Err(error)
            }
        }
    }

    /// Works until something fails.
    pub(crate) async fn run(&self, link: &Link, reports: &mut ReportQueue) -> AmqpError {
        let (mut channel, forwarding, marking) = match self.open(link).await {
            Ok(channels) => channels,
            Err(error) => return error,
        };
        // Ends with this function, and all tasks with it.
        let mut tasks = Tasks::new();
        let (caught_up, gate) = oneshot::channel();
        let cancels = Cancels {
            connection: &link.consuming,
            topology: self.topology,
            ring_window: self.ring_window,
            dispatcher: self.dispatcher,
        };
        let (repairs, shop) = Repairs::new();
        let working = async {
            let started = self.start(link, forwarding, repairs.clone(), gate, &mut tasks);
            if let Err(error) = started.await {
                return error;
            }
            self.metrics.broker_connected.set(1);
            self.state.send_modify(|state| {
                state.connected = true;
                state.error = None;
            });
            let broker = self.connector.endpoint();
            if self.first {
                info!(broker, "connected to the broker");
            } else {
                warn!(broker, "back at the broker");
            }
            first_failure(&mut tasks).await
        };
        tokio::select! {
            error = working => error,
            never = cancels.keep(marking, caught_up) => match never {},
            never = shop.serve(self.topology, &link.consuming) => match never {},
            error = reports.serve(
                &mut channel,
                &self.topology.names().outcomes,
                &repairs,
            ) => error,
            error = watch_connection(&link.consuming, "the consuming connection", None) => error,
            error = watch_connection(
                &link.publishing,
                "the publishing connection",
                Some(self.state),
            ) => error,
        }
    }

    /// The channels that are published on: for reports, for messages passed on,
    /// for the marker. All are opened before anything is published, for the
    /// first publish may block the connection, and then nothing can be opened.
    async fn open(
        &self,
        link: &Link,
    ) -> Result<(ConfirmChannel, ConfirmChannel, ConfirmChannel), AmqpError> {
        tokio::try_join!(
            ConfirmChannel::open(&link.publishing),
            ConfirmChannel::open(&link.publishing),
            ConfirmChannel::open(&link.publishing),
        )
    }

    async fn start(
        &self,
        link: &Link,
        forwarding: ConfirmChannel,
        repairs: Repairs,
        gate: oneshot::Receiver<Result<(), AmqpError>>,
        tasks: &mut Tasks,
    ) -> Result<(), AmqpError> {
        if self.stop.is_cancelled() {
            // Only what is under way still needs the broker.
            return Ok(());
        }
        self.wait_for_cancels(gate).await?;
        let (publisher, serve) = Publisher::new(forwarding);
        tasks.spawn(serve);
        let desk = Desk {
            dispatcher: Arc::clone(self.dispatcher),
            names: Arc::new(self.topology.names().clone()),
            user: self.connector.user().map(Arc::from),
            publisher,
            repairs,
            tracker: self.tracker.clone(),
            stop: self.stop.clone(),
        };
        for source in [
            Source::Calls,
            Source::Platform(Platform::Ios),
            Source::Platform(Platform::Android),
        ] {
            let intake = Intake::start(&link.consuming, desk.clone(), source, self.prefetch);
            let (intake, acks) = intake.await?;
            tasks.spawn(acks);
            tasks.spawn(intake.run());
        }
        Ok(())
    }

    /// Until the cancels sent before are known, but not for long.
    async fn wait_for_cancels(
        &self,
        gate: oneshot::Receiver<Result<(), AmqpError>>,
    ) -> Result<(), AmqpError> {
        match timeout(CATCH_UP + LOOK_EVERY, gate).await {
            Ok(Ok(Err(error))) if self.first && error.is_configuration() => Err(error),
            Ok(Ok(Ok(()) | Err(_)) | Err(_)) => Ok(()),
            Err(_) => {
                warn!("cancels cannot be read in time; taking rings now");
                Ok(())
            }
        }
    }
}

/// The first task that fails. Intakes that were told to stop end without.
async fn first_failure(tasks: &mut Tasks) -> AmqpError {
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(error) => return AmqpError::lost("a task of the session", error.to_string()),
        }
    }
    std::future::pending().await
}

/// Ends with what ended the connection, and says when the broker blocks it.
async fn watch_connection(
    connection: &Connection,
    name: &'static str,
    state: Option<&watch::Sender<BrokerState>>,
) -> AmqpError {
    let mut events = std::pin::pin!(connection.events_listener());
    loop {
        let event = timeout(LOOK_EVERY, next(&mut events)).await;
        match event {
            Ok(Some(Event::ConnectionBlocked(reason))) => {
                warn!(reason, "the broker takes no publishes; rings go on");
                set_blocked(state, Some(reason));
            }
            Ok(Some(Event::ConnectionUnblocked)) => {
                info!("the broker takes publishes again");
                set_blocked(state, None);
            }
            // A channel's error ends its channel only, and whoever uses that
            // reports it.
            Ok(Some(Event::Error(error))) if !connection.status().connected() => {
                return AmqpError::lost(name, super::error::reason(&error));
            }
            Ok(_) | Err(_) if !connection.status().connected() => {
                return AmqpError::lost(name, "was closed");
            }
            Ok(_) | Err(_) => {}
        }
    }
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    stream.next().await
}

fn set_blocked(state: Option<&watch::Sender<BrokerState>>, reason: Option<String>) {
    if let Some(state) = state {
        state.send_modify(|state| state.blocked = reason);
    }
}
