//! Small things around lapin: channels and operations within a bound, names
//! and header tables.

use std::time::Duration;

use lapin::options::BasicConsumeOptions;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection};
use tokio::time::timeout;

use super::error::AmqpError;

/// Bound on any single operation on the broker.
pub(crate) const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel, within the time that any operation may take.
pub(crate) async fn open(connection: &Connection) -> Result<Channel, AmqpError> {
    bounded("a channel", connection.create_channel()).await
}

/// Bounds an operation on the broker and classifies its failure.
pub(crate) async fn bounded<T>(
    what: &str,
    operation: impl Future<Output = lapin::Result<T>>,
) -> Result<T, AmqpError> {
    match timeout(OPERATION_TIMEOUT, operation).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(AmqpError::of_operation(what, &error)),
        Err(_) => Err(AmqpError::lost(
            what,
            format!("no answer within {} s", OPERATION_TIMEOUT.as_secs()),
        )),
    }
}

/// Options of a consumer that acknowledges.
pub(crate) const fn consume_options(exclusive: bool) -> BasicConsumeOptions {
    BasicConsumeOptions {
        no_local: false,
        no_ack: false,
        exclusive,
        nowait: false,
    }
}

/// A name made from a prefix that [`Settings`](super::settings::Settings) has
/// bounded. What is too long anyway becomes empty, which the broker refuses.
pub(crate) fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_else(|_| "".into())
}

pub(crate) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// A header's text, if it is one.
pub(crate) fn text_of(value: &AMQPValue) -> Option<String> {
    if let AMQPValue::LongString(text) = value {
        return String::from_utf8(text.as_bytes().to_vec()).ok();
    }
    if let AMQPValue::ShortString(text) = value {
        return Some(text.to_string());
    }
    None
}

pub(crate) fn table<const N: usize>(entries: [(&'static str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}
