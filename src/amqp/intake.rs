//! One queue that events are taken from.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Waking, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::message::Delivery as Delivered;
use lapin::options::{BasicCancelOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::engine::delivery::Source;

use super::acks::Acks;
use super::context::Context;
use super::error::AmqpError;
use super::handling::{Answer, Handling};
use super::publisher::Publisher;
use super::wire::{bounded, consume_options, open, short};

/// How long a handled message waits for others to be acknowledged with it.
const ACK_WAIT: Duration = Duration::from_millis(10);
/// Settled messages that do not wait any longer.
const ACK_BATCH: u16 = 64;
/// Messages taken before those under way get another turn.
const TAKE: usize = 16;

/// What an intake ends with, for the session; nothing if it panicked.
pub(crate) type Ended = oneshot::Receiver<Result<(), AmqpError>>;

/// A queue being consumed, on a channel with a prefetch of its own: a platform
/// that stalls fills its own queue only.
///
/// One task takes the queue's messages and handles them all: what is handled in
/// one turn is acknowledged together.
pub(crate) struct Intake {
    context: Arc<Context>,
    handling: Arc<Handling>,
    channel: Channel,
    consumer: Consumer,
    acks: Acks,
    batch: usize,
    flush: Option<Pin<Box<Sleep>>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Told to take no more.
    stopping: bool,
    /// The broker delivers no more.
    dry: bool,
}

/// What is to be done after a turn.
enum Next {
    /// Tell the broker to deliver no more.
    Stop,
    /// Nothing is left.
    End,
}

impl Intake {
    /// Starts to consume.
    pub(crate) async fn start(
        context: Arc<Context>,
        connection: &Connection,
        publisher: Publisher,
        source: Source,
    ) -> Result<Self, AmqpError> {
        let names = context.topology.names();
        let queue = match source {
            Source::Calls => &names.calls,
            Source::Platform(platform) => names.queue_of(platform),
        }
        .to_owned();
        let what = format!("queue {queue}");
        let channel = open(connection).await?;
        let qos = channel.basic_qos(context.prefetch, BasicQosOptions::default());
        bounded(&what, qos).await?;
        let consume = channel.basic_consume(
            short(&queue),
            "".into(),
            consume_options(false),
            FieldTable::default(),
        );
        let consumer = bounded(&what, consume).await?;
        Ok(Self {
            acks: Acks::new(channel.clone()),
            batch: usize::from((context.prefetch / 4).clamp(1, ACK_BATCH)),
            flush: None,
            stop: Box::pin(context.stop.clone().cancelled_owned()),
            stopping: false,
            dry: false,
            handling: Arc::new(Handling {
                context: Arc::clone(&context),
                publisher,
                source,
                queue,
            }),
            context,
            channel,
            consumer,
        })
    }

    /// Takes messages until told to stop and all are handled, or until the
    /// channel fails. Whatever ends the session, what is under way goes on: no
    /// phone is to ring twice because the broker went away.
    pub(crate) fn spawn(self) -> Ended {
        let (tell, ended) = oneshot::channel();
        let context = Arc::clone(&self.context);
        let abandoned = context.abandon.clone();
        let work = abandoned.run_until_cancelled_owned(self.run(tell));
        context.intakes.spawn(work);
        ended
    }

    async fn run(mut self, tell: oneshot::Sender<Result<(), AmqpError>>) {
        let mut under_way = FuturesUnordered::new();
        let handling = Arc::clone(&self.handling);
        let result = self
            .work(&mut under_way, |message| Arc::clone(&handling).run(message))
            .await;
        // The session may be gone already.
        let _ = tell.send(result);
        while under_way.next().await.is_some() {}
    }

    async fn work<F>(
        &mut self,
        under_way: &mut FuturesUnordered<F>,
        handle: impl Fn(Delivered) -> F,
    ) -> Result<(), AmqpError>
    where
        F: Future<Output = (u64, Option<Answer>)>,
    {
        while let Next::Stop = poll_fn(|cx| self.turn(cx, under_way, &handle)).await? {
            let tag = self.consumer.tag();
            let cancel = self
                .channel
                .basic_cancel(tag, BasicCancelOptions::default());
            bounded(&format!("queue {}", self.handling.queue), cancel).await?;
        }
        // What was said is on its way, but the broker drops what it has not
        // read when the connection goes. It answers this once it has read
        // everything.
        let close = self.channel.close(200, "OK".into());
        bounded("closing a channel", close).await
    }

    /// Takes what there is, lets everything under way go on, and tells the
    /// broker what is handled.
    fn turn<F>(
        &mut self,
        cx: &mut Waking<'_>,
        under_way: &mut FuturesUnordered<F>,
        handle: impl Fn(Delivered) -> F,
    ) -> Poll<Result<Next, AmqpError>>
    where
        F: Future<Output = (u64, Option<Answer>)>,
    {
        if !self.stopping && self.stop.as_mut().poll(cx).is_ready() {
            self.stopping = true;
            return Poll::Ready(Ok(Next::Stop));
        }
        loop {
            let mut idle = true;
            while let Poll::Ready(Some((tag, answer))) = under_way.poll_next_unpin(cx) {
                idle = false;
                match answer {
                    Some(Answer::Ack) => self.acks.handled(tag),
                    Some(Answer::Requeue) => self.acks.requeue(tag)?,
                    Some(Answer::Reject) => self.acks.reject(tag)?,
                    None => {}
                }
            }
            for _ in 0..TAKE {
                if self.dry {
                    break;
                }
                let Poll::Ready(next) = self.consumer.poll_next_unpin(cx) else {
                    break;
                };
                idle = false;
                if let Some(message) = self.delivered(next)? {
                    under_way.push(handle(message));
                }
            }
            if idle {
                break;
            }
        }
        self.flush(cx)?;
        if self.dry && under_way.is_empty() {
            return Poll::Ready(Ok(Next::End));
        }
        Poll::Pending
    }

    /// A message to be handled, if that is what came.
    fn delivered(
        &mut self,
        next: Option<lapin::Result<Delivered>>,
    ) -> Result<Option<Delivered>, AmqpError> {
        let what = || format!("queue {}", self.handling.queue);
        match next {
            Some(Ok(message)) => {
                self.acks.deliver(message.delivery_tag);
                if self.stopping {
                    // It was on its way when the broker was told.
                    self.acks.requeue(message.delivery_tag)?;
                    return Ok(None);
                }
                Ok(Some(message))
            }
            Some(Err(error)) => Err(AmqpError::of_operation(what(), &error)),
            None if self.stopping => {
                self.dry = true;
                Ok(None)
            }
            None => Err(AmqpError::lost(what(), "the broker cancelled its consumer")),
        }
    }

    /// Acknowledges when enough is handled, when it has waited long enough, or
    /// when nothing else is going to come.
    fn flush(&mut self, cx: &mut Waking<'_>) -> Result<(), AmqpError> {
        if self.stopping || self.acks.fresh() >= self.batch {
            self.flush = None;
            self.acks.flush(self.stopping)?;
        }
        while self.acks.is_pending() {
            let flush = self.flush.get_or_insert_with(|| Box::pin(sleep(ACK_WAIT)));
            if flush.as_mut().poll(cx).is_pending() {
                break;
            }
            self.flush = None;
            self.acks.flush(false)?;
        }
        Ok(())
    }
}
