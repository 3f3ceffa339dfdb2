//! Which messages wait for nothing but the confirms of their reports, and
//! which of them give up first.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The messages of one platform's queue that wait for confirms, oldest first.
/// Rings come before reports: when more than `limit` wait, the oldest are told
/// to give up what they can.
#[derive(Debug)]
pub(crate) struct Line {
    limit: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    patient: BTreeMap<u64, Place>,
    /// Told to give up, and still waiting for what may not be given up.
    stuck: HashSet<u64>,
}

#[derive(Debug)]
struct Place {
    give_up: oneshot::Sender<()>,
    essential: bool,
}

impl Line {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            waiting: Mutex::default(),
        }
    }

    /// Joins at the end of the line; with `essential`, something is waited for
    /// that may not be given up.
    pub(crate) fn join(&self, essential: bool) -> Ticket<'_> {
        let (sender, give_up) = oneshot::channel();
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next += 1;
        let place = Place {
            give_up: sender,
            essential,
        };
        waiting.patient.insert(number, place);
        while waiting.patient.len() + waiting.stuck.len() > self.limit {
            let Some((number, oldest)) = waiting.patient.pop_first() else {
                break;
            };
            if oldest.essential {
                waiting.stuck.insert(number);
            }
            let _ = oldest.give_up.send(());
        }
        drop(waiting);
        Ticket {
            line: self,
            number,
            give_up,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    line: &'a Line,
    number: u64,
    give_up: oneshot::Receiver<()>,
}

impl Ticket<'_> {
    /// Resolves when it is this message's turn to give up.
    pub(crate) async fn give_up(&mut self) {
        if (&mut self.give_up).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut waiting = self.line.lock();
        waiting.patient.remove(&self.number);
        waiting.stuck.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn told(ticket: &mut Ticket<'_>) -> bool {
        ticket.give_up().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_give_up_when_the_line_is_too_long() {
        let line = Line::new(2);
        let mut first = line.join(false);
        let mut second = line.join(true);
        assert!(!told(&mut first), "two may wait");
        let mut third = line.join(false);
        assert!(told(&mut first), "the oldest gives up");
        assert!(!told(&mut second) && !told(&mut third));
        let mut fourth = line.join(false);
        assert!(told(&mut second));
        assert!(
            told(&mut third),
            "the second still takes up a place, for its token event"
        );
        assert!(!told(&mut fourth));
    }

    #[test]
    fn those_who_leave_make_room() {
        let line = Line::new(2);
        let first = line.join(true);
        let mut second = line.join(true);
        drop(first);
        let _third = line.join(true);
        assert!(!told(&mut second));
        let fourth = line.join(true);
        assert!(told(&mut second));
        drop(second);
        drop(fourth);
        let left = line.lock();
        assert!(left.stuck.len() + left.patient.len() <= 1, "{left:?}");
    }
}
