//! Which messages wait for nothing but the confirms of their reports, and
//! which of them give up first.

use std::collections::BTreeMap;
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
    patient: BTreeMap<u64, oneshot::Sender<()>>,
    /// Told to give up, and still waiting for what may not be given up.
    stuck: usize,
}

impl Line {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            waiting: Mutex::default(),
        }
    }

    /// Joins at the end of the line.
    pub(crate) fn join(&self) -> Ticket<'_> {
        let (sender, give_up) = oneshot::channel();
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.patient.insert(number, sender);
        while waiting.patient.len() + waiting.stuck > self.limit {
            let Some((_, oldest)) = waiting.patient.pop_first() else {
                break;
            };
            waiting.stuck += 1;
            let _ = oldest.send(());
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
        if waiting.patient.remove(&self.number).is_none() {
            waiting.stuck -= 1;
        }
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
        let mut first = line.join();
        let mut second = line.join();
        assert!(!told(&mut first), "two may wait");
        let mut third = line.join();
        assert!(told(&mut first), "the oldest gives up");
        assert!(!told(&mut second));
        // The first still waits for its token event and takes up a place.
        let _fourth = line.join();
        assert!(told(&mut second));
        assert!(told(&mut third));
    }

    #[test]
    fn those_who_leave_make_room() {
        let line = Line::new(2);
        let first = line.join();
        let mut second = line.join();
        drop(first);
        let _third = line.join();
        assert!(!told(&mut second));
        let fourth = line.join();
        assert!(told(&mut second));
        drop(second);
        drop(fourth);
        assert_eq!(line.lock().stuck, 0);
        assert_eq!(line.lock().patient.len(), 1);
    }
}
