//! The others on the broker: a producer of calls, and a reader of what became
//! of them.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::{BasicGetMessage, Delivery};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::worker::PATIENCE;

/// A plain client for the exchanges and queues of one prefix.
pub(crate) struct Client {
    pub(crate) prefix: String,
    pub(crate) connection: Connection,
    pub(crate) channel: Channel,
}

impl Client {
    pub(crate) async fn open(url: &str, prefix: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default())
            .await
            .expect("a broker");
        let channel = connection.create_channel().await.expect("a channel");
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .expect("confirms");
        Self {
            prefix: prefix.to_owned(),
            connection,
            channel,
        }
    }

    pub(crate) fn name(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.prefix)
    }

    /// Publishes an event as producers do.
    pub(crate) async fn publish(&self, key: &str, event: &Value) {
        let body = event.to_string();
        self.publish_all(key, [(body.into_bytes(), BasicProperties::default())])
            .await;
    }

    /// Publishes bodies as fast as the broker takes them and waits for all
    /// confirms.
    pub(crate) async fn publish_all(
        &self,
        key: &str,
        messages: impl IntoIterator<Item = (Vec<u8>, BasicProperties)>,
    ) {
        self.send_all(&self.name("calls"), key, messages).await;
    }

    /// The same to any exchange.
    pub(crate) async fn send_all(
        &self,
        exchange: &str,
        key: &str,
        messages: impl IntoIterator<Item = (Vec<u8>, BasicProperties)>,
    ) {
        let mut confirms = Vec::new();
        for (body, properties) in messages {
            let published = self.channel.basic_publish(
                exchange.into(),
                key.into(),
                BasicPublishOptions::default(),
                &body,
                properties.with_delivery_mode(2),
            );
            confirms.push(published.await.expect("published"));
        }
        for confirm in confirms {
            assert!(confirm.await.expect("an answer").is_ack(), "confirmed");
        }
    }

    /// Messages ready in a queue; none if it does not exist.
    pub(crate) async fn count(&self, suffix: &str) -> Option<u32> {
        let channel = self.connection.create_channel().await.expect("a channel");
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let name = self.name(suffix);
        let queue = channel
            .queue_declare(name.as_str().into(), options, FieldTable::default())
            .await
            .ok()?;
        let _ = channel.close(200, "OK".into()).await;
        Some(queue.message_count())
    }

    /// Waits until a queue has this many messages ready.
    pub(crate) async fn holds(&self, suffix: &str, count: u32) {
        let mut last = None;
        let counted = async {
            loop {
                last = self.count(suffix).await;
                if last == Some(count) {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let done = timeout(PATIENCE, counted).await.is_ok();
        assert!(done, "{suffix} holds {last:?}, not {count}");
    }

    /// The intake queues hold nothing. Only what is ready can be counted
    /// without management: after the worker has gone that is everything, for
    /// then nothing is unacknowledged any more.
    pub(crate) async fn intake_is_empty(&self) {
        for suffix in ["calls", "ios", "android"] {
            assert_eq!(self.count(suffix).await, Some(0), "{suffix}");
        }
    }

    /// Takes the next message, waiting for it.
    pub(crate) async fn take(&self, suffix: &str) -> Message {
        let queue = self.name(suffix);
        let taken = async {
            loop {
                let got: Option<BasicGetMessage> = self
                    .channel
                    .basic_get(queue.as_str().into(), BasicGetOptions::default())
                    .await
                    .expect("the queue");
                if let Some(message) = got {
                    return message.delivery;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let delivery = timeout(PATIENCE, taken)
            .await
            .unwrap_or_else(|_| panic!("nothing in {queue}"));
        self.channel
            .basic_ack(delivery.delivery_tag, BasicAckOptions::default())
            .await
            .expect("acknowledged");
        Message(delivery)
    }

    /// Reads all reports from now on.
    pub(crate) async fn outcomes(&self) -> Outcomes {
        let channel = self.connection.create_channel().await.expect("a channel");
        let exchange = self.name("outcomes");
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(
                exchange.as_str().into(),
                ExchangeKind::Topic,
                durable,
                FieldTable::default(),
            )
            .await
            .expect("the exchange of outcomes");
        let own = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel
            .queue_declare("".into(), own, FieldTable::default())
            .await
            .expect("a queue");
        let name = queue.name().as_str().to_owned();
        channel
            .queue_bind(
                name.as_str().into(),
                exchange.as_str().into(),
                "#".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("bound");
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consumer = channel
            .basic_consume(
                name.as_str().into(),
                "".into(),
                options,
                FieldTable::default(),
            )
            .await
            .expect("a consumer");
        Outcomes {
            consumer,
            _channel: channel,
        }
    }

    /// Deletes everything of this prefix.
    pub(crate) async fn clean(&self) {
        for suffix in ["calls", "ios", "android", "cancels", "tokens", "dead"] {
            let queue = self.name(suffix);
            let _ = self
                .channel
                .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
                .await;
        }
        for suffix in ["calls", "outcomes", "dead"] {
            let exchange = self.name(suffix);
            let _ = self
                .channel
                .exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default())
                .await;
        }
    }
}

/// Reports as they come.
pub(crate) struct Outcomes {
    consumer: Consumer,
    _channel: Channel,
}

impl Outcomes {
    /// The next report.
    pub(crate) async fn next(&mut self) -> Message {
        let next = timeout(PATIENCE, self.consumer.next()).await;
        let delivery = next
            .expect("a report in time")
            .expect("the consumer lives")
            .expect("a delivery");
        Message(delivery)
    }

    /// The next report, if one comes in so short a time.
    pub(crate) async fn within(&mut self, time: Duration) -> Option<Message> {
        let next = timeout(time, self.consumer.next()).await.ok()?;
        Some(Message(
            next.expect("the consumer lives").expect("a delivery"),
        ))
    }

    /// The next reports on pushes, by device; others are skipped.
    pub(crate) async fn pushes(&mut self, count: usize) -> Vec<Value> {
        let mut all = Vec::new();
        while all.len() < count {
            let report = self.next().await.json();
            if report["type"] == "push" {
                all.push(report);
            }
        }
        all.sort_by_key(|report| report["device_id"].to_string());
        all
    }

    /// The next report on a push.
    pub(crate) async fn push(&mut self) -> Value {
        self.pushes(1).await.remove(0)
    }
}

/// A message that was taken.
pub(crate) struct Message(pub(crate) Delivery);

impl Message {
    pub(crate) fn key(&self) -> &str {
        self.0.routing_key.as_str()
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.0.data
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.0.data).expect("a JSON body")
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let headers = self.0.properties.headers().as_ref()?;
        let value = headers.inner().get(name)?;
        let text = value.as_long_string().map(ToString::to_string);
        Some(text.unwrap_or_else(|| format!("{value:?}")))
    }

    pub(crate) fn correlation_id(&self) -> Option<&str> {
        self.0
            .properties
            .correlation_id()
            .as_ref()
            .map(lapin::types::ShortString::as_str)
    }
}
