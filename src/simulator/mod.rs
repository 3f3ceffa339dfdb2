//! Strict `APNs`, FCM and OAuth servers over real TLS and HTTP/2 on loopback,
//! for the demo, tests, benchmarks and the command `simulate`.
//!
//! They judge requests by Apple's and Google's documentation and answer with
//! the providers' statuses and error bodies. Nothing here is shared with the
//! clients, or a mistake would cancel itself out.
//!
//! - [`Simulator`]: starts everything, makes keys and certificates, changes
//!   what the services know; `start` and `files`: how it comes up and what it
//!   writes for a client;
//! - [`Server`]: one listener, which can go down and come back;
//!   `connection`, `token_connection`: what is served on it; `wire`,
//!   `control`, `frames`: HTTP/2 below its library, for SETTINGS and GOAWAY;
//! - `apns`, `apns_rules`, `apns_auth`, `fcm`, `fcm_rules`, `fcm_errors`,
//!   `oauth`, `jwt`, `accounts`: the rules; `exchange`: their verdict;
//! - [`Script`]: faults; `play`: rules and script put together;
//! - [`Journal`]: what arrived; `certificates`, `rsa_key`: made at start; `world`:
//!   what the servers share; `kind`: their names.

mod accounts;
mod apns;
mod apns_auth;
mod apns_rules;
mod certificates;
mod connection;
mod control;
mod exchange;
mod fcm;
mod fcm_errors;
mod fcm_rules;
mod files;
mod frames;
mod handle;
mod jwt;
mod kind;
mod oauth;
mod options;
mod play;
mod record;
mod rsa_key;
mod script;
mod server;
mod start;
mod token_connection;
mod wire;
mod world;

pub use accounts::Device;
pub use files::Files;
pub use handle::Simulator;
pub use kind::{Environment, Error, ServerKind};
pub use options::{Options, Ports};
pub use record::{Answer, Claims, Journal, Keep, Record, Tally};
pub use script::{Body, Effect, RetryAfter, Rule, Script, Step, Target};
pub use server::{Server, Stop};

/// The example in the documentation compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/simulator.md")]
struct Page;
