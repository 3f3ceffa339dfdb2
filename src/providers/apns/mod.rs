//! `APNs`: `PushKit` `VoIP` pushes over HTTP/2.
//!
//! - [`client`]: one attempt at one push, and what its answer teaches;
//!   `request` builds what it sends, `exact` shows it;
//! - `pool`: warm connections, which one takes a push; `supervisor` replaces them;
//!   `connection` drives one and watches over it, `link` is what is known of
//!   it, `connect` opens it, `watched` counts what it reads;
//! - [`signer`]: provider tokens; [`credentials`] and [`certificate`]: files;
//! - [`reason`]: what an answer means, by one table; [`answer`] reads it;
//!   `fault`: what a broken connection means;
//! - [`settings`]: the configuration.
//!
//! The connections are h2's own, without hyper's client on top: the pool has
//! to see the stream limit and a GOAWAY when they arrive and not with the next
//! request, to send a PING when it doubts, and to tell a refused stream from a
//! reset one. hyper keeps all of this behind a task of its own.

pub mod answer;
pub mod certificate;
pub mod client;
mod connect;
mod connection;
pub mod credentials;
mod exact;
mod fault;
mod gauge;
mod link;
mod pool;
pub mod reason;
mod request;
pub mod settings;
pub mod signer;
mod supervisor;
#[cfg(test)]
mod testing;
mod watched;

pub use client::{Client, ClientError, Options};
pub use connect::Timings;
pub use connection::Liveness;
pub use credentials::{CredentialError, Credentials};
pub use exact::exact_request;
pub use pool::{Status, Tuning};
pub use settings::{AppSettings, Endpoint, Settings};
pub use signer::Signers;
