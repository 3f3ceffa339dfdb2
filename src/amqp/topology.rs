//! The exchanges and queues, and how they are declared or looked for.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ExchangeKind};
use tokio::time::timeout;

use crate::call::event::Platform;

use super::error::AmqpError;
use super::settings::CancelSource;
use super::wire::{OPERATION_TIMEOUT, bounded, open, short, table, text};

/// Failed deliveries after which the broker itself moves a message to the dead
/// queue. A worker that crashes costs every message it held one of these.
const DELIVERY_LIMIT: i64 = 10;
/// Token events that wait for somebody to take them, at most.
const MAX_TOKENS: i64 = 1_000_000;
/// Dead letters kept, at most.
const MAX_DEAD: i64 = 100_000;

/// The names that are made from the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Topic exchange that events are published to, and the queue of those for
    /// any platform.
    pub calls: String,
    /// Queue of events for iOS devices.
    pub ios: String,
    /// Queue of events for Android devices.
    pub android: String,
    /// Stream of cancels.
    pub cancels: String,
    /// Topic exchange of reports.
    pub outcomes: String,
    /// Queue of token events.
    pub tokens: String,
    /// Fanout exchange and queue of what could not be understood.
    pub dead: String,
}

impl Names {
    /// The names with this prefix.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        let name = |suffix: &str| format!("{prefix}.{suffix}");
        Self {
            calls: name("calls"),
            ios: name("ios"),
            android: name("android"),
            cancels: name("cancels"),
            outcomes: name("outcomes"),
            tokens: name("tokens"),
            dead: name("dead"),
        }
    }

    /// The queue of one platform; of any platform for an unknown one.
    #[must_use]
    pub fn queue_of(&self, platform: Platform) -> &str {
        match platform {
            Platform::Ios => &self.ios,
            Platform::Android => &self.android,
            Platform::Unknown => &self.calls,
        }
    }
}

/// How many messages and consumers a queue has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueCount {
    /// The queue.
    pub name: String,
    /// Messages ready to be taken.
    pub messages: u32,
    /// Those who take from it.
    pub consumers: u32,
}

/// A queue to be declared.
struct QueueSpec<'a> {
    name: &'a str,
    arguments: FieldTable,
    /// Exchange and routing key.
    bindings: Vec<(&'a str, &'a str)>,
}

/// Declares what is needed, or looks whether it is there.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    names: Names,
    cancels: CancelSource,
    declare: bool,
}

impl Topology {
    pub(crate) fn new(names: Names, cancels: CancelSource, declare: bool) -> Self {
        Self {
            names,
            cancels,
            declare,
        }
    }

    pub(crate) const fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) const fn cancels(&self) -> CancelSource {
        self.cancels
    }

    /// Whether what is missing may be created.
    pub(crate) const fn declares(&self) -> bool {
        self.declare
    }

    /// Makes sure that everything is there, on a channel of its own: a refused
    /// declaration ends its channel.
    pub(crate) async fn ensure(&self, connection: &Connection) -> Result<(), AmqpError> {
        let channel = open(connection).await?;
        for (name, kind, arguments) in self.exchanges() {
            self.exchange(&channel, name, kind, arguments).await?;
        }
        for queue in self.queues() {
            self.queue(&channel, queue).await?;
        }
        let _ = timeout(OPERATION_TIMEOUT, channel.close(200, "OK".into())).await;
        Ok(())
    }

    /// The same for the stream of cancels, if there is to be one. Apart, for
    /// rings can do without it.
    pub(crate) async fn ensure_cancels(&self, connection: &Connection) -> Result<(), AmqpError> {
        match self.cancels {
            CancelSource::Stream => {
                let channel = open(connection).await?;
                self.queue(&channel, self.stream()).await?;
                let _ = timeout(OPERATION_TIMEOUT, channel.close(200, "OK".into())).await;
                Ok(())
            }
            CancelSource::Queue => Ok(()),
        }
    }

    /// Counts what is in the queues.
    pub(crate) async fn counts(
        &self,
        connection: &Connection,
    ) -> Result<Vec<QueueCount>, AmqpError> {
        let channel = open(connection).await?;
        let mut counts = Vec::new();
        let stream = (self.cancels == CancelSource::Stream).then(|| self.stream());
        for spec in self.queues().into_iter().chain(stream) {
            let options = QueueDeclareOptions {
                passive: true,
                durable: true,
                ..QueueDeclareOptions::default()
            };
            let queue = bounded(
                &format!("queue {}", spec.name),
                channel.queue_declare(short(spec.name), options, FieldTable::default()),
            )
            .await?;
            counts.push(QueueCount {
                name: spec.name.to_owned(),
                messages: queue.message_count(),
                consumers: queue.consumer_count(),
            });
        }
        Ok(counts)
    }

    fn exchanges(&self) -> Vec<(&str, ExchangeKind, FieldTable)> {
        let names = &self.names;
        // A key that no queue wants must not vanish.
        let alternate = table([("alternate-exchange", text(&names.dead))]);
        vec![
            (&names.dead, ExchangeKind::Fanout, FieldTable::default()),
            (&names.calls, ExchangeKind::Topic, alternate),
            (&names.outcomes, ExchangeKind::Topic, FieldTable::default()),
        ]
    }

    fn queues(&self) -> Vec<QueueSpec<'_>> {
        let names = &self.names;
        let calls = names.calls.as_str();
        let spec = |name, arguments, bindings| QueueSpec {
            name,
            arguments,
            bindings,
        };
        vec![
            spec(
                &names.dead,
                bounded_quorum(MAX_DEAD),
                vec![(&*names.dead, "")],
            ),
            spec(
                &names.calls,
                self.intake(),
                vec![(calls, "ring"), (calls, "cancel")],
            ),
            spec(&names.ios, self.intake(), vec![(calls, "ring.ios")]),
            spec(&names.android, self.intake(), vec![(calls, "ring.android")]),
            spec(
                &names.tokens,
                bounded_quorum(MAX_TOKENS),
                vec![(&*names.outcomes, "token.#")],
            ),
        ]
    }

    fn stream(&self) -> QueueSpec<'_> {
        QueueSpec {
            name: &self.names.cancels,
            arguments: table([
                ("x-queue-type", text("stream")),
                ("x-max-age", text("1h")),
                (
                    "x-stream-max-segment-size-bytes",
                    AMQPValue::LongLongInt(10_000_000),
                ),
            ]),
            bindings: vec![(&self.names.calls, "cancel")],
        }
    }

    /// Arguments of a queue that events are taken from. At-least-once dead
    /// lettering needs `reject-publish`; without a length limit nothing is
    /// ever rejected.
    fn intake(&self) -> FieldTable {
        table([
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
            ("x-dead-letter-exchange", text(&self.names.dead)),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ])
    }

    async fn exchange(
        &self,
        channel: &Channel,
        name: &str,
        kind: ExchangeKind,
        arguments: FieldTable,
    ) -> Result<(), AmqpError> {
        let options = ExchangeDeclareOptions {
            passive: !self.declare,
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        bounded(
            &format!("exchange {name}"),
            channel.exchange_declare(short(name), kind, options, arguments),
        )
        .await
        .map_err(|error| self.classify(error))
    }

    async fn queue(&self, channel: &Channel, spec: QueueSpec<'_>) -> Result<(), AmqpError> {
        let what = format!("queue {}", spec.name);
        let options = QueueDeclareOptions {
            passive: !self.declare,
            durable: true,
            ..QueueDeclareOptions::default()
        };
        bounded(
            &what,
            channel.queue_declare(short(spec.name), options, spec.arguments),
        )
        .await
        .map_err(|error| self.classify(error))?;
        if !self.declare {
            // There is no way to ask the broker for a binding.
            return Ok(());
        }
        for (exchange, key) in spec.bindings {
            bounded(
                &format!("{what} bound to exchange {exchange}"),
                channel.queue_bind(
                    short(spec.name),
                    short(exchange),
                    short(key),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                ),
            )
            .await?;
        }
        Ok(())
    }

    /// What is not found although it was just declared is on a node that is
    /// down or starting: that passes.
    fn classify(&self, error: AmqpError) -> AmqpError {
        if !self.declare {
            return error;
        }
        error.passing()
    }
}

/// A quorum queue that drops its oldest message rather than grow further.
fn bounded_quorum(length: i64) -> FieldTable {
    table([
        ("x-queue-type", text("quorum")),
        ("x-max-length", AMQPValue::LongLongInt(length)),
        ("x-overflow", text("drop-head")),
    ])
}
