//! Publishing events as a signaling service would: for `ringpush enqueue`,
//! benchmarks and tests.

use lapin::Connection;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::call::event::without_mark;
use crate::call::outcome::TraceContext;

use super::confirm_channel::ConfirmChannel;
use super::confirmation::Confirmation;
use super::connect::{Connector, close};
use super::error::AmqpError;
use super::message::{Message, epoch_seconds, properties};
use super::settings::Settings;
use super::topology::{Names, Topology};
use super::wire::short;

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
        let Ok(sketch) = serde_json::from_slice::<Sketch>(without_mark(body)) else {
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
    channel: ConfirmChannel<()>,
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
        while self.channel.room() == 0 {
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
        let message = Message {
            exchange: short(&self.names.calls),
            key: summary.key.into(),
            mandatory: true,
            properties: properties(&id, call_id, trace, epoch_seconds()).with_type(kind.into()),
            body: body.into(),
        };
        self.channel.publish([(message, ())]);
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
        for ((), confirmation) in self.channel.next().await? {
            match confirmation {
                Confirmation::Confirmed => {}
                Confirmation::Refused => {
                    return Err(AmqpError::lost(what(), "the broker refused the event"));
                }
                Confirmation::Returned => {
                    return Err(AmqpError::lost(what(), "no queue takes the event"));
                }
            }
        }
        Ok(())
    }

    /// Says goodbye.
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
            ("\u{feff}{\"event\":\"cancel\"}", "cancel"),
            (r#"{"event":"ring","devices":[]}"#, "ring"),
            (r#"{"event":"ring","devices":7}"#, "ring"),
            ("not JSON", "ring"),
        ] {
            assert_eq!(Summary::of(event.as_bytes()).key, key, "{event}");
        }
    }
}
