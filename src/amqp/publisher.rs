//! Messages that are passed on: each waits until the broker has it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::confirm_channel::{ConfirmChannel, WINDOW};
use super::confirmation::Confirmation;
use super::error::AmqpError;
use super::message::Message;
use super::redeclare::Redeclare;

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

/// Whom to tell what the broker says.
pub(crate) type Reply = oneshot::Sender<Confirmation>;

/// Hands messages to the task that owns a publishing channel. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Publisher {
    messages: mpsc::Sender<(Message, Reply)>,
    redeclare: Arc<Redeclare>,
}

impl Publisher {
    /// A publisher, and the work of serving it, which ends when the channel
    /// fails or every publisher is gone.
    pub(crate) fn new(
        channel: ConfirmChannel<Reply>,
        redeclare: Arc<Redeclare>,
    ) -> (Self, impl Future<Output = Result<(), AmqpError>> + Send) {
        let (sender, messages) = mpsc::channel(WINDOW);
        let publisher = Self {
            messages: sender,
            redeclare,
        };
        (publisher, serve(channel, messages))
    }

    /// Publishes and waits until the broker has the message. If its queue is
    /// gone that is declared again first.
    pub(crate) async fn publish(&self, message: Message) -> Result<(), PublishError> {
        match self.attempt(message.clone()).await {
            Err(PublishError::Returned) => {
                let declared = self.redeclare.again(&message.exchange, &message.key);
                if declared.await {
                    self.attempt(message).await
                } else {
                    Err(PublishError::Returned)
                }
            }
            result => result,
        }
    }

    async fn attempt(&self, message: Message) -> Result<(), PublishError> {
        let (reply, confirmation) = oneshot::channel();
        let sent = self.messages.send((message, reply)).await;
        sent.map_err(|_| PublishError::Gone)?;
        match confirmation.await {
            Ok(Confirmation::Confirmed) => Ok(()),
            Ok(Confirmation::Refused) => Err(PublishError::Refused),
            Ok(Confirmation::Returned) => Err(PublishError::Returned),
            Err(_) => Err(PublishError::Gone),
        }
    }
}

async fn serve(
    mut channel: ConfirmChannel<Reply>,
    mut messages: mpsc::Receiver<(Message, Reply)>,
) -> Result<(), AmqpError> {
    let mut batch = Vec::new();
    let mut more = true;
    while more || channel.outstanding() > 0 {
        let room = channel.room();
        tokio::select! {
            received = messages.recv_many(&mut batch, room), if more && room > 0 => {
                more = received > 0;
                channel.publish(batch.drain(..));
            }
            told = channel.next() => for (reply, confirmation) in told? {
                // Whoever asked may have gone away.
                let _ = reply.send(confirmation);
            }
        }
    }
    Ok(())
}

/// A pause between two attempts at something that a broker refused.
pub(crate) async fn pause() {
    sleep(Duration::from_secs(1)).await;
}
