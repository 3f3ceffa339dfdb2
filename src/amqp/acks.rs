//! Acknowledgements of one channel, many at a time.

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::sync::mpsc;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::AmqpError;
use super::wire::bounded;

/// Acknowledgements under way, at most. Awaiting them one by one costs more
/// than all the rest.
const IN_FLIGHT: usize = 64;

/// What is said about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// It is settled.
    Ack,
    /// Somebody else is to have it.
    Requeue,
}

struct Command {
    tag: u64,
    word: Word,
    /// Keeps the drain waiting until the word is with the broker.
    _token: Option<TaskTrackerToken>,
}

/// Speaks to the task that acknowledges on one channel. Cheap to clone. The
/// channel's own method is used, not lapin's `Acker`, whose queue is slower.
#[derive(Clone, Debug)]
pub(crate) struct Acks(mpsc::Sender<Command>);

impl Acks {
    /// For a channel with this prefetch, which bounds the queue, and the task,
    /// which ends when the channel fails or every `Acks` is gone, and closes
    /// the channel then.
    pub(crate) fn new(
        channel: Channel,
        prefetch: u16,
    ) -> (Self, impl Future<Output = Result<(), AmqpError>> + Send) {
        let (sender, commands) = mpsc::channel(usize::from(prefetch).max(1));
        (Self(sender), serve(channel, commands))
    }

    /// Says it. If the channel is gone nothing needs to be said: the broker
    /// delivers the message again.
    pub(crate) async fn say(&self, tag: u64, word: Word, token: Option<TaskTrackerToken>) {
        let command = Command {
            tag,
            word,
            _token: token,
        };
        let _ = self.0.send(command).await;
    }
}

async fn serve(channel: Channel, mut commands: mpsc::Receiver<Command>) -> Result<(), AmqpError> {
    let mut said: FuturesUnordered<BoxFuture<'_, lapin::Result<()>>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(result) = said.next() => sorted(result)?,
            command = commands.recv(), if said.len() < IN_FLIGHT => {
                let Some(command) = command else { break };
                said.push(Box::pin(speak(&channel, command)));
            }
        }
    }
    while let Some(result) = said.next().await {
        sorted(result)?;
    }
    // What was said is on its way, but the broker drops what it has not read
    // when the connection goes. It answers this once it has read everything.
    bounded("closing a channel", channel.close(200, "OK".into())).await
}

async fn speak(channel: &Channel, command: Command) -> lapin::Result<()> {
    match command.word {
        Word::Ack => {
            channel
                .basic_ack(command.tag, BasicAckOptions::default())
                .await
        }
        Word::Requeue => {
            let options = BasicNackOptions {
                requeue: true,
                ..BasicNackOptions::default()
            };
            channel.basic_nack(command.tag, options).await
        }
    }
}

fn sorted(result: lapin::Result<()>) -> Result<(), AmqpError> {
    result.map_err(|error| AmqpError::of_operation("acknowledging", &error))
}
