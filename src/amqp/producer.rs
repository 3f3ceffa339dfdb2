//! Publishing events as a signaling service would, and reading what became of
//! them: for `ringpush enqueue`, benchmarks and tests.

use std::collections::HashSet;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::call::outcome::TraceContext;

use super::connect::close;
use super::ledger::Fate;
use super::publisher::{ConfirmChannel, Message, WINDOW};
use super::reports::properties;
use super::topology::{Names, Topology, bounded, consume_options, open, short};
use super::{AmqpError, Connector, Settings};

/// Reports delivered to a reader and not yet read, at most.
const PREFETCH: u16 = 500;

/// What an event says about itself, read leniently: a broken event is
/// published too, and the worker says what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The routing key it is published with.
    pub key: &'static str,
    /// Its `event_id`, if it is text.
    pub event_id: Option<String>,
    /// Its `call_id`, if it is text.
    pub call_id: Option<String>,
    /// How many devices it lists.
    pub devices: usize,
}

#[derive(Deserialize)]
struct Sketch {
    event: Option<Value>,
    event_id: Option<Value>,
    call_id: Option<Value>,
    #[serde(default)]
    devices: Option<Vec<Value>>,
}

impl Summary {
    /// Reads an event.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        let Ok(sketch) = serde_json::from_slice::<Sketch>(body) else {
            return Self {
                key: "ring",
                event_id: None,
                call_id: None,
                devices: 0,
            };
        };
        let text = |value: Option<Value>| value?.as_str().map(ToOwned::to_owned);
        let devices = sketch.devices.unwrap_or_default();
        let all_of = |platform: &str| {
            !devices.is_empty()
                && devices
                    .iter()
                    .all(|device| device.get("platform").and_then(Value::as_str) == Some(platform))
        };
        let key = if sketch.event.as_ref().and_then(Value::as_str) == Some("cancel") {
            "cancel"
        } else if all_of("ios") {
            "ring.ios"
        } else if all_of("android") {
            "ring.android"
        } else {
            "ring"
        };
        Self {
            key,
            event_id: text(sketch.event_id),
            call_id: text(sketch.call_id),
            devices: devices.len(),
        }
    }
}

/// Publishes events, confirmed. Many may be on their way at a time.
pub struct Producer {
    connection: Connection,
    channel: ConfirmChannel,
    names: Names,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Producer({})", self.names.calls)
    }
}

impl Producer {
    /// Connects, and declares exchanges and queues (or looks for them) as a
    /// worker would, so that what is published finds its queue.
    ///
    /// # Errors
    /// See [`AmqpError`].
    pub async fn connect(settings: &Settings) -> Result<Self, AmqpError> {
        let connection = Connector::new(settings)?
            .connect("ringpush enqueue")
            .await?;
        let names = Names::new(&settings.prefix);
        let topology = Topology::new(names.clone(), settings.cancels, settings.declare);
        topology.ensure(&connection).await?;
        // A cancel published before the first worker starts must reach it.
        topology.ensure_cancels(&connection).await?;
        Ok(Self {
            channel: ConfirmChannel::open(&connection).await?,
            connection,
            names,
        })
    }

    /// Publishes one event and waits until the broker has it.
    ///
    /// # Errors
    /// The session was lost, or the broker refused the event; whether it has
    /// it is then unknown.
    pub async fn publish(
        &mut self,
        body: Vec<u8>,
        trace: &TraceContext,
    ) -> Result<Summary, AmqpError> {
        let summary = self.send(body, trace).await?;
        self.flush().await?;
        Ok(summary)
    }

    /// Publishes one event without waiting for the broker's confirm, unless
    /// very many are on their way; [`Producer::flush`] waits for all.
    ///
    /// # Errors
    /// As [`Producer::publish`], for any event on its way.
    pub async fn send(
        &mut self,
        body: Vec<u8>,
        trace: &TraceContext,
    ) -> Result<Summary, AmqpError> {
        while self.channel.outstanding() >= WINDOW {
            self.confirmed().await?;
        }
        let summary = Summary::of(&body);
        let id = summary
            .event_id
            .clone()
            .unwrap_or_else(|| Uuid::new_v4().to_string());
        let call_id = summary.call_id.as_deref().unwrap_or_default();
        let kind = if summary.key == "cancel" {
            "cancel"
        } else {
            "ring"
        };
        self.channel.publish(Message {
            exchange: self.names.calls.clone(),
            key: summary.key.to_owned(),
            mandatory: true,
            properties: properties(&id, call_id, trace).with_type(kind.into()),
            body: body.into(),
        });
        Ok(summary)
    }

    /// Waits until the broker has everything that was sent.
    ///
    /// # Errors
    /// As [`Producer::publish`].
    pub async fn flush(&mut self) -> Result<(), AmqpError> {
        while self.channel.outstanding() > 0 {
            self.confirmed().await?;
        }
        Ok(())
    }

    async fn confirmed(&mut self) -> Result<(), AmqpError> {
        let what = || format!("publishing to exchange {}", self.names.calls);
        match self.channel.next().await?.1 {
            Fate::Confirmed => Ok(()),
            Fate::Refused => Err(AmqpError::lost(what(), "the broker refused the event")),
            Fate::Returned => Err(AmqpError::lost(what(), "no queue takes the event")),
        }
    }

    /// Says goodbye.
    pub async fn close(self) {
        close(&self.connection).await;
    }
}

/// Reads reports from now on, through a queue of its own that goes when it
/// does. Open it before publishing what it is to show.
pub struct OutcomeReader {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

impl std::fmt::Debug for OutcomeReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OutcomeReader")
    }
}

/// Which reports are of interest.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Events.
    pub event_ids: HashSet<String>,
    /// Calls: token events name no event.
    pub call_ids: HashSet<String>,
}

impl Wanted {
    /// Adds a published event.
    pub fn add(&mut self, summary: &Summary) {
        self.event_ids.extend(summary.event_id.clone());
        self.call_ids.extend(summary.call_id.clone());
    }

    fn has(&self, body: &Value, call_id: Option<&str>) -> bool {
        match body.get("event_id").and_then(Value::as_str) {
            Some(event_id) => self
                .event_ids
                .iter()
                .any(|wanted| wanted.eq_ignore_ascii_case(event_id)),
            None => call_id.is_some_and(|id| self.call_ids.contains(id)),
        }
    }
}

/// A report as it was published.
#[derive(Clone, PartialEq)]
pub struct Outcome {
    /// Its routing key, such as `push.ios.accepted`.
    pub key: String,
    /// Its body.
    pub body: Value,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A token event's body holds the token.
        write!(f, "Outcome({})", self.key)
    }
}

impl OutcomeReader {
    /// Connects and binds a queue to all reports.
    ///
    /// # Errors
    /// See [`AmqpError`].
    pub async fn open(settings: &Settings) -> Result<Self, AmqpError> {
        let connection = Connector::new(settings)?.connect("ringpush wait").await?;
        let names = Names::new(&settings.prefix);
        let channel = open(&connection).await?;
        let queue = format!("{}.{}", names.outcomes, Uuid::new_v4());
        let what = format!("queue {queue}");
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let declare = channel.queue_declare(short(&queue), options, FieldTable::default());
        bounded(&what, declare).await?;
        for key in ["push.#", "token.#", "call.#"] {
            let bind = channel.queue_bind(
                short(&queue),
                short(&names.outcomes),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            bounded(&what, bind).await?;
        }
        let qos = channel.basic_qos(PREFETCH, BasicQosOptions::default());
        bounded(&what, qos).await?;
        let consume = channel.basic_consume(
            short(&queue),
            "".into(),
            consume_options(true),
            FieldTable::default(),
        );
        let consumer = bounded(&what, consume).await?;
        Ok(Self {
            connection,
            channel,
            consumer,
        })
    }

    /// The next report that is wanted. Waits for ever; may be dropped.
    ///
    /// # Errors
    /// The session was lost.
    pub async fn next(&mut self, wanted: &Wanted) -> Result<Outcome, AmqpError> {
        loop {
            let delivery = match self.consumer.next().await {
                Some(Ok(delivery)) => delivery,
                Some(Err(error)) => return Err(AmqpError::of_operation("reading reports", &error)),
                None => return Err(AmqpError::lost("reading reports", "the queue is gone")),
            };
            let ack = self
                .channel
                .basic_ack(delivery.delivery_tag, BasicAckOptions::default());
            bounded("reading reports", ack).await?;
            let call_id = delivery.properties.correlation_id().as_ref();
            let Ok(body) = serde_json::from_slice::<Value>(&delivery.data) else {
                continue;
            };
            if wanted.has(&body, call_id.map(lapin::types::ShortString::as_str)) {
                return Ok(Outcome {
                    key: delivery.routing_key.to_string(),
                    body,
                });
            }
        }
    }

    /// Says goodbye; the queue goes.
    pub async fn close(self) {
        close(&self.connection).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_follows_from_the_event() {
        for (event, key) in [
            (
                r#"{"event":"ring","devices":[{"platform":"ios"}]}"#,
                "ring.ios",
            ),
            (
                r#"{"event":"ring","devices":[{"platform":"android"},{"platform":"android"}]}"#,
                "ring.android",
            ),
            (
                r#"{"event":"ring","devices":[{"platform":"ios"},{"platform":"android"}]}"#,
                "ring",
            ),
            (
                r#"{"event":"cancel","devices":[{"platform":"ios"}]}"#,
                "cancel",
            ),
            (r#"{"event":"cancel"}"#, "cancel"),
            (r#"{"event":"ring","devices":[]}"#, "ring"),
            (r#"{"event":"ring","devices":7}"#, "ring"),
            ("not JSON", "ring"),
        ] {
            assert_eq!(Summary::of(event.as_bytes()).key, key, "{event}");
        }
    }

    #[test]
    fn token_events_are_found_by_their_call() {
        let mut wanted = Wanted::default();
        wanted.add(&Summary::of(
            br#"{"event":"ring","event_id":"E1","call_id":"c1"}"#,
        ));
        let push = serde_json::json!({"event_id": "e1"});
        let other = serde_json::json!({"event_id": "e2"});
        let token = serde_json::json!({"token": "t"});
        assert!(wanted.has(&push, Some("c1")));
        assert!(!wanted.has(&other, Some("c1")), "another event of the call");
        assert!(wanted.has(&token, Some("c1")));
        assert!(!wanted.has(&token, Some("c2")));
        assert!(!wanted.has(&token, None));
    }
}
