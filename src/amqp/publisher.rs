//! Confirmed publishing.
//!
//! One task owns a publishing channel: where tasks shared one, rejected
//! messages were seen reported as confirmed. And lapin hands a returned
//! (unroutable) message to whichever confirm it resolves next, so returns are
//! matched by message id here.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionStatus};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::AmqpError;
use super::topology::{bounded, open, short, text_of};

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
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message(to {:?}/{:?})", self.exchange, self.key)
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The broker has it.
    Confirmed,
    /// The broker would not have it.
    Refused,
    /// No queue takes it (mandatory messages only).
    Returned,
}

/// What a returned message is recognised by: where it was to go and its
/// message id, and its part, for the parts of an event share their id. Two
/// messages can be the same in all of these; then both count as returned, for
/// a duplicate does less harm than a loss.
type Mark = (String, String, String);

fn mark(exchange: &str, key: &str, properties: &BasicProperties) -> Mark {
    let id = properties.message_id().as_ref();
    let part = properties
        .headers()
        .as_ref()
        .and_then(|headers| headers.inner().get("x-part"))
        .and_then(text_of);
    (
        format!("{exchange}/{key}"),
        id.map(ToString::to_string).unwrap_or_default(),
        part.unwrap_or_default(),
    )
}

/// A message that waits for its confirm.
struct Open {
    /// Of mandatory messages only; others are never returned.
    mark: Option<Mark>,
    since: Instant,
}

/// A mandatory message that was confirmed, and is believed only when every
/// message published up to `until` is resolved too: one of those may be the
/// confirm that lapin gave this message's return to.
struct Held {
    seq: u64,
    mark: Mark,
    until: u64,
}

type Resolved = (u64, lapin::Result<Confirmation>);

/// A channel in confirm mode, owned by one task.
pub(crate) struct ConfirmChannel {
    channel: Channel,
    status: ConnectionStatus,
    next: u64,
    futures: FuturesUnordered<BoxFuture<'static, Resolved>>,
    open: BTreeMap<u64, Open>,
    held: VecDeque<Held>,
    returned: HashSet<Mark>,
    fates: VecDeque<(u64, Fate)>,
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
            next: 0,
            futures: FuturesUnordered::new(),
            open: BTreeMap::new(),
            held: VecDeque::new(),
            returned: HashSet::new(),
            fates: VecDeque::new(),
            blocked_at: None,
        })
    }

    /// Messages not yet resolved.
    pub(crate) fn outstanding(&self) -> usize {
        self.open.len() + self.held.len() + self.fates.len()
    }

    /// Publishes without waiting; [`ConfirmChannel::next`] says what became of
    /// it under the number returned here.
    pub(crate) fn publish(&mut self, message: Message) -> u64 {
        let seq = self.next;
        self.next += 1;
        let open = Open {
            mark: message
                .mandatory
                .then(|| mark(&message.exchange, &message.key, &message.properties)),
            since: Instant::now(),
        };
        self.open.insert(seq, open);
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
            self.drain()?;
            if let Some(fate) = self.fates.pop_front() {
                return Ok(fate);
            }
            let deadline = self.deadline()?;
            match deadline {
                // Nothing can time out: nothing is out, or the broker blocks.
                None if self.open.is_empty() => std::future::pending::<()>().await,
                None => {
                    if let Ok(Some(resolved)) =
                        timeout_at(Instant::now() + BLOCKED_POLL, self.futures.next()).await
                    {
                        self.resolve(resolved)?;
                    }
                }
                Some(deadline) => {
                    let deadline = deadline.min(Instant::now() + BLOCKED_POLL);
                    if let Ok(Some(resolved)) = timeout_at(deadline, self.futures.next()).await {
                        self.resolve(resolved)?;
                    }
                }
            }
        }
    }

    /// When the oldest confirm is overdue; none while the broker blocks.
    fn deadline(&mut self) -> Result<Option<Instant>, AmqpError> {
        let now = Instant::now();
        if self.status.blocked() {
            self.blocked_at = Some(now);
            return Ok(None);
        }
        let Some(oldest) = self.open.values().next() else {
            return Ok(None);
        };
        let since = self
            .blocked_at
            .map_or(oldest.since, |at| at.max(oldest.since));
        let deadline = since + CONFIRM_TIMEOUT;
        if deadline <= now {
            return Err(AmqpError::lost(
                "publishing",
                format!("no confirm within {} s", CONFIRM_TIMEOUT.as_secs()),
            ));
        }
        Ok(Some(deadline))
    }

    /// Takes in everything that is resolved already.
    fn drain(&mut self) -> Result<(), AmqpError> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        while let std::task::Poll::Ready(Some(resolved)) =
            self.futures.poll_next_unpin(&mut context)
        {
            self.resolve(resolved)?;
        }
        self.believe();
        Ok(())
    }

    fn resolve(&mut self, (seq, confirmation): Resolved) -> Result<(), AmqpError> {
        let confirmation =
            confirmation.map_err(|error| AmqpError::of_operation("publishing", &error))?;
        let acked = match &confirmation {
            Confirmation::Ack(_) => true,
            Confirmation::Nack(_) => false,
            Confirmation::NotRequested => {
                return Err(AmqpError::lost("publishing", "the channel has no confirms"));
            }
        };
        if let Some(message) = confirmation.take_message() {
            let message = message.delivery;
            self.returned.insert(mark(
                message.exchange.as_str(),
                message.routing_key.as_str(),
                &message.properties,
            ));
        }
        let Some(open) = self.open.remove(&seq) else {
            return Ok(());
        };
        match open.mark {
            Some(mark) if acked => self.held.push_back(Held {
                seq,
                mark,
                until: self.next,
            }),
            Some(_) | None if !acked => self.fates.push_back((seq, Fate::Refused)),
            Some(_) | None => self.fates.push_back((seq, Fate::Confirmed)),
        }
        Ok(())
    }

    fn believe(&mut self) {
        let oldest = self.open.keys().next().copied().unwrap_or(u64::MAX);
        while self.held.front().is_some_and(|held| held.until <= oldest)
            && let Some(held) = self.held.pop_front()
        {
            let fate = if self.returned.contains(&held.mark) {
                Fate::Returned
            } else {
                Fate::Confirmed
            };
            self.fates.push_back((held.seq, fate));
        }
        if self.held.is_empty() && self.open.values().all(|open| open.mark.is_none()) {
            self.returned.clear();
        }
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
