//! One queue that events are taken from.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery as Delivered;
use lapin::options::{BasicCancelOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::call::event::PartNumber;
use crate::call::outcome::TraceContext;
use crate::engine::delivery::{Delivery, Source, Verdict};
use crate::engine::dispatch::Dispatcher;

use super::AmqpError;
use super::acks::{Acks, Word};
use super::forward::{Original, dead_letter, part_message};
use super::publisher::{Message, PublishError, Publisher, pause};
use super::repair::{Lost, Repairs};
use super::topology::Names;
use super::wire::{bounded, consume_options, open, short, text_of};

/// What every intake of a session needs.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) names: Arc<Names>,
    /// Who this worker is to the broker, where that is known.
    pub(crate) user: Option<Arc<str>>,
    pub(crate) publisher: Publisher,
    pub(crate) repairs: Repairs,
    /// The messages under way, of all sessions.
    pub(crate) tracker: TaskTracker,
    /// Take no more.
    pub(crate) stop: CancellationToken,
}

impl Desk {
    /// Passes a message on. If its queue is gone that is declared again first.
    async fn pass_on(&self, message: Message) -> Result<(), PublishError> {
        let lost = Lost {
            exchange: message.exchange.clone(),
            key: message.key.clone(),
        };
        match self.publisher.publish(message.clone()).await {
            Err(PublishError::Returned) if self.repairs.of(lost).await => {
                self.publisher.publish(message).await
            }
            result => result,
        }
    }
}

/// A queue being consumed.
pub(crate) struct Intake {
    desk: Desk,
    channel: Channel,
    consumer: Consumer,
    queue: String,
    source: Source,
    acks: Acks,
}

impl Intake {
    /// Starts to consume, on a channel with a prefetch of its own: a platform
    /// that stalls fills its own queue only.
    pub(crate) async fn start(
        connection: &Connection,
        desk: Desk,
        source: Source,
        prefetch: u16,
    ) -> Result<(Self, BoxFuture<'static, Result<(), AmqpError>>), AmqpError> {
        let queue = match source {
            Source::Calls => desk.names.calls.clone(),
            Source::Platform(platform) => desk.names.queue_of(platform).to_owned(),
        };
        let what = format!("queue {queue}");
        let channel = open(connection).await?;
        let qos = channel.basic_qos(prefetch, BasicQosOptions::default());
        bounded(&what, qos).await?;
        let consume = channel.basic_consume(
            short(&queue),
            "".into(),
            consume_options(false),
            FieldTable::default(),
        );
        let consumer = bounded(&what, consume).await?;
        let (acks, task) = Acks::new(channel.clone(), prefetch);
        let intake = Self {
            desk,
            channel,
            consumer,
            queue,
            source,
            acks,
        };
        Ok((intake, Box::pin(task)))
    }

    /// Takes messages until told to stop (`Ok`) or the consumer ends.
    pub(crate) async fn run(mut self) -> Result<(), AmqpError> {
        let stop = self.desk.stop.clone();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.wind_up().await,
                next = self.consumer.next() => {
                    let message = self.delivered(next)?;
                    self.take(message);
                }
            }
        }
    }

    /// Takes no more, and gives back what was delivered meanwhile.
    async fn wind_up(mut self) -> Result<(), AmqpError> {
        let cancel = self
            .channel
            .basic_cancel(self.consumer.tag(), BasicCancelOptions::default());
        bounded(&format!("queue {}", self.queue), cancel).await?;
        while let Some(next) = self.consumer.next().await {
            let message = self.delivered(Some(next))?;
            let token = Some(self.desk.tracker.token());
            self.acks
                .say(message.delivery_tag, Word::Requeue, token)
                .await;
        }
        Ok(())
    }

    fn delivered(&self, next: Option<lapin::Result<Delivered>>) -> Result<Delivered, AmqpError> {
        let what = || format!("queue {}", self.queue);
        match next {
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => Err(AmqpError::of_operation(what(), &error)),
            None => Err(AmqpError::lost(what(), "the broker cancelled its consumer")),
        }
    }

    fn take(&self, message: Delivered) {
        let handling = Handling {
            desk: self.desk.clone(),
            acks: self.acks.clone(),
            source: self.source,
            queue: self.queue.clone(),
        };
        self.desk.tracker.spawn(handling.run(message));
    }
}

/// One message on its way.
struct Handling {
    desk: Desk,
    acks: Acks,
    source: Source,
    queue: String,
}

impl Handling {
    async fn run(self, message: Delivered) {
        let tag = message.delivery_tag;
        let token = self.desk.tracker.token();
        // A message that makes the engine panic must not take the others with
        // it; the delivery limit moves it to the dead queue in the end.
        let settled = AssertUnwindSafe(self.settle(message)).catch_unwind().await;
        let word = if let Ok(word) = settled {
            word
        } else {
            error!(
                queue = self.queue,
                "handling a message panicked; it goes back to its queue"
            );
            pause().await;
            Some(Word::Requeue)
        };
        if let Some(word) = word {
            self.acks.say(tag, word, Some(token)).await;
        }
    }

    /// What is to be said about the message; nothing if the session is gone,
    /// for then the broker delivers it again anyway.
    async fn settle(&self, message: Delivered) -> Option<Word> {
        let original = Original {
            body: Bytes::from(message.data),
            properties: message.properties,
        };
        let verdict = self.desk.dispatcher.handle(self.delivery(&original)).await;
        let user = self.desk.user.as_deref();
        let carried_out = match verdict {
            Verdict::Settled => Ok(()),
            Verdict::Abandoned => return Some(Word::Requeue),
            Verdict::Dead(error) => {
                let (names, text) = (&self.desk.names, error.to_string());
                let letter = dead_letter(&original, names, user, &text, &self.queue);
                warn!(queue = self.queue, %error, "a message goes to the dead queue");
                self.desk.pass_on(letter).await
            }
            Verdict::Split(parts) => {
                let publishes = parts.into_iter().map(|part| {
                    let message = part_message(&original, &self.desk.names, user, part);
                    self.desk.pass_on(message)
                });
                futures_util::future::try_join_all(publishes)
                    .await
                    .map(|_| ())
            }
        };
        match carried_out {
            Ok(()) => Some(Word::Ack),
            Err(PublishError::Gone) => None,
            Err(error @ (PublishError::Refused | PublishError::Returned)) => {
                warn!(queue = self.queue, %error, "a message could not be passed on; it goes back");
                // Every return to the queue counts towards the delivery limit.
                pause().await;
                Some(Word::Requeue)
            }
        }
    }

    fn delivery(&self, original: &Original) -> Delivery {
        let headers = original.properties.headers().as_ref();
        let header = |name: &str| headers.and_then(|table| text_of(table.inner().get(name)?));
        Delivery {
            body: original.body.clone(),
            source: self.source,
            part: header("x-part")
                .and_then(|part| part.parse().ok())
                .unwrap_or(PartNumber::WHOLE),
            trace: Arc::new(TraceContext {
                traceparent: header("traceparent"),
                tracestate: header("tracestate"),
            }),
        }
    }
}
