//! Warm HTTP/2 connections to one provider, the same way for each of them.
//!
//! - [`Pool`]: takes a request, picks the connection, gives the answer;
//!   `shared` is what it holds, `supervisor` the one task that opens and
//!   replaces connections;
//! - `connection` drives one and watches over it, `link` is what is known of
//!   it, `watched` counts what it reads, `gauges` counts it in the metrics;
//! - `connect` opens one, [`dial`] finds the way there: look-up, TCP, the tunnel
//!   of a [`proxy`], TLS;
//! - `fault`: what a broken connection means for its request.
//!
//! The connections are h2's own, without hyper's client on top: the pool has
//! to see the stream limit and a GOAWAY when they arrive and not with the next
//! request, to send a PING when it doubts, and to tell a refused stream from a
//! reset one. hyper keeps all of this behind a task of its own.

mod connect;
mod connection;
pub mod dial;
mod fault;
mod gauges;
mod link;
mod pool;
pub mod proxy;
mod shared;
mod supervisor;
#[cfg(test)]
pub(super) mod testing;
mod watched;

pub use connection::Liveness;
pub use dial::Phases;
pub use pool::{HostError, Pool, Reply};
pub use shared::{Options, Status, Tuning};
