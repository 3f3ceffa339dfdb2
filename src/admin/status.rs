//! What the pages ask the worker, and how it is, as plain data.

use std::time::Duration;

use crate::amqp::BrokerState;
use crate::call::time::Timestamp;
use crate::engine::history::History;

/// What the pages ask the worker.
pub trait Insight: Send + Sync + 'static {
    /// Why it is not ready, sentence by sentence; and whether it is all the same.
    fn readiness(&self) -> Readiness;
    /// All metrics in Prometheus' text format (`OpenMetrics`).
    fn metrics(&self) -> String;
    /// Broker and lanes.
    fn status(&self) -> Status;
    /// The last pushes.
    fn history(&self) -> &History;
}

/// Whether rings get through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The broker is there and at least one lane can send.
    pub ready: bool,
    /// What is not in order.
    pub problems: Vec<String>,
}

/// Everything on the status page but the pushes.
#[derive(Clone, Debug)]
pub struct Status {
    /// When the worker started.
    pub started: Timestamp,
    /// When this was true.
    pub now: Timestamp,
    /// Messages taken and not yet settled.
    pub under_way: usize,
    /// Reports given up so that rings could go on.
    pub reports_lost: u64,
    /// The broker; none with `run --stdin`.
    pub broker: Option<BrokerState>,
    /// All lanes of the configuration.
    pub lanes: Vec<Lane>,
}

/// One lane.
#[derive(Clone, Debug)]
pub struct Lane {
    /// A configured app.
    pub app: String,
    /// `ios` or `android`.
    pub platform: &'static str,
    /// `production`, `sandbox`; empty on Android.
    pub environment: &'static str,
    /// For how long it has been paused, and the answer that paused it.
    pub paused: Option<(Duration, Option<String>)>,
    /// Why it could not send a push now.
    pub why_not_ready: Option<String>,
    /// Requests under way.
    pub in_flight: i64,
    /// Pushes that wait for a permit or for their next attempt.
    pub waiting: i64,
    /// Its connections.
    pub connections: Connections,
    /// What it shows to the provider.
    pub credential: Credential,
    /// Whether its token verdicts are held back.
    pub brake: bool,
    /// What its last canary said.
    pub canary: Option<Canary>,
}

/// A proof of a lane's credential that took no phone.
#[derive(Clone, Debug)]
pub struct Canary {
    /// How long ago.
    pub age: Duration,
    /// The provider's word if the credential was refused.
    pub refused: Option<String>,
}

/// The connections of a lane by their state.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    /// As many as are to be open; none before the lane's first push if its
    /// environment is not the app's own.
    pub wanted: usize,
    /// Up and proven.
    pub ready: usize,
    /// Up, but owing an answer.
    pub suspect: usize,
    /// Being opened, or not yet proven.
    pub connecting: usize,
    /// Why the last one failed.
    pub error: Option<String>,
}

impl Credential {
    /// Until when it is valid, if it has an end.
    #[must_use]
    pub const fn expires(&self) -> Option<Timestamp> {
        match self {
            Self::Key { .. } => None,
            Self::Certificate { expires } => Some(*expires),
            Self::AccessToken { expires, .. } => *expires,
        }
    }
}

/// A credential and how long it is good for.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A signing key, and the age of its current token.
    Key {
        /// The key's id.
        id: String,
        /// Of the token.
        age: Duration,
    },
    /// A client certificate.
    Certificate {
        /// Until when it is valid.
        expires: Timestamp,
    },
    /// An OAuth access token.
    AccessToken {
        /// Until when it is valid; none if there is no token.
        expires: Option<Timestamp>,
        /// What keeps OAuth from giving one.
        trouble: Option<String>,
    },
}
