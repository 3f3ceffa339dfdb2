//! Which messages wait for nothing but the confirms of their reports, and
//! which of them give up first.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// How long no message may have left the line before it counts as standing
/// still. A busy broker confirms late, but it confirms all the time.
const STILL: Duration = Duration::from_secs(1);

/// How long the oldest may wait in a line that is too long, even if it moves.
const PATIENCE: Duration = Duration::from_secs(3);

/// The messages of one platform's queue that wait for confirms, oldest first.
/// Rings come before reports: when more than `limit` wait and the line stands
/// still, or hardly moves, the oldest are told to give up what they can.
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
    /// When a message last left because its reports were confirmed.
    moved: Option<Instant>,
}

#[derive(Debug)]
struct Place {
    give_up: oneshot::Sender<()>,
    essential: bool,
    since: Instant,
}

impl Waiting {
    /// Whether the oldest has waited long enough for nothing.
    fn is_hopeless(&self, now: Instant) -> bool {
        let Some((_, oldest)) = self.patient.first_key_value() else {
            return false;
        };
        let moved = self.moved.map_or(oldest.since, |at| at.max(oldest.since));
        now.duration_since(moved) >= STILL || now.duration_since(oldest.since) >= PATIENCE
    }
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
            since: Instant::now(),
        };
        waiting.patient.insert(number, place);
        drop(waiting);
        self.review();
        Ticket {
            line: self,
            number,
            give_up,
        }
    }

    /// Tells the oldest to give up as long as there are too many of them.
    fn review(&self) {
        let mut waiting = self.lock();
        let now = Instant::now();
        while waiting.patient.len() + waiting.stuck.len() > self.limit && waiting.is_hopeless(now) {
            let Some((number, oldest)) = waiting.patient.pop_first() else {
                break;
            };
            if oldest.essential {
                waiting.stuck.insert(number);
            }
            let _ = oldest.give_up.send(());
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
        loop {
            tokio::select! {
                biased;
                told = &mut self.give_up => match told {
                    Ok(()) => return,
                    Err(_) => std::future::pending().await,
                },
                // Nobody may join any more, and time passes all the same.
                () = sleep(STILL / 2) => self.line.review(),
            }
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut waiting = self.line.lock();
        if waiting.patient.remove(&self.number).is_some() {
            waiting.moved = Some(Instant::now());
        }
        waiting.stuck.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures_util::FutureExt as _;
    use tokio::time::advance;

    use super::*;

    fn told(ticket: &mut Ticket<'_>) -> bool {
        ticket.give_up().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_give_up_when_the_line_is_too_long_and_stands_still() {
        let line = Line::new(2);
        let mut first = line.join(false);
        let mut second = line.join(true);
        let mut third = line.join(false);
        assert!(!told(&mut first), "it has only just become too long");
        advance(STILL).await;
        let mut fourth = line.join(false);
        assert!(told(&mut first) && told(&mut second));
        assert!(
            told(&mut third),
            "the second still takes up a place, for its token event"
        );
        assert!(!told(&mut fourth));
    }

    #[tokio::test(start_paused = true)]
    async fn two_may_wait_for_ever() {
        let line = Line::new(2);
        let (mut first, mut second) = (line.join(false), line.join(false));
        advance(PATIENCE * 10).await;
        line.review();
        assert!(!told(&mut first) && !told(&mut second));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_gives_up_while_a_busy_broker_confirms() {
        let line = Line::new(2);
        let mut tickets: VecDeque<_> = (0..10).map(|_| line.join(false)).collect();
        for _ in 0..20 {
            advance(STILL / 4).await;
            drop(tickets.pop_front());
            tickets.push_back(line.join(false));
            assert!(!tickets.iter_mut().any(told));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_hardly_moves_is_given_up_as_well() {
        let line = Line::new(2);
        let mut tickets: VecDeque<_> = (0..10).map(|_| line.join(false)).collect();
        for _ in 0..7 {
            advance(PATIENCE / 7 + Duration::from_millis(1)).await;
            drop(tickets.pop_back());
        }
        line.review();
        assert!(told(&mut tickets[0]) && !told(&mut tickets[1]));
    }

    #[tokio::test(start_paused = true)]
    async fn time_alone_is_enough() {
        let line = Line::new(1);
        let mut first = line.join(false);
        let _second = line.join(false);
        tokio::time::timeout(STILL * 3, first.give_up())
            .await
            .expect("told");
    }
}
