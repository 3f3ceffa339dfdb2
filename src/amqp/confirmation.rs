//! What the broker has confirmed.
//!
//! The broker returns an unroutable message before it confirms it, but lapin
//! hands the return to whichever confirm it resolves next, and resolves the
//! confirms of one batch in no particular order. So a return is matched by what
//! the message is, and a confirmed message is believed only when every message
//! published before its confirm was seen is resolved too: one of these may hold
//! its return.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use super::message::Identity;

/// What the broker says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirmation {
    /// It has it.
    Confirmed,
    /// It would not have it.
    Refused,
    /// No queue takes it (mandatory messages only).
    Returned,
}

/// A message that waits for its confirm.
#[derive(Debug)]
struct Open<T> {
    item: T,
    /// Of mandatory messages only; others are never returned.
    identity: Option<Identity>,
    since: Instant,
}

/// A mandatory message that was confirmed and not yet believed.
#[derive(Debug)]
struct Held<T> {
    item: T,
    number: u64,
    identity: Identity,
    /// Believed when all before this are resolved.
    until: u64,
}

/// The messages published on one channel, each with what its publisher knows it
/// by.
#[derive(Debug)]
pub(crate) struct Ledger<T> {
    /// The number of the first in `open`, which always begins with a message
    /// that is not resolved.
    first: u64,
    open: VecDeque<Option<Open<T>>>,
    held: VecDeque<Held<T>>,
    /// What was returned, and the number of the first message that was
    /// published after that was seen: it and those behind it are not meant.
    returned: HashMap<Identity, u64>,
    told: VecDeque<(T, Confirmation)>,
    /// Messages of which nothing was told.
    outstanding: usize,
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self {
            first: 0,
            open: VecDeque::new(),
            held: VecDeque::new(),
            returned: HashMap::new(),
            told: VecDeque::new(),
            outstanding: 0,
        }
    }
}

impl<T> Ledger<T> {
    /// The number that the next message gets.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.open.len() as u64
    }

    /// Enters a message that is being published, and numbers it.
    pub(crate) fn enter(&mut self, item: T, identity: Option<Identity>) -> u64 {
        let number = self.next();
        self.outstanding += 1;
        self.open.push_back(Some(Open {
            item,
            identity,
            since: Instant::now(),
        }));
        number
    }

    /// Takes down what a confirm said, and the return that came with it, of
    /// whichever message that is.
    pub(crate) fn resolve(&mut self, number: u64, acked: bool, returned: Option<Identity>) {
        let until = self.next();
        self.returned.extend(returned.map(|of| (of, until)));
        let index = number.checked_sub(self.first);
        let index = index.and_then(|index| usize::try_from(index).ok());
        let open = index.and_then(|index| self.open.get_mut(index)?.take());
        while let Some(None) = self.open.front() {
            self.open.pop_front();
            self.first += 1;
        }
        let Some(Open { item, identity, .. }) = open else {
            return;
        };
        match identity {
            Some(_) | None if !acked => self.told.push_back((item, Confirmation::Refused)),
            None => self.told.push_back((item, Confirmation::Confirmed)),
            Some(identity) => self.held.push_back(Held {
                item,
                number,
                identity,
                until,
            }),
        }
    }

    /// The next message of which it is certain what the broker says.
    pub(crate) fn pop(&mut self) -> Option<(T, Confirmation)> {
        self.believe();
        let told = self.told.pop_front()?;
        self.outstanding -= 1;
        Some(told)
    }

    fn believe(&mut self) {
        let resolved = if self.open.is_empty() {
            u64::MAX
        } else {
            self.first
        };
        while self.held.front().is_some_and(|held| held.until <= resolved)
            && let Some(held) = self.held.pop_front()
        {
            let returned = self.returned.get(&held.identity);
            let confirmation = if returned.is_some_and(|next| held.number < *next) {
                Confirmation::Returned
            } else {
                Confirmation::Confirmed
            };
            self.told.push_back((held.item, confirmation));
        }
        if !self.returned.is_empty() && self.held.is_empty() {
            let mut open = self.open.iter().flatten();
            if !open.any(|open| open.identity.is_some()) {
                self.returned.clear();
            }
        }
    }

    /// Messages of which nothing was told.
    pub(crate) const fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Since when the oldest message waits for its confirm.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.open.front()?.as_ref().map(|open| open.since)
    }

    /// The messages of which nothing was told.
    pub(crate) fn items_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let open = self.open.iter_mut().flatten().map(|open| &mut open.item);
        open.chain(self.held.iter_mut().map(|held| &mut held.item))
            .chain(self.told.iter_mut().map(|(item, _)| item))
    }

    /// The same for good.
    pub(crate) fn into_items(self) -> impl Iterator<Item = T> {
        let open = self.open.into_iter().flatten().map(|open| open.item);
        open.chain(self.held.into_iter().map(|held| held.item))
            .chain(self.told.into_iter().map(|(item, _)| item))
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;
    use lapin::types::FieldTable;

    use super::super::wire::text;
    use super::Confirmation::{Confirmed, Refused, Returned};
    use super::*;

    fn identity(id: &str) -> Identity {
        let properties = BasicProperties::default().with_message_id(id.into());
        Identity::of(&"".into(), &"q".into(), &properties)
    }

    /// Enters a message under a name, as mandatory if it is to be returned.
    fn enter(ledger: &mut Ledger<&'static str>, name: &'static str, mandatory: bool) -> u64 {
        ledger.enter(name, mandatory.then(|| identity(name)))
    }

    fn all(ledger: &mut Ledger<&'static str>) -> Vec<(&'static str, Confirmation)> {
        std::iter::from_fn(|| ledger.pop()).collect()
    }

    #[test]
    fn a_return_that_came_with_another_confirm_finds_its_message() {
        let mut ledger = Ledger::default();
        let lost = enter(&mut ledger, "lost", true);
        let fine = enter(&mut ledger, "fine", false);
        ledger.resolve(fine, true, Some(identity("lost")));
        ledger.resolve(lost, true, None);
        assert_eq!(all(&mut ledger), [("fine", Confirmed), ("lost", Returned)]);
    }

    #[test]
    fn a_confirm_is_not_believed_before_its_return_could_have_come() {
        let mut ledger = Ledger::default();
        let first = enter(&mut ledger, "first", true);
        let second = enter(&mut ledger, "second", true);
        let other = enter(&mut ledger, "other", false);
        // One batch, resolved in an order of lapin's own: the second carries
        // the first's return, and the other one the second's.
        ledger.resolve(second, true, Some(identity("first")));
        assert_eq!(ledger.pop(), None, "its own return may still come");
        ledger.resolve(other, true, Some(identity("second")));
        ledger.resolve(first, true, None);
        let told = all(&mut ledger);
        for expected in [
            ("second", Returned),
            ("first", Returned),
            ("other", Confirmed),
        ] {
            assert!(told.contains(&expected), "{told:?}");
        }
        assert_eq!(ledger.outstanding(), 0);
        assert!(ledger.returned.is_empty(), "nothing is kept for ever");
    }

    #[test]
    fn what_is_published_later_does_not_hold_up_what_was_confirmed() {
        let mut ledger = Ledger::default();
        let first = enter(&mut ledger, "first", true);
        ledger.resolve(first, true, None);
        let _later = enter(&mut ledger, "later", true);
        assert_eq!(ledger.pop(), Some(("first", Confirmed)));
        assert_eq!(ledger.pop(), None);
        assert_eq!(ledger.outstanding(), 1);
        let left: Vec<_> = ledger.into_items().collect();
        assert_eq!(left, ["later"]);
    }

    #[test]
    fn the_same_message_published_again_is_not_taken_for_returned() {
        let mut ledger = Ledger::default();
        let first = enter(&mut ledger, "m", true);
        ledger.resolve(first, true, Some(identity("m")));
        let other = enter(&mut ledger, "other", true);
        assert_eq!(ledger.pop(), Some(("m", Returned)));
        let again = enter(&mut ledger, "m", true);
        ledger.resolve(again, true, None);
        ledger.resolve(other, true, None);
        assert_eq!(all(&mut ledger), [("m", Confirmed), ("other", Confirmed)]);
    }

    #[test]
    fn a_refused_message_is_told_at_once() {
        let mut ledger = Ledger::default();
        let _open = enter(&mut ledger, "open", true);
        let refused = enter(&mut ledger, "refused", true);
        let later = enter(&mut ledger, "later", false);
        ledger.resolve(refused, false, None);
        assert_eq!(ledger.pop(), Some(("refused", Refused)));
        // A message in the middle is resolved once.
        ledger.resolve(refused, true, None);
        ledger.resolve(later, true, None);
        assert_eq!(all(&mut ledger), [("later", Confirmed)]);
        assert_eq!(ledger.items_mut().count(), 1);
    }

    #[test]
    fn the_parts_of_an_event_are_told_apart() {
        let part = |number: &str| {
            let mut headers = FieldTable::default();
            headers.insert("x-part".into(), text(number));
            let properties = BasicProperties::default()
                .with_message_id("m".into())
                .with_headers(headers);
            Some(Identity::of(&"".into(), &"q".into(), &properties))
        };
        let mut ledger = Ledger::default();
        let one = ledger.enter("one", part("1/2"));
        let two = ledger.enter("two", part("2/2"));
        ledger.resolve(one, true, part("2/2"));
        ledger.resolve(two, true, None);
        assert_eq!(all(&mut ledger), [("one", Confirmed), ("two", Returned)]);
    }
}
