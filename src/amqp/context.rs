//! What the broker's side of a worker is made of, from start to end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::dispatch::Dispatcher;
use crate::metrics::Metrics;

use super::complaint::Complaint;
use super::connect::Connector;
use super::topology::Topology;

/// How it stands with the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerState {
    /// Both connections are there and events are being taken.
    pub connected: bool,
    /// Why the broker takes no publishes, while it does not.
    pub blocked: Option<String>,
    /// Why there is no session, while there is none.
    pub error: Option<String>,
}

/// What outlives a session, shared by all its parts.
pub(crate) struct Context {
    pub(crate) connector: Connector,
    pub(crate) topology: Topology,
    /// Messages taken from each queue and not yet settled, at most.
    pub(crate) prefetch: u16,
    /// The longest life of a ring.
    pub(crate) ring_window: Duration,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) metrics: Metrics,
    /// A token for each message under way.
    pub(crate) messages: TaskTracker,
    /// The intakes of all sessions, which end when they have settled what they
    /// took.
    pub(crate) intakes: TaskTracker,
    /// Take no more.
    pub(crate) stop: CancellationToken,
    /// Stop what is under way.
    pub(crate) abandon: CancellationToken,
    /// Leave the broker.
    pub(crate) end: CancellationToken,
    pub(crate) state: watch::Sender<BrokerState>,
    /// How far the stream of cancels was read, and when.
    pub(crate) cancels_read: Mutex<Option<(u64, Instant)>>,
    /// The line about parts that their queue does not take.
    pub(crate) parts_refused: Mutex<Complaint>,
}

impl Context {
    /// Whether it is time to say that a queue takes no parts of events.
    pub(crate) fn complain_of_parts(&self) -> bool {
        let complaint = self.parts_refused.lock();
        complaint.unwrap_or_else(PoisonError::into_inner).is_due()
    }

    /// Says that there is no session, and why.
    pub(crate) fn set_away(&self, error: String) {
        self.metrics.broker_connected.set(0);
        self.state.send_replace(BrokerState {
            connected: false,
            blocked: None,
            error: Some(error),
        });
    }

    /// Says that there is one, as long as the answer lives: whatever ends it,
    /// nobody is told that a worker without a session is connected.
    pub(crate) fn set_connected(&self) -> Connected<'_> {
        self.metrics.broker_connected.set(1);
        self.state.send_modify(|state| {
            state.connected = true;
            state.error = None;
        });
        Connected(self)
    }
}

/// There is a session.
pub(crate) struct Connected<'a>(&'a Context);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.set_away("the session has ended".to_owned());
    }
}
