//! Cancels, which every worker learns.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryFutureExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, Consumer};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use crate::call::outcome::TraceContext;

use super::complaint::Complaint;
use super::confirm_channel::ConfirmChannel;
use super::confirmation::Confirmation;
use super::context::Context;
use super::error::AmqpError;
use super::message::{Message, epoch_seconds, properties};
use super::settings::CancelSource;
use super::topology::Topology;
use super::wire::{bounded, consume_options, open, short, table, text};

/// Cancels delivered and not yet acknowledged, at most. A stream is read only
/// with such a limit.
const PREFETCH: u16 = 1000;
/// Cancels that are acknowledged together.
const ACK_BATCH: u16 = PREFETCH / 4;
/// How long they wait for each other.
const ACK_WAIT: Duration = Duration::from_secs(1);
/// Bound on reading what is there already before the first ring is taken.
pub(crate) const CATCH_UP: Duration = Duration::from_secs(2);
/// Without a marker, the stream counts as read when nothing came for this long;
/// and a stream that holds what was read last delivers it sooner.
const QUIET: Duration = Duration::from_millis(200);
/// Added to a ring's longest life: how far the stream is read back.
const MARGIN: Duration = Duration::from_secs(30);
/// Message type of what a worker publishes to find the end of the stream.
const MARKER: &str = "ringpush.marker";

/// Between two attempts to read cancels that cannot be read.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// At most one line about that in this time. `RabbitMQ` 3.10 that was killed right
/// after it declared a stream can come back with one that ends every reader.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// Cancels count as read again when they have been for this long.
const STEADY: Duration = Duration::from_secs(3);

/// Keeps reading cancels. That they cannot be read does not stop rings: a
/// phone that rings on after the caller hung up is better than one that never
/// rang.
pub(crate) struct Cancels<'a> {
    pub(crate) context: &'a Context,
    pub(crate) connection: &'a Connection,
}

impl<'a> Cancels<'a> {
    /// Reads as long as the connection lives. Tells `caught_up` when what was
    /// sent before is known, or why it cannot be.
    pub(crate) async fn keep(
        &self,
        marking: ConfirmChannel<()>,
        caught_up: oneshot::Sender<Result<(), AmqpError>>,
    ) -> Infallible {
        let first = async {
            let mut reader = self.start().await?;
            if self.context.topology.cancels() == CancelSource::Stream {
                reader.catch_up(marking).await?;
            }
            Ok::<_, AmqpError>(reader)
        };
        let error = match first.await {
            Ok(reader) => {
                // Whoever waited may have gone on.
                let _ = caught_up.send(Ok(()));
                reader.run().await
            }
            Err(error) => {
                let text = error.to_string();
                let _ = caught_up.send(Err(error));
                AmqpError::lost("cancels", text)
            }
        };
        again_and_again(error, || self.start().map_ok(Reader::run)).await
    }

    /// Starts to read, where there is a stream from where reading ended. If
    /// that is too long ago, or the stream was made anew, from the longest life
    /// of a ring ago.
    async fn start(&self) -> Result<Reader<'a>, AmqpError> {
        let topology = &self.context.topology;
        topology.ensure_cancels(self.connection).await?;
        if topology.cancels() == CancelSource::Queue {
            let channel = open(self.connection).await?;
            let queue = own_queue(&channel, topology).await?;
            return self.consume(channel, queue, true, table([])).await;
        }
        let stream = &topology.names().cancels;
        let back = self.context.ring_window + MARGIN;
        let read = self.context.cancels_read.lock();
        let read = *read.unwrap_or_else(PoisonError::into_inner);
        if let Some((last, at)) = read
            && at.elapsed() < back
        {
            let offset = AMQPValue::LongLongInt(i64::try_from(last).unwrap_or(i64::MAX));
            let mut reader = self.read(stream, offset).await?;
            // What was read last comes once more, which proves that this is
            // the stream that it was read from.
            match timeout(QUIET, reader.next()).await {
                Ok(Ok(again)) if offset_of(&again).is_some_and(|offset| offset >= last) => {
                    reader.learn(&again)?;
                    return Ok(reader);
                }
                Ok(Err(error)) => return Err(error),
                Ok(Ok(_)) | Err(_) => debug!("the stream of cancels is another one: reading back"),
            }
        }
        // An interval is measured on the broker's clock, which a timestamp made
        // here might disagree with.
        self.read(stream, text(&format!("{}s", back.as_secs())))
            .await
    }

    async fn read(&self, stream: &str, offset: AMQPValue) -> Result<Reader<'a>, AmqpError> {
        let channel = open(self.connection).await?;
        let arguments = table([("x-stream-offset", offset)]);
        self.consume(channel, stream.to_owned(), false, arguments)
            .await
    }

    async fn consume(
        &self,
        channel: Channel,
        queue: String,
        exclusive: bool,
        arguments: FieldTable,
    ) -> Result<Reader<'a>, AmqpError> {
        let qos = channel.basic_qos(PREFETCH, BasicQosOptions::default());
        bounded("the prefetch of cancels", qos).await?;
        let consume = channel.basic_consume(
            short(&queue),
            "".into(),
            consume_options(exclusive),
            arguments,
        );
        let consumer = bounded(&format!("queue {queue}"), consume).await?;
        Ok(Reader {
            context: self.context,
            channel,
            consumer,
            queue,
            unacknowledged: 0,
            last: 0,
        })
    }
}

/// Starts over whenever reading failed, and says so now and then.
async fn again_and_again<S, R>(mut error: AmqpError, start: impl Fn() -> S) -> Infallible
where
    S: Future<Output = Result<R, AmqpError>>,
    R: Future<Output = AmqpError>,
{
    let mut complaint = Complaint::every(COMPLAIN_EVERY);
    let mut said = false;
    loop {
        if complaint.is_due() {
            warn!(%error, "cancels cannot be read; rings go on, trying again");
            said = true;
        }
        sleep(RETRY_AFTER).await;
        let reading = match start().await {
            Ok(reading) => reading,
            Err(failure) => {
                error = failure;
                continue;
            }
        };
        let mut reading = std::pin::pin!(reading);
        error = tokio::select! {
            error = &mut reading => error,
            () = sleep(STEADY) => {
                if said {
                    info!("cancels are read again");
                    said = false;
                }
                reading.await
            }
        };
    }
}

/// A queue of cancels being read.
struct Reader<'a> {
    context: &'a Context,
    channel: Channel,
    consumer: Consumer,
    queue: String,
    unacknowledged: u16,
    /// The tag of the last.
    last: u64,
}

impl Reader<'_> {
    /// Reads to what is the end of the stream now, for at most two seconds.
    ///
    /// Nothing in AMQP tells where a stream ends, so a marker is published to
    /// it and read until it comes back. If the broker does not take the marker
    /// (no permission to write to the default exchange, an alarm), a gap in
    /// what it delivers has to do.
    async fn catch_up(&mut self, channel: ConfirmChannel<()>) -> Result<(), AmqpError> {
        let end = Instant::now() + CATCH_UP;
        let published = timeout_at(end, publish_marker(channel, &self.queue)).await;
        let marker = match published {
            Ok(Ok(marker)) => Some(marker),
            Ok(Err(error)) => {
                debug!(%error, "no marker in the stream of cancels, waiting for a gap");
                None
            }
            Err(_) => None,
        };
        let mut read = 0_u64;
        loop {
            let gap = (Instant::now() + QUIET).min(end);
            let until = if marker.is_some() { end } else { gap };
            // What is there already is no reason to go on: a full stream would
            // never let the time be up.
            let next = if Instant::now() < end {
                timeout_at(until, self.next()).await.ok()
            } else {
                None
            };
            match next {
                Some(delivery) => {
                    let delivery = delivery?;
                    let id = delivery.properties.message_id().as_ref();
                    let found = marker.is_some_and(|m| {
                        id.and_then(|id| Uuid::try_parse(id.as_str()).ok()) == Some(m)
                    });
                    self.learn(&delivery)?;
                    if found {
                        debug!(read, "cancels are caught up with");
                        return Ok(());
                    }
                    read += 1;
                }
                None if marker.is_none() && Instant::now() < end => return Ok(()),
                None => {
                    warn!(
                        queue = self.queue,
                        read,
                        "not all cancels could be read within {} s; taking rings now",
                        CATCH_UP.as_secs()
                    );
                    return Ok(());
                }
            }
        }
    }

    /// Reads until the consumer ends, which is a failure.
    async fn run(mut self) -> AmqpError {
        loop {
            let learnt = match self.next().await {
                Ok(delivery) => self.learn(&delivery),
                Err(error) => Err(error),
            };
            if let Err(error) = learnt {
                return error;
            }
        }
    }

    /// The next one. May be dropped and called again.
    async fn next(&mut self) -> Result<Delivery, AmqpError> {
        let next = if self.unacknowledged == 0 {
            self.consumer.next().await
        } else if let Ok(next) = timeout(ACK_WAIT, self.consumer.next()).await {
            next
        } else {
            self.acknowledge()?;
            self.consumer.next().await
        };
        let what = || format!("queue {}", self.queue);
        match next {
            Some(Ok(delivery)) => Ok(delivery),
            Some(Err(error)) => Err(AmqpError::of_operation(what(), &error)),
            None => Err(AmqpError::lost(what(), "the broker cancelled its consumer")),
        }
    }

    fn learn(&mut self, delivery: &Delivery) -> Result<(), AmqpError> {
        let kind = delivery.properties.kind().as_ref();
        if kind.is_none_or(|kind| kind.as_str() != MARKER) {
            let dispatcher = &self.context.dispatcher;
            // One that makes the engine panic would stop every worker.
            let learn = AssertUnwindSafe(|| dispatcher.learn(&delivery.data));
            if std::panic::catch_unwind(learn).is_err() {
                error!(
                    queue = self.queue,
                    "learning of a cancel panicked; it is skipped"
                );
            }
        }
        if let Some(offset) = offset_of(delivery) {
            let read = self.context.cancels_read.lock();
            *read.unwrap_or_else(PoisonError::into_inner) = Some((offset, Instant::now()));
        }
        self.last = delivery.delivery_tag;
        self.unacknowledged += 1;
        // A stream delivers whole chunks, so more than the prefetch may wait to
        // be acknowledged.
        if self.unacknowledged >= ACK_BATCH {
            self.acknowledge()?;
        }
        Ok(())
    }

    /// Acknowledges everything that was read.
    fn acknowledge(&mut self) -> Result<(), AmqpError> {
        self.unacknowledged = 0;
        let all = BasicAckOptions { multiple: true };
        // The first poll hands it to lapin; the rest would only tell that it is
        // written.
        match self.channel.basic_ack(self.last, all).now_or_never() {
            Some(Err(error)) => Err(AmqpError::of_operation("acknowledging cancels", &error)),
            Some(Ok(())) | None => Ok(()),
        }
    }
}

/// Where in the stream it is.
fn offset_of(delivery: &Delivery) -> Option<u64> {
    let headers = delivery.properties.headers().as_ref()?;
    let offset = headers.inner().get("x-stream-offset")?;
    offset
        .as_long_long_int()
        .and_then(|offset| u64::try_from(offset).ok())
}

/// This worker's own queue, which goes when its connection does.
async fn own_queue(channel: &lapin::Channel, topology: &Topology) -> Result<String, AmqpError> {
    let name = format!("{}.{}", topology.names().cancels, Uuid::new_v4());
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let what = format!("queue {name}");
    let declare = channel.queue_declare(short(&name), options, FieldTable::default());
    bounded(&what, declare).await?;
    let bind = channel.queue_bind(
        short(&name),
        short(&topology.names().calls),
        "cancel".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bounded(&what, bind).await?;
    Ok(name)
}

/// The channel is for this only: a refused publish ends it.
async fn publish_marker(mut channel: ConfirmChannel<()>, queue: &str) -> Result<Uuid, AmqpError> {
    let id = Uuid::new_v4();
    let trace = TraceContext::default();
    let properties = properties(&id.to_string(), MARKER, &trace, epoch_seconds());
    let message = Message {
        exchange: "".into(),
        key: short(queue),
        mandatory: true,
        properties: properties.with_type(MARKER.into()),
        body: Bytes::new(),
    };
    channel.publish([(message, ())]);
    let told = channel.next().await?;
    if told == [((), Confirmation::Confirmed)] {
        let _ = timeout(QUIET, channel.close()).await;
        Ok(id)
    } else {
        Err(AmqpError::lost("the marker", "was not taken"))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Counts warnings and other lines.
    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<(u32, u32)>>);

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Lines {
        fn on_event(
            &self,
            event: &tracing::Event<'_>,
            _: tracing_subscriber::layer::Context<'_, S>,
        ) {
            let mut counts = self.0.lock().unwrap();
            if *event.metadata().level() == tracing::Level::WARN {
                counts.0 += 1;
            } else {
                counts.1 += 1;
            }
        }
    }

    fn listen() -> (Lines, tracing::subscriber::DefaultGuard) {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry().with(lines.clone());
        (lines, tracing::subscriber::set_default(subscriber))
    }

    fn failure() -> AmqpError {
        AmqpError::lost("queue c", "the broker cancelled its consumer")
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_ends_every_reader_is_said_once_a_minute() {
        // With only one subscriber about, tracing remembers another test's "no".
        let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
        let (lines, _guard) = listen();
        let attempts = Cell::new(0);
        let start = || {
            attempts.set(attempts.get() + 1);
            ready(Ok(ready(failure())))
        };
        let ten_minutes = Duration::from_secs(599);
        let _ = timeout(ten_minutes, again_and_again(failure(), start)).await;
        assert_eq!(*lines.0.lock().unwrap(), (10, 0));
        assert!(attempts.get() >= 590, "only {} attempts", attempts.get());
    }

    #[tokio::test(start_paused = true)]
    async fn that_cancels_are_read_again_is_said_when_it_lasts() {
        let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
        let (lines, _guard) = listen();
        let start = || ready(Ok(std::future::pending()));
        let _ = timeout(STEADY * 2, again_and_again(failure(), start)).await;
        assert_eq!(*lines.0.lock().unwrap(), (1, 1));
    }
}
