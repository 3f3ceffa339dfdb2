//! ringpush makes phones ring: it takes call events from `RabbitMQ` and sends
//! `PushKit` `VoIP` pushes through `APNs` and high-priority data messages
//! through FCM, inside the few seconds in which a ring makes sense.
//!
//! # Layout
//!
//! An arrow only ever points down this list:
//!
//! - [`cli`]: one file per command; [`app`]: the composition root, builds
//!   everything once, runs it, drains it; [`config`]: the configuration file;
//!   [`admin`]: health, metrics, the status page and traces over HTTP;
//!   [`telemetry`]: logs and traces.
//! - [`amqp`]: session, topology, intake, outcomes, cancels.
//!   [`providers`]: `apns` and `fcm`, which never know each other.
//! - [`engine`]: dispatch (one event), lane (one push: permit, attempt,
//!   retry), cancels, token verdicts and their brake, the last pushes.
//! - [`call`]: the event, one device's push, outcomes, payload profiles. Pure:
//!   no clock and no I/O.
//! - [`metrics`], [`spans`], [`shutdown`], [`files`], [`trust`]: leaves, know nothing of the rest.
//!
//! [`simulator`] stands apart: strict `APNs`, FCM and OAuth servers for the
//! demo, the tests and users. It shares no code with the clients it judges.

pub mod admin;
pub mod amqp;
pub mod app;
pub mod call;
pub mod cli;
pub mod config;
pub mod engine;
pub mod files;
pub mod metrics;
pub mod providers;
pub mod shutdown;
pub mod simulator;
pub mod spans;
pub mod telemetry;
pub mod trust;
