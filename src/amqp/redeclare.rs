//! Exchanges and queues that somebody deleted while the worker runs.
//!
//! A message that no queue takes is how it is noticed. What is published to an
//! exchange that is gone ends its channel, and with that the session: the next
//! one declares everything anyway. So does a queue that is consumed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use lapin::Connection;
use lapin::types::ShortString;
use tokio::time::Instant;
use tracing::warn;

use super::complaint::Complaint;
use super::error::AmqpError;
use super::topology::Topology;

/// Everything is declared again at most once in this time; who asks again
/// sooner had better try again first.
const DECLARE_EVERY: Duration = Duration::from_secs(1);
/// At most one line in this time about what cannot be mended.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Declaring everything again: whether another attempt at the message makes
/// sense then.
pub(crate) type Declaring = Shared<BoxFuture<'static, bool>>;

/// Has everything declared again, once for all who ask at a time.
pub(crate) struct Redeclare {
    topology: Topology,
    connection: Arc<Connection>,
    last: Mutex<Option<(Instant, Declaring)>>,
    complaint: Arc<Mutex<Complaint>>,
}

impl Redeclare {
    pub(crate) fn new(topology: Topology, connection: Arc<Connection>) -> Self {
        Self {
            topology,
            connection,
            last: Mutex::default(),
            complaint: Arc::new(Mutex::new(Complaint::every(COMPLAIN_EVERY))),
        }
    }

    /// Declares everything for a message that found no queue there. A
    /// declaration that fails ends nothing: rings come before reports and dead
    /// letters.
    pub(crate) fn again(&self, exchange: &ShortString, key: &ShortString) -> Declaring {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, declaring)) = &*last
            && (declaring.peek().is_none() || at.elapsed() < DECLARE_EVERY)
        {
            return declaring.clone();
        }
        let declaring = declare(
            self.topology.clone(),
            Arc::clone(&self.connection),
            (exchange.to_string(), key.to_string()),
            Arc::clone(&self.complaint),
        );
        let declaring = declaring.boxed().shared();
        *last = Some((Instant::now(), declaring.clone()));
        declaring
    }
}

async fn declare(
    topology: Topology,
    connection: Arc<Connection>,
    (exchange, key): (String, String),
    complaint: Arc<Mutex<Complaint>>,
) -> bool {
    let failure = if topology.declares() {
        warn!(
            exchange,
            key,
            "a message found no queue: it was deleted, or its binding was; declaring everything again"
        );
        topology.ensure(&connection).await.err()
    } else {
        Some(AmqpError::Missing {
            what: format!("a queue for exchange {exchange:?}, key {key:?},"),
            reason: "a message was returned".to_owned(),
        })
    };
    if let Some(error) = &failure {
        let mut complaint = complaint.lock().unwrap_or_else(PoisonError::into_inner);
        if complaint.is_due() {
            warn!(%error, "a message finds no queue; it is tried again and again, and rings go on");
        }
    }
    failure.is_none()
}
