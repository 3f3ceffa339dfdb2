//! Confirmed publishing, in batches.
//!
//! One task owns a publishing channel: where tasks shared one, rejected
//! messages were seen reported as confirmed.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Connection, ConnectionStatus, PublisherConfirm};
use tokio::time::{Instant, timeout, timeout_at};

use super::confirmation::{Confirmation, Ledger};
use super::error::AmqpError;
use super::message::{Identity, Message};
use super::wire::{OPERATION_TIMEOUT, bounded, open};

/// Bound on a confirm. A quorum queue that elects a leader takes seconds.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages published and not yet confirmed, at most.
pub(crate) const WINDOW: usize = 1024;
/// So many are written by one future. Up to 30 `join_all` keeps them in one
/// piece of memory, and a write takes 2 KB.
const TOGETHER: usize = 30;
/// How often a blocked connection is looked at again.
const BLOCKED_POLL: Duration = Duration::from_millis(250);

/// A message's confirm, under the message's number.
struct Confirm {
    number: u64,
    confirm: PublisherConfirm,
}

impl Future for Confirm {
    type Output = (u64, lapin::Result<lapin::Confirmation>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let number = self.number;
        let confirmed = Pin::new(&mut self.confirm).poll(cx);
        confirmed.map(|confirmed| (number, confirmed))
    }
}

/// The confirms of a batch that is with the socket, and its first number.
type Written = (u64, Vec<lapin::Result<PublisherConfirm>>);

/// A channel in confirm mode, owned by one task. `T` is what a message is known
/// by to its publisher.
pub(crate) struct ConfirmChannel<T> {
    channel: Channel,
    status: ConnectionStatus,
    writing: FuturesUnordered<BoxFuture<'static, Written>>,
    confirms: FuturesUnordered<Confirm>,
    ledger: Ledger<T>,
    /// What ended the channel, until it has been told.
    failure: Option<AmqpError>,
    /// When the connection was last seen blocked: that time does not count.
    blocked_at: Option<Instant>,
}

impl<T> ConfirmChannel<T> {
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
            writing: FuturesUnordered::new(),
            confirms: FuturesUnordered::new(),
            ledger: Ledger::default(),
            failure: None,
            blocked_at: None,
        })
    }

    /// Messages whose confirmation has not been told.
    pub(crate) const fn outstanding(&self) -> usize {
        self.ledger.outstanding()
    }

    /// How many messages may be published now.
    pub(crate) const fn room(&self) -> usize {
        WINDOW.saturating_sub(self.outstanding())
    }

    /// Whether the broker takes nothing from this connection at present.
    pub(crate) fn is_blocked(&self) -> bool {
        self.status.blocked()
    }

    /// Those whose confirmation has not been told.
    pub(crate) fn unconfirmed(&mut self) -> impl Iterator<Item = &mut T> {
        self.ledger.items_mut()
    }

    /// The same when the channel has ended.
    pub(crate) fn into_unconfirmed(self) -> impl Iterator<Item = T> {
        self.ledger.into_items()
    }

    /// Publishes without waiting, all in one go.
    pub(crate) fn publish(&mut self, batch: impl IntoIterator<Item = (Message, T)>) {
        let first = self.ledger.next();
        let mut messages = Vec::new();
        for (message, item) in batch {
            let identity = message
                .mandatory
                .then(|| Identity::of(&message.exchange, &message.key, &message.properties));
            self.ledger.enter(item, identity);
            messages.push(message);
        }
        let mut messages = messages.into_iter();
        for first in (first..).step_by(TOGETHER) {
            let channel = self.channel.clone();
            let batch: Vec<_> = messages.by_ref().take(TOGETHER).collect();
            if batch.is_empty() {
                break;
            }
            self.writing.push(Box::pin(async move {
                let writes = batch.into_iter().map(|message| write(&channel, message));
                (first, join_all(writes).await)
            }));
        }
        // The first poll hands them to lapin.
        self.poll(&mut Context::from_waker(Waker::noop()));
    }

    /// What has been confirmed by now. Wakes nobody when more comes: for who
    /// looks again after a while anyway.
    ///
    /// # Errors
    /// As [`ConfirmChannel::next`].
    pub(crate) fn drain(&mut self) -> Result<Vec<(T, Confirmation)>, AmqpError> {
        self.poll(&mut Context::from_waker(Waker::noop()));
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        self.deadline()?;
        Ok(std::iter::from_fn(|| self.ledger.pop()).collect())
    }

    /// What is confirmed next, one at least; waits for ever if none is out. May
    /// be dropped and called again.
    ///
    /// # Errors
    /// The channel ended, or a confirm did not come in time: what became of
    /// all outstanding messages is unknown.
    pub(crate) async fn next(&mut self) -> Result<Vec<(T, Confirmation)>, AmqpError> {
        loop {
            if self.outstanding() == 0 {
                std::future::pending::<()>().await;
            }
            // Looked at again now and then, for a connection may be blocked or
            // unblocked meanwhile.
            let until = self.deadline()?.min(Instant::now() + BLOCKED_POLL);
            let told = poll_fn(|cx| {
                self.poll(cx);
                if let Some(error) = self.failure.take() {
                    return Poll::Ready(Err(error));
                }
                let told: Vec<_> = std::iter::from_fn(|| self.ledger.pop()).collect();
                if told.is_empty() {
                    return Poll::Pending;
                }
                Poll::Ready(Ok(told))
            });
            if let Ok(told) = timeout_at(until, told).await {
                return told;
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
    fn poll(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some((first, confirms))) = self.writing.poll_next_unpin(cx) {
            for (number, confirm) in (first..).zip(confirms) {
                match confirm {
                    Ok(confirm) => self.confirms.push(Confirm { number, confirm }),
                    Err(error) => self.fail(&error),
                }
            }
        }
        while let Poll::Ready(Some((number, confirmed))) = self.confirms.poll_next_unpin(cx) {
            match confirmed {
                Ok(confirmed) => self.resolve(number, confirmed),
                Err(error) => self.fail(&error),
            }
        }
    }

    fn fail(&mut self, error: &lapin::Error) {
        // An exchange that is gone is declared again by the next session.
        self.failure
            .get_or_insert_with(|| AmqpError::of_operation("publishing", error).passing());
    }

    fn resolve(&mut self, number: u64, confirmed: lapin::Confirmation) {
        let acked = match &confirmed {
            lapin::Confirmation::Ack(_) => true,
            lapin::Confirmation::Nack(_) => false,
            lapin::Confirmation::NotRequested => {
                self.failure = Some(AmqpError::lost("publishing", "the channel has no confirms"));
                return;
            }
        };
        let returned = confirmed.take_message().map(|message| {
            let message = message.delivery;
            Identity::of(&message.exchange, &message.routing_key, &message.properties)
        });
        self.ledger.resolve(number, acked, returned);
    }

    /// Ends the channel.
    pub(crate) async fn close(self) {
        let _ = timeout(OPERATION_TIMEOUT, self.channel.close(200, "OK".into())).await;
    }
}

async fn write(channel: &Channel, message: Message) -> lapin::Result<PublisherConfirm> {
    let options = BasicPublishOptions {
        mandatory: message.mandatory,
        ..BasicPublishOptions::default()
    };
    let Message {
        exchange,
        key,
        properties,
        body,
        ..
    } = message;
    channel
        .basic_publish(exchange, key, options, &body, properties)
        .await
}
