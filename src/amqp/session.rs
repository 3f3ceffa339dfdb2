//! One session with the broker, from connecting to the first thing that fails.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt};
use lapin::{Connection, Event};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::call::event::Platform;
use crate::engine::delivery::Source;

use super::cancels::{CATCH_UP, Cancels};
use super::confirm_channel::ConfirmChannel;
use super::connect::close;
use super::context::Context;
use super::error::{self, AmqpError};
use super::intake::{Ended, Intake};
use super::outbox::Outbox;
use super::publisher::{Publisher, Reply};
use super::redeclare::Redeclare;
use super::reports::Item;

/// How often a connection that says nothing is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A session: its two connections.
pub(crate) struct Session {
    context: Arc<Context>,
    consuming: Arc<Connection>,
    publishing: Connection,
    /// Whether there has been none before: what is wrong from the start is for
    /// a person to mend.
    first: bool,
}

/// The channels that are published on.
struct Channels {
    reports: ConfirmChannel<Item>,
    /// For messages that are passed on.
    passing: ConfirmChannel<Reply>,
    /// For the marker in the stream of cancels.
    marking: ConfirmChannel<()>,
}

impl Session {
    /// Connects, and makes sure that exchanges and queues are there.
    pub(crate) async fn connect(context: Arc<Context>, first: bool) -> Result<Self, AmqpError> {
        let (consuming, publishing) = tokio::try_join!(
            context.connector.connect("ringpush consume"),
            context.connector.connect("ringpush publish"),
        )?;
        let session = Self {
            consuming: Arc::new(consuming),
            publishing,
            context,
            first,
        };
        let declared = session.context.topology.ensure(&session.consuming).await;
        if let Err(error) = declared {
            session.close().await;
            return Err(error);
        }
        Ok(session)
    }

    /// Says goodbye on both connections.
    pub(crate) async fn close(&self) {
        tokio::join!(close(&self.consuming), close(&self.publishing));
    }

    /// Works until something fails: what that was, and since when events had
    /// been taken. No error if it was ended from here.
    pub(crate) async fn run(&self, outbox: &mut Outbox) -> (Option<AmqpError>, Option<Instant>) {
        let Channels {
            mut reports,
            passing,
            marking,
        } = match self.open().await {
            Ok(channels) => channels,
            Err(error) => return (Some(error), None),
        };
        let redeclare = Redeclare::new(self.context.topology.clone(), Arc::clone(&self.consuming));
        let redeclare = Arc::new(redeclare);
        let (publisher, passing_on) = Publisher::new(passing, Arc::clone(&redeclare));
        let (caught_up, gate) = oneshot::channel();
        let cancels = Cancels {
            context: &self.context,
            connection: &self.consuming,
        };
        let outcomes = &self.context.topology.names().outcomes;
        let mut since = None;
        let parts = async {
            tokio::select! {
                () = self.context.end.cancelled() => None,
                error = self.take(publisher, gate, &mut since) => Some(error),
                never = cancels.keep(marking, caught_up) => match never {},
                error = outbox.serve(&mut reports, outcomes, &redeclare) => Some(error),
                // When every publisher is gone no intake is left either.
                Err(error) = passing_on => Some(error),
                error = self.watch(&self.consuming, "the consuming connection") => Some(error),
                error = self.watch(&self.publishing, "the publishing connection") => Some(error),
            }
        };
        // A part that panics ends the session as any other failure does.
        let ended = AssertUnwindSafe(parts).catch_unwind().await;
        outbox.take_back(reports.into_unconfirmed());
        let panicked = |_| Some(AmqpError::lost("a part of the session", "panicked"));
        (ended.unwrap_or_else(panicked), since)
    }

    /// All are opened before anything is published, for the first publish may
    /// block the connection, and then nothing can be opened.
    async fn open(&self) -> Result<Channels, AmqpError> {
        let (reports, passing, marking) = tokio::try_join!(
            ConfirmChannel::open(&self.publishing),
            ConfirmChannel::open(&self.publishing),
            ConfirmChannel::open(&self.publishing),
        )?;
        Ok(Channels {
            reports,
            passing,
            marking,
        })
    }

    /// Takes events until an intake fails.
    async fn take(
        &self,
        publisher: Publisher,
        gate: oneshot::Receiver<Result<(), AmqpError>>,
        since: &mut Option<Instant>,
    ) -> AmqpError {
        let mut intakes = match self.start(publisher, gate).await {
            Ok(intakes) => intakes,
            Err(error) => return error,
        };
        *since = Some(Instant::now());
        let _connected = self.context.set_connected();
        let broker = self.context.connector.endpoint();
        if self.first {
            info!(broker, "connected to the broker");
        } else {
            warn!(broker, "back at the broker");
        }
        while let Some(ended) = intakes.next().await {
            match ended {
                // It was told to stop.
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(_) if self.context.abandon.is_cancelled() => {}
                Err(_) => return AmqpError::lost("taking messages", "panicked"),
            }
        }
        // Nothing is taken any more.
        std::future::pending().await
    }

    async fn start(
        &self,
        publisher: Publisher,
        gate: oneshot::Receiver<Result<(), AmqpError>>,
    ) -> Result<FuturesUnordered<Ended>, AmqpError> {
        let ended = FuturesUnordered::new();
        if self.context.stop.is_cancelled() {
            // Only what is under way still needs the broker.
            return Ok(ended);
        }
        self.wait_for_cancels(gate).await?;
        for source in [
            Source::Calls,
            Source::Platform(Platform::Ios),
            Source::Platform(Platform::Android),
        ] {
            let context = Arc::clone(&self.context);
            let intake = Intake::start(context, &self.consuming, publisher.clone(), source);
            ended.push(intake.await?.spawn());
        }
        Ok(ended)
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

    /// Ends with what ended the connection, and says when the broker blocks it.
    async fn watch(&self, connection: &Connection, name: &'static str) -> AmqpError {
        let mut events = std::pin::pin!(connection.events_listener());
        loop {
            let event = timeout(LOOK_EVERY, next(&mut events)).await;
            match event {
                // Only who publishes is blocked.
                Ok(Some(Event::ConnectionBlocked(reason))) => {
                    warn!(reason, "the broker takes no publishes; rings go on");
                    self.context
                        .state
                        .send_modify(|state| state.blocked = Some(reason));
                }
                Ok(Some(Event::ConnectionUnblocked)) => {
                    info!("the broker takes publishes again");
                    self.context.state.send_modify(|state| state.blocked = None);
                }
                // A channel's error ends its channel only, and whoever uses that
                // reports it.
                Ok(Some(Event::Error(error))) if !connection.status().connected() => {
                    return AmqpError::lost(name, error::reason(&error));
                }
                Ok(_) | Err(_) if !connection.status().connected() => {
                    return AmqpError::lost(name, "was closed");
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    stream.next().await
}
