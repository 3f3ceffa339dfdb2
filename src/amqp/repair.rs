//! Exchanges and queues that somebody deleted while the worker runs.
//!
//! A message that no queue takes is how it is noticed. What is published to an
//! exchange that is gone ends its channel, and with that the session: the next
//! one declares everything anyway. So does a queue that is consumed.

use std::convert::Infallible;
use std::time::Duration;

use lapin::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::warn;

use super::AmqpError;
use super::complaint::Complaint;
use super::topology::Topology;

/// Everything is declared again at most once in this time; who asks again
/// sooner had better try again first.
const DECLARE_EVERY: Duration = Duration::from_secs(1);
/// At most one line in this time about what cannot be mended.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// Requests that wait, at most. More only means that one has to wait to wait.
const QUEUE: usize = 64;

/// Where a message was published to that no queue took.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) exchange: String,
    pub(crate) key: String,
}

type Request = (Lost, oneshot::Sender<bool>);

/// Asks for what is missing to be declared again. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Repairs(mpsc::Sender<Request>);

impl Repairs {
    /// The seam and the shop behind it, which a session serves.
    pub(crate) fn new() -> (Self, RepairShop) {
        let (sender, requests) = mpsc::channel(QUEUE);
        (Self(sender), RepairShop(requests))
    }

    /// Has everything declared again, and says whether another attempt at the
    /// message makes sense now.
    pub(crate) async fn of(&self, lost: Lost) -> bool {
        let (done, repaired) = oneshot::channel();
        if self.0.send((lost, done)).await.is_err() {
            return false;
        }
        repaired.await.unwrap_or(false)
    }

    /// Has everything declared again, and waits for nothing. If too many ask
    /// already, one of them has it done.
    pub(crate) fn ask(&self, lost: Lost) {
        let (done, _) = oneshot::channel();
        let _ = self.0.try_send((lost, done));
    }
}

/// The requests of a session.
pub(crate) struct RepairShop(mpsc::Receiver<Request>);

impl RepairShop {
    /// Declares what is asked for. A declaration that fails ends nothing: rings
    /// come before reports and dead letters.
    pub(crate) async fn serve(
        mut self,
        topology: &Topology,
        connection: &Connection,
    ) -> Infallible {
        let mut last: Option<(Instant, bool)> = None;
        let mut complaint = Complaint::every(COMPLAIN_EVERY);
        while let Some((lost, done)) = self.0.recv().await {
            let recent = last.filter(|(at, _)| at.elapsed() < DECLARE_EVERY);
            let repaired = match recent {
                Some((_, repaired)) => repaired,
                None => repair(&lost, topology, connection, &mut complaint).await,
            };
            if recent.is_none() {
                last = Some((Instant::now(), repaired));
            }
            // Whoever asked may have gone away.
            let _ = done.send(repaired);
        }
        std::future::pending().await
    }
}

async fn repair(
    lost: &Lost,
    topology: &Topology,
    connection: &Connection,
    complaint: &mut Complaint,
) -> bool {
    let failure = if topology.declares() {
        warn!(
            exchange = lost.exchange,
            key = lost.key,
            "a message found no queue: it was deleted, or its binding was; declaring everything again"
        );
        topology.ensure(connection).await.err()
    } else {
        Some(AmqpError::Missing {
            what: format!(
                "a queue for exchange {:?}, key {:?},",
                lost.exchange, lost.key
            ),
            reason: "a message was returned".to_owned(),
        })
    };
    if let Some(error) = &failure
        && complaint.is_due()
    {
        warn!(%error, "a message finds no queue; it is tried again and again, and rings go on");
    }
    failure.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_asks_waits_for_nobody_however_many_ask() {
        let (repairs, mut shop) = Repairs::new();
        let lost = |key: usize| Lost {
            exchange: "e".to_owned(),
            key: key.to_string(),
        };
        // Nobody serves them.
        for key in 0..2 * QUEUE {
            repairs.ask(lost(key));
        }
        let mut asked = 0;
        while let Ok((lost, done)) = shop.0.try_recv() {
            assert_eq!(lost.key, asked.to_string());
            assert!(done.is_closed(), "the answer is for nobody");
            asked += 1;
        }
        assert_eq!(asked, QUEUE);
        drop(shop);
        repairs.ask(lost(0));
    }
}
