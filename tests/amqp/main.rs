//! The `RabbitMQ` side against a real broker: the one at `AMQP_URL`, or a private
//! node. Every test has its own prefix and deletes what it declared.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod messages;
mod rig;
mod tls;
mod topology;
