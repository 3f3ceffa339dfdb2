//! Reading what became of events: for `ringpush enqueue --wait`, benchmarks and
//! tests.

use std::collections::HashSet;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use serde_json::Value;
use uuid::Uuid;

use super::connect::{Connector, close};
use super::error::AmqpError;
use super::producer::Summary;
use super::settings::Settings;
use super::topology::Names;
use super::wire::{bounded, consume_options, open, short};

/// Reports delivered to a reader and not yet read, at most.
const PREFETCH: u16 = 500;

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
