//! The `RabbitMQ` side: a session that comes back by itself, the topology it
//! declares, the queues it takes events from, the reports it publishes and the
//! cancels that every worker reads.
//!
//! A [`Worker`] owns it all. Publishing and consuming use separate
//! connections: a broker that runs out of memory or disk stops reading from
//! connections that publish, and acknowledgements must not stand behind that.

mod acks;
mod cancels;
mod complaint;
mod confirm_channel;
mod confirmation;
mod connect;
mod context;
mod error;
mod forward;
mod handling;
mod intake;
mod message;
mod outbox;
pub mod producer;
mod proof;
mod publisher;
pub mod reader;
mod redeclare;
mod reports;
mod retries;
mod session;
mod settings;
mod standstill;
mod topology;
mod wire;
mod worker;

pub use connect::Connector;
pub use context::BrokerState;
pub use error::AmqpError;
pub use proof::prove;
pub use reports::Reports;
pub use settings::{CancelSource, Settings};
pub use topology::{Names, QueueCount};
pub use worker::{PreparedWorker, Worker, count};
