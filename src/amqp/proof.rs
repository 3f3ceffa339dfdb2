//! Proves that a worker could work on this broker.

use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use tokio::time::timeout;

use super::confirm_channel::ConfirmChannel;
use super::connect::{Connector, close};
use super::error::AmqpError;
use super::message::Message;
use super::settings::Settings;
use super::topology::{Names, QueueCount, Topology};
use super::wire::short;

/// For everything together.
const LIMIT: Duration = Duration::from_secs(15);

/// Goes as far as a worker goes before it takes its first message: connects,
/// declares exchanges, queues and bindings (or looks for them, without
/// `amqp.declare`), publishes to the reports' exchange and to the default
/// one with keys that nobody is bound to, and counts what is in the queues. Only the permission to read
/// the queues remains unproved: that would take messages.
///
/// # Errors
/// See [`AmqpError`].
pub async fn prove(settings: &Settings) -> Result<Vec<QueueCount>, AmqpError> {
    let connector = Connector::new(settings)?;
    // An address at which nobody is must not leave lapin's thread behind.
    connector.knock().await?;
    let names = Names::new(&settings.prefix);
    let topology = Topology::new(names.clone(), settings.cancels, settings.declare);
    let work = async {
        let connection = connector.connect("ringpush check").await?;
        let proved = async {
            topology.ensure(&connection).await?;
            topology.ensure_cancels(&connection).await?;
            let mut channel = ConfirmChannel::open(&connection).await?;
            // What is split or on the wrong queue goes through the second one.
            let stray = format!("{}.check", settings.prefix);
            for (exchange, key) in [(&*names.outcomes, "check"), ("", &stray)] {
                let message = Message {
                    exchange: short(exchange),
                    key: short(key),
                    mandatory: false,
                    properties: BasicProperties::default(),
                    body: Bytes::from_static(b"{\"v\":1,\"type\":\"check\"}"),
                };
                channel.publish([(message, ())]);
                channel.next().await?;
            }
            channel.close().await;
            topology.counts(&connection).await
        }
        .await;
        close(&connection).await;
        proved
    };
    match timeout(LIMIT, work).await {
        Ok(proved) => proved,
        Err(_) => Err(AmqpError::lost("the broker's proof", "took too long")),
    }
}
