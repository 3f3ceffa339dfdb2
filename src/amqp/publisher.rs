//! Confirmed publishing.
//!
//! One task owns a publishing channel: where tasks shared one, rejected
//! messages were seen reported as confirmed.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionStatus};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::AmqpError;
use super::ledger::{Fate, Ledger, Mark};
use super::wire::{bounded, open, short};

/// Bound on any single operation on the broker.
pub(crate) const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);
/// Bound on a confirm. A quorum queue that elects a leader takes seconds.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages published and not yet confirmed, at most.
pub(crate) const WINDOW: usize = 512;
/// How often a blocked connection is looked at again.
const BLOCKED_POLL: Duration = Duration::from_millis(250);

/// A message to be published.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) exchange: String,
    pub(crate) key: String,
    /// Whether a message that no queue takes is a failure.
    pub(crate) mandatory: bool,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message(to {:?}/{:?})", self.exchange, self.key)
    }
}

type Resolved = (u64, lapin::Result<Confirmation>);

/// A channel in confirm mode, owned by one task.
pub(crate) struct ConfirmChannel {
    channel: Channel,
    status: ConnectionStatus,
    futures: FuturesUnordered<BoxFuture<'static, Resolved>>,
    ledger: Ledger,
    /// What ended the channel, until it has been told.
    failure: Option<AmqpError>,
    /// When the connection was last seen blocked: that time does not count.
    blocked_at: Option<Instant>,
}

impl ConfirmChannel {
    /// Opens one.
    pub(crate) async fn open(connection: &Connection) -> Result<Self, AmqpError> {
        let channel = open(connection).await?;
        // Without this every publish would silently count as not asked for.
        bounded(
            "publisher confirms",
            channel.confirm_select(ConfirmSelectOptions::default()),
        )
        .await?;
        Ok(Self {
            channel,
            status: connection.status().clone(),
            futures: FuturesUnordered::new(),
            ledger: Ledger::default(),
            failure: None,
            blocked_at: None,
        })
    }

    /// Messages whose fate has not been told.
    pub(crate) fn outstanding(&self) -> usize {
        self.ledger.outstanding()
    }

    /// Publishes without waiting; [`ConfirmChannel::next`] says what became of
    /// it under the number returned here.
    pub(crate) fn publish(&mut self, message: Message) -> u64 {
        let mark = message
            .mandatory
            .then(|| Mark::of(&message.exchange, &message.key, &message.properties));
        let seq = self.ledger.enter(mark);
        let channel = self.channel.clone();
        self.futures.push(Box::pin(async move {
            let options = BasicPublishOptions {
                mandatory: message.mandatory,
                ..BasicPublishOptions::default()
            };
            let sent = channel.basic_publish(
                short(&message.exchange),
                short(&message.key),
                options,
                &message.body,
                message.properties,
            );
            let confirmation = match sent.await {
                Ok(confirm) => confirm.await,
                Err(error) => Err(error),
            };
            (seq, confirmation)
        }));
        // The first poll hands it to lapin.
        self.drain();
        seq
    }

    /// The next message whose fate is known; waits for ever if none is out.
    /// May be dropped and called again.
    ///
    /// # Errors
    /// The channel ended, or a confirm did not come in time: what became of
    /// all outstanding messages is unknown.
    pub(crate) async fn next(&mut self) -> Result<(u64, Fate), AmqpError> {
        loop {
            self.drain();
            if let Some(error) = self.failure.take() {
                return Err(error);
            }
            if let Some(fate) = self.ledger.pop() {
                return Ok(fate);
            }
            if self.futures.is_empty() {
                std::future::pending::<()>().await;
            }
            // Looked at again now and then, for a connection may be blocked or
            // unblocked meanwhile.
            let until = self.deadline()?.min(Instant::now() + BLOCKED_POLL);
            if let Ok(Some(resolved)) = timeout_at(until, self.futures.next()).await {
                self.resolve(resolved);
            }
        }
    }

    /// When the oldest confirm is overdue. Time spent blocked does not count.
    fn deadline(&mut self) -> Result<Instant, AmqpError> {
        let now = Instant::now();
        if self.status.blocked() {
            self.blocked_at = Some(now);
        }
        let since = self.ledger.oldest().unwrap_or(now);
        let since = self.blocked_at.map_or(since, |at| at.max(since));
        let deadline = since + CONFIRM_TIMEOUT;
        if deadline <= now {
            return Err(AmqpError::lost(
                "publishing",
                format!("no confirm within {} s", CONFIRM_TIMEOUT.as_secs()),
            ));
        }
        Ok(deadline)
    }

    /// Takes in everything that is resolved already.
    fn drain(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(resolved)) = self.futures.poll_next_unpin(&mut context) {
            self.resolve(resolved);
        }
    }

    fn resolve(&mut self, (seq, confirmation): Resolved) {
        let confirmation = match confirmation {
            Ok(confirmation) => confirmation,
            Err(error) => {
                // An exchange that is gone is declared again by the next session.
                self.failure
                    .get_or_insert_with(|| AmqpError::of_operation("publishing", &error).passing());
                return;
            }
        };
        let acked = match &confirmation {
            Confirmation::Ack(_) => true,
            Confirmation::Nack(_) => false,
            Confirmation::NotRequested => {
                self.failure = Some(AmqpError::lost("publishing", "the channel has no confirms"));
                return;
            }
        };
        let returned = confirmation.take_message().map(|message| {
            let message = message.delivery;
            Mark::of(
                message.exchange.as_str(),
                message.routing_key.as_str(),
                &message.properties,
            )
        });
        self.ledger.resolve(seq, acked, returned);
    }

    /// Ends the channel.
    pub(crate) async fn close(self) {
        let _ = self.channel.close(200, "OK".into()).await;
    }
}

/// Why a message was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PublishError {
    /// The session ended first; it is not known whether the broker has it.
    #[error("the session with the broker ended")]
    Gone,
    /// The broker would not have it.
    #[error("the broker refused it")]
    Refused,
    /// No queue takes it.
    #[error("no queue takes it")]
    Returned,
}

type Command = (Message, oneshot::Sender<Result<(), PublishError>>);

/// Hands messages to the task that owns a publishing channel. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Publisher(mpsc::Sender<Command>);

impl Publisher {
    /// A publisher, and the task that serves it until the channel fails or
    /// every publisher is gone.
    pub(crate) fn new(
        channel: ConfirmChannel,
    ) -> (Self, impl Future<Output = Result<(), AmqpError>> + Send) {
        let (sender, commands) = mpsc::channel(WINDOW);
        (Self(sender), serve(channel, commands))
    }

    /// Publishes and waits until the broker has the message.
    pub(crate) async fn publish(&self, message: Message) -> Result<(), PublishError> {
        let (reply, fate) = oneshot::channel();
        self.0
            .send((message, reply))
            .await
            .map_err(|_| PublishError::Gone)?;
        fate.await.unwrap_or(Err(PublishError::Gone))
    }
}

async fn serve(
    mut channel: ConfirmChannel,
    mut commands: mpsc::Receiver<Command>,
) -> Result<(), AmqpError> {
    let mut replies = BTreeMap::new();
    loop {
        tokio::select! {
            command = commands.recv(), if channel.outstanding() < WINDOW => {
                let Some((message, reply)) = command else { break };
                replies.insert(channel.publish(message), reply);
            }
            fate = channel.next() => reply_to(&mut replies, fate?),
        }
    }
    while !replies.is_empty() {
        let fate = channel.next().await?;
        reply_to(&mut replies, fate);
    }
    Ok(())
}

fn reply_to(
    replies: &mut BTreeMap<u64, oneshot::Sender<Result<(), PublishError>>>,
    (seq, fate): (u64, Fate),
) {
    let result = match fate {
        Fate::Confirmed => Ok(()),
        Fate::Refused => Err(PublishError::Refused),
        Fate::Returned => Err(PublishError::Returned),
    };
    if let Some(reply) = replies.remove(&seq) {
        // Whoever asked may have gone away.
        let _ = reply.send(result);
    }
}

/// A pause between two attempts at something that a broker refused.
pub(crate) async fn pause() {
    sleep(Duration::from_secs(1)).await;
}
