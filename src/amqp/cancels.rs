//! Cancels, which every worker learns.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicQosOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, Consumer};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::call::outcome::TraceContext;
use crate::engine::dispatch::Dispatcher;

use super::acks::{Acks, Word};
use super::publisher::{ConfirmChannel, Fate, Message};
use super::reports::properties;
use super::topology::{Topology, bounded, consume_options, open, short, table, text};
use super::{AmqpError, CancelSource};

/// Cancels delivered and not yet acknowledged, at most. A stream is read only
/// with such a limit.
const PREFETCH: u16 = 1000;
/// Bound on reading what is there already before the first ring is taken.
const CATCH_UP: Duration = Duration::from_secs(2);
/// Without a marker, the stream counts as read when nothing came for this long.
const QUIET: Duration = Duration::from_millis(200);
/// Added to a ring's longest life: how far the stream is read back.
const MARGIN: Duration = Duration::from_secs(30);
/// Message type of what a worker publishes to find the end of the stream.
const MARKER: &str = "ringpush.marker";

/// Reads cancels as long as its channel lives.
pub(crate) struct Cancels {
    consumer: Consumer,
    acks: Acks,
    dispatcher: Arc<Dispatcher>,
    queue: String,
}

/// The task that acknowledges what [`Cancels`] reads.
pub(crate) type AckTask = futures_util::future::BoxFuture<'static, Result<(), AmqpError>>;

impl Cancels {
    /// Starts to read, from the longest life of a ring ago where there is a
    /// stream.
    pub(crate) async fn start(
        connection: &Connection,
        topology: &Topology,
        ring_window: Duration,
        dispatcher: Arc<Dispatcher>,
    ) -> Result<(Self, AckTask), AmqpError> {
        let channel = open(connection).await?;
        let qos = channel.basic_qos(PREFETCH, BasicQosOptions::default());
        bounded("the prefetch of cancels", qos).await?;
        let (queue, arguments) = match topology.cancels() {
            CancelSource::Stream => {
                let back = (ring_window + MARGIN).as_secs();
                // An interval is measured on the broker's clock, which a
                // timestamp made here might disagree with.
                let offset = table([("x-stream-offset", text(&format!("{back}s")))]);
                (topology.names().cancels.clone(), offset)
            }
            CancelSource::Queue => (own_queue(&channel, topology).await?, table([])),
        };
        let exclusive = topology.cancels() == CancelSource::Queue;
        let consume = channel.basic_consume(
            short(&queue),
            "".into(),
            consume_options(exclusive),
            arguments,
        );
        let consumer = bounded(&format!("queue {queue}"), consume).await?;
        let (acks, task) = Acks::new(channel, PREFETCH);
        let cancels = Self {
            consumer,
            acks,
            dispatcher,
            queue,
        };
        Ok((cancels, Box::pin(task)))
    }

    /// Reads to what is the end of the stream now, for at most two seconds.
    ///
    /// Nothing in AMQP tells where a stream ends, so a marker is published to
    /// it and read until it comes back. If the broker does not take the marker
    /// (no permission to write to the default exchange, an alarm), a gap in
    /// what it delivers has to do.
    pub(crate) async fn catch_up(&mut self, channel: ConfirmChannel) -> Result<(), AmqpError> {
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
            match timeout_at(until, self.consumer.next()).await {
                Ok(next) => {
                    let delivery = self.delivered(next)?;
                    let id = delivery.properties.message_id().as_ref();
                    let found = marker.is_some_and(|m| {
                        id.and_then(|id| Uuid::try_parse(id.as_str()).ok()) == Some(m)
                    });
                    self.learn(&delivery).await;
                    if found {
                        debug!(read, "cancels are caught up with");
                        return Ok(());
                    }
                    read += 1;
                }
                Err(_) if marker.is_none() && Instant::now() < end => return Ok(()),
                Err(_) => {
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
    pub(crate) async fn run(mut self) -> AmqpError {
        loop {
            let next = self.consumer.next().await;
            match self.delivered(next) {
                Ok(delivery) => self.learn(&delivery).await,
                Err(error) => return error,
            }
        }
    }

    fn delivered(&self, next: Option<lapin::Result<Delivery>>) -> Result<Delivery, AmqpError> {
        let what = || format!("queue {}", self.queue);
        match next {
            Some(Ok(delivery)) => Ok(delivery),
            Some(Err(error)) => Err(AmqpError::of_operation(what(), &error)),
            None => Err(AmqpError::lost(what(), "the broker cancelled its consumer")),
        }
    }

    async fn learn(&self, delivery: &Delivery) {
        let kind = delivery.properties.kind().as_ref();
        if kind.is_none_or(|kind| kind.as_str() != MARKER) {
            self.dispatcher.learn(&delivery.data);
        }
        self.acks.say(delivery.delivery_tag, Word::Ack, None).await;
    }
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
async fn publish_marker(mut channel: ConfirmChannel, queue: &str) -> Result<Uuid, AmqpError> {
    let id = Uuid::new_v4();
    channel.publish(Message {
        exchange: String::new(),
        key: queue.to_owned(),
        mandatory: true,
        properties: properties(&id.to_string(), MARKER, &TraceContext::default())
            .with_type(MARKER.into()),
        body: Vec::new(),
    });
    match channel.next().await?.1 {
        Fate::Confirmed => {
            let _ = timeout(QUIET, channel.close()).await;
            Ok(id)
        }
        Fate::Refused | Fate::Returned => Err(AmqpError::lost("the marker", "was not taken")),
    }
}
