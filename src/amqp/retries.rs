//! Reports that were refused or returned and wait for their next attempt, and
//! the bound on those that no message waits for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::complaint::Complaint;
use super::reports::Item;

/// How long a report that was refused or returned first waits for its next
/// attempt; doubled each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Between two looks for those whose time has come.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Bytes of token events that no message waits for, at most.
const MEMORY: usize = 64 << 20;
/// At most one line about token events that are not taken in this time.
const REFUSED_EVERY: Duration = Duration::from_secs(60);

/// A report that waits for its next attempt.
#[derive(Debug)]
struct Retry {
    due: Instant,
    /// No queue took it, which may be mended sooner.
    returned: bool,
    item: Item,
}

/// The reports that wait for their next attempt.
#[derive(Debug)]
pub(crate) struct Retries {
    /// Oldest first.
    waiting: BTreeMap<u64, Retry>,
    next_look: Instant,
    /// Bytes of token events that no message waits for, wherever they are.
    kept: usize,
    kept_max: usize,
    refused: Complaint,
}

impl Retries {
    pub(crate) fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            next_look: Instant::now(),
            kept: 0,
            kept_max: MEMORY,
            refused: Complaint::every(REFUSED_EVERY),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When to ask for [`Retries::due`] again.
    pub(crate) const fn next_look(&self) -> Instant {
        self.next_look
    }

    /// A report is to be published again later. How many older ones were
    /// dropped for it.
    pub(crate) fn add(&mut self, mut item: Item, returned: bool) -> u64 {
        if item.token {
            // It shares its message's fate no longer.
            self.kept += item.detach();
            if self.refused.is_due() {
                warn!(
                    key = item.key(),
                    kept_bytes = self.kept,
                    "a token event was not taken by every queue, or by none; such are kept and tried again, \
                     and rings go on"
                );
            }
        }
        item.wait = (item.wait * 2).clamp(RETRY_FIRST, RETRY_MAX);
        let due = Instant::now() + item.wait;
        let retry = Retry {
            due,
            returned,
            item,
        };
        self.waiting.insert(retry.item.number, retry);
        self.drop_oldest()
    }

    /// So many bytes more of token events are kept that no message waits for,
    /// in here or among those not published yet. How many were dropped for them.
    pub(crate) fn keep(&mut self, bytes: usize, unpublished: &mut VecDeque<Item>) -> u64 {
        self.kept += bytes;
        let mut dropped = self.drop_oldest();
        while self.kept > self.kept_max {
            let mut items = unpublished.iter();
            let oldest = items.position(|item| item.token && item.receipt.is_none());
            let Some(item) = oldest.and_then(|at| unpublished.remove(at)) else {
                break;
            };
            self.kept -= item.size();
            dropped += 1;
        }
        dropped
    }

    /// The broker has it.
    pub(crate) fn confirmed(&mut self, item: Item) {
        match item.receipt {
            Some(receipt) => receipt.safe(),
            None if item.token => self.kept -= item.size(),
            None => {}
        }
    }

    /// Drops the oldest token events that no message waits for while they are
    /// too many.
    fn drop_oldest(&mut self) -> u64 {
        let mut dropped = 0;
        while self.kept > self.kept_max {
            let mut waiting = self.waiting.iter();
            let oldest = waiting.find(|(_, retry)| retry.item.receipt.is_none());
            let Some(oldest) = oldest.map(|(number, _)| *number) else {
                break;
            };
            if let Some(retry) = self.waiting.remove(&oldest) {
                self.kept -= retry.item.size();
                dropped += 1;
            }
        }
        dropped
    }

    /// What no queue took is due now.
    pub(crate) fn hurry(&mut self) {
        let now = Instant::now();
        let returned = self.waiting.values_mut().filter(|retry| retry.returned);
        returned.for_each(|retry| retry.due = now);
        self.next_look = now;
    }

    /// Those whose time has come.
    pub(crate) fn due(&mut self) -> Vec<Item> {
        let now = Instant::now();
        if now < self.next_look {
            return Vec::new();
        }
        self.next_look = now + RETRY_EVERY;
        let due = self.waiting.iter().filter(|(_, retry)| retry.due <= now);
        let due: Vec<_> = due.map(|(number, _)| *number).collect();
        let due = due.iter().filter_map(|number| self.waiting.remove(number));
        due.map(|retry| retry.item).collect()
    }

    pub(crate) fn items_mut(&mut self) -> impl Iterator<Item = &mut Item> {
        self.waiting.values_mut().map(|retry| &mut retry.item)
    }

    /// Drops those that nobody wants published any more.
    pub(crate) fn drop_unwanted(&mut self) {
        self.waiting.retain(|_, retry| !retry.item.is_unwanted());
    }

    /// How many of them are token events.
    pub(crate) fn tokens(&self) -> usize {
        let waiting = self.waiting.values();
        waiting.filter(|retry| retry.item.token).count()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::super::reports::tests::item;
    use super::*;
    use crate::call::receipt::Receipts;

    /// A token event whose message waits for it.
    fn token_event(number: u64, receipts: &Receipts) -> Item {
        let mut item = item(true, receipts);
        item.number = number;
        item
    }

    #[tokio::test(start_paused = true)]
    async fn no_message_waits_for_a_token_event_that_is_refused_and_its_waits_grow() {
        let mut retries = Retries::new();
        let receipts = Receipts::default();
        let began = Instant::now();
        let item = token_event(0, &receipts);
        let size = item.size();
        retries.add(item, false);
        assert!(receipts.all_safe());
        let mut attempts = Vec::new();
        while attempts.len() < 12 {
            advance(Duration::from_millis(100)).await;
            if let Some(item) = retries.due().pop() {
                attempts.push(began.elapsed().as_secs());
                retries.add(item, false);
            }
        }
        assert_eq!(retries.kept, size, "it is counted once");
        let waits: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(attempts[0], 1);
        for (wait, expected) in waits
            .iter()
            .zip([2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300])
        {
            assert!(wait.abs_diff(expected) <= 2, "{waits:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_queue_took_is_due_at_once_when_told_to_hurry() {
        let mut retries = Retries::new();
        let receipts = Receipts::default();
        retries.add(token_event(0, &receipts), false);
        retries.add(token_event(1, &receipts), true);
        retries.due();
        retries.hurry();
        let due: Vec<_> = retries.due().iter().map(|item| item.number).collect();
        assert_eq!(due, [1], "the one that was returned");
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_token_events_are_dropped_when_they_are_too_many() {
        let mut retries = Retries::new();
        let receipts = Receipts::default();
        assert_eq!(retries.add(item(false, &receipts), false), 0);
        let size = token_event(0, &receipts).size();
        retries.kept_max = 3 * size;
        let dropped = (1..=5).map(|number| retries.add(token_event(number, &receipts), false));
        assert_eq!(dropped.sum::<u64>(), 2);
        assert_eq!(retries.kept, 3 * size);
        let left: Vec<_> = retries.waiting.keys().copied().collect();
        assert_eq!(left, [0, 3, 4, 5], "a message still waits for the first");
        assert_eq!(retries.tokens(), 3);
    }

    /// As when the broker blocks publishing for hours.
    #[tokio::test(start_paused = true)]
    async fn those_not_published_yet_are_dropped_as_well() {
        let mut retries = Retries::new();
        let receipts = Receipts::default();
        let mut items: VecDeque<_> = (0..5).map(|n| token_event(n, &receipts)).collect();
        retries.kept_max = 2 * items[0].size();
        let detached = items.iter_mut().take(4).map(Item::detach).sum();
        assert_eq!(retries.keep(detached, &mut items), 2);
        let left: Vec<_> = items.iter().map(|item| item.number).collect();
        assert_eq!(left, [2, 3, 4], "a message still waits for the last");
        assert_eq!(retries.kept, retries.kept_max);
    }
}
