//! Makes phones ring, from Rust: `cargo run --example producer -- ring|cancel CALL_ID DEVICES.json`.
//!
//! Publishes one event to ringpush with publisher confirms. `AMQP_URL` and
//! `AMQP_PREFIX` (default `ringpush`) say where.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use chrono::{SecondsFormat, TimeDelta, Utc};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

/// For the connection, and again for the broker's confirm.
const PATIENCE: Duration = Duration::from_secs(3);

/// A connection to the broker on which every event is confirmed.
pub(crate) struct Publisher {
    connection: Connection,
    channel: Channel,
    exchange: String,
}

impl Publisher {
    pub(crate) async fn open(url: &str, prefix: &str) -> anyhow::Result<Self> {
        let connecting = Connection::connect(url, ConnectionProperties::default());
        let connection = timeout(PATIENCE, connecting).await.context("no broker")??;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Self {
            connection,
            channel,
            exchange: format!("{prefix}.calls"),
        })
    }

    /// Returns once the broker has the event.
    pub(crate) async fn publish(&self, event: &Value) -> anyhow::Result<()> {
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_message_id(text("event_id").into())
            .with_correlation_id(text("call_id").into())
            .with_type(text("event").into());
        // No expiration: the deadline is in the event.
        let confirm = self
            .channel
            .basic_publish(
                self.exchange.as_str().into(),
                routing_key(event).into(),
                BasicPublishOptions::default(),
                event.to_string().as_bytes(),
                properties,
            )
            .await?;
        let confirmation = timeout(PATIENCE, confirm).await.context("no confirm")??;
        ensure!(confirmation.is_ack(), "the broker refused the event");
        Ok(())
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        Ok(self.connection.close(200, "done".into()).await?)
    }
}

/// One platform's rings go straight to its queue; a mix is split by the worker.
pub(crate) fn routing_key(event: &Value) -> &'static str {
    if event["event"] == "cancel" {
        return "cancel";
    }
    let devices = event["devices"].as_array().map_or(&[][..], Vec::as_slice);
    let all = |platform: &str| devices.iter().all(|device| device["platform"] == platform);
    match (all("ios"), all("android")) {
        (true, false) => "ring.ios",
        (false, true) => "ring.android",
        (true, true) | (false, false) => "ring",
    }
}

pub(crate) fn ring(call_id: &str, caller: &Value, devices: &Value) -> Value {
    let now = Utc::now();
    let time = |at: chrono::DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
    json!({
        "v": 1, "event": "ring", "event_id": Uuid::new_v4(), "call_id": call_id,
        "sent_at": time(now), "expires_at": time(now + TimeDelta::seconds(45)),
        "media": "audio", "caller": caller, "devices": devices,
    })
}

pub(crate) fn cancel(call_id: &str, reason: &str, devices: &Value) -> Value {
    json!({
        "v": 1, "event": "cancel", "event_id": Uuid::new_v4(), "call_id": call_id,
        "sent_at": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        "reason": reason, "devices": devices,
    })
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, call_id, file] = &arguments[..] else {
        bail!("usage: producer ring|cancel CALL_ID DEVICES.json");
    };
    let devices: Value = serde_json::from_slice(&std::fs::read(file).context("DEVICES.json")?)?;
    let event = match kind.as_str() {
        "ring" => {
            let caller = json!({"id": "user-1", "name": "Alice Martin"});
            ring(call_id, &caller, &devices)
        }
        "cancel" => cancel(call_id, "caller_hangup", &devices),
        _ => bail!("ring or cancel, not {kind}"),
    };
    let url = std::env::var("AMQP_URL").context("AMQP_URL")?;
    let prefix = std::env::var("AMQP_PREFIX").unwrap_or_else(|_| "ringpush".to_owned());
    let publisher = Publisher::open(&url, &prefix).await?;
    publisher.publish(&event).await?;
    publisher.close().await
}
