//! Which published messages are safe.
//!
//! The broker returns an unroutable message before it confirms it, but lapin
//! hands the return to whichever confirm it resolves next, and resolves the
//! confirms of one batch in no particular order. So a return is matched by what
//! the message is, and a confirmed message is believed only when every message
//! published before its confirm was seen is resolved too: one of these may hold
//! its return.

use std::collections::{BTreeMap, HashMap, VecDeque};

use lapin::BasicProperties;
use tokio::time::Instant;

use super::wire::text_of;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The broker has it.
    Confirmed,
    /// The broker would not have it.
    Refused,
    /// No queue takes it (mandatory messages only).
    Returned,
}

/// What a returned message is recognised by: where it was to go, its message
/// id, and its part, for the parts of an event share their id. Two messages can
/// be the same in all of these; then both count as returned, for a duplicate
/// does less harm than a loss.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mark {
    exchange: String,
    key: String,
    id: String,
    part: String,
}

impl Mark {
    pub(crate) fn of(exchange: &str, key: &str, properties: &BasicProperties) -> Self {
        let id = properties.message_id().as_ref();
        let headers = properties.headers().as_ref();
        let part = headers.and_then(|headers| text_of(headers.inner().get("x-part")?));
        Self {
            exchange: exchange.to_owned(),
            key: key.to_owned(),
            id: id.map(ToString::to_string).unwrap_or_default(),
            part: part.unwrap_or_default(),
        }
    }
}

/// A message that waits for its confirm.
#[derive(Debug)]
struct Open {
    /// Of mandatory messages only; others are never returned.
    mark: Option<Mark>,
    since: Instant,
}

/// A mandatory message that was confirmed and not yet believed.
#[derive(Debug)]
struct Held {
    seq: u64,
    mark: Mark,
    /// Believed when all before this are resolved.
    until: u64,
}

/// The messages published on one channel.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    next: u64,
    open: BTreeMap<u64, Open>,
    held: VecDeque<Held>,
    /// What was returned, and the number of the first message that was
    /// published after that was seen: it and those behind it are not meant.
    returned: HashMap<Mark, u64>,
    fates: VecDeque<(u64, Fate)>,
}

impl Ledger {
    /// Enters a message that is being published, and numbers it.
    pub(crate) fn enter(&mut self, mark: Option<Mark>) -> u64 {
        let seq = self.next;
        self.next += 1;
        let since = Instant::now();
        self.open.insert(seq, Open { mark, since });
        seq
    }

    /// Takes down what a confirm said, and the return that came with it, of
    /// whichever message that is.
    pub(crate) fn resolve(&mut self, seq: u64, acked: bool, returned: Option<Mark>) {
        self.returned.extend(returned.map(|mark| (mark, self.next)));
        let Some(open) = self.open.remove(&seq) else {
            return;
        };
        match open.mark {
            Some(_) | None if !acked => self.fates.push_back((seq, Fate::Refused)),
            None => self.fates.push_back((seq, Fate::Confirmed)),
            Some(mark) => self.held.push_back(Held {
                seq,
                mark,
                until: self.next,
            }),
        }
    }

    /// The next message whose fate is certain.
    pub(crate) fn pop(&mut self) -> Option<(u64, Fate)> {
        self.believe();
        self.fates.pop_front()
    }

    fn believe(&mut self) {
        let oldest = self.open.keys().next().copied().unwrap_or(u64::MAX);
        while self.held.front().is_some_and(|held| held.until <= oldest)
            && let Some(held) = self.held.pop_front()
        {
            let returned = self.returned.get(&held.mark);
            let fate = if returned.is_some_and(|next| held.seq < *next) {
                Fate::Returned
            } else {
                Fate::Confirmed
            };
            self.fates.push_back((held.seq, fate));
        }
        let expected = || !self.held.is_empty() || self.open.values().any(|o| o.mark.is_some());
        if !self.returned.is_empty() && !expected() {
            self.returned.clear();
        }
    }

    /// Messages whose fate has not been told.
    pub(crate) fn outstanding(&self) -> usize {
        self.open.len() + self.held.len() + self.fates.len()
    }

    /// Since when the oldest message waits for its confirm.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.open.values().next().map(|open| open.since)
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldTable;

    use super::super::wire::text;
    use super::*;

    fn mark(id: &str) -> Mark {
        let properties = BasicProperties::default().with_message_id(id.into());
        Mark::of("", "q", &properties)
    }

    fn all(ledger: &mut Ledger) -> Vec<(u64, Fate)> {
        std::iter::from_fn(|| ledger.pop()).collect()
    }

    #[test]
    fn a_return_that_came_with_another_confirm_finds_its_message() {
        let mut ledger = Ledger::default();
        let lost = ledger.enter(Some(mark("lost")));
        let fine = ledger.enter(None);
        ledger.resolve(fine, true, Some(mark("lost")));
        ledger.resolve(lost, true, None);
        assert_eq!(
            all(&mut ledger),
            [(fine, Fate::Confirmed), (lost, Fate::Returned)]
        );
    }

    #[test]
    fn a_confirm_is_not_believed_before_its_return_could_have_come() {
        let mut ledger = Ledger::default();
        let first = ledger.enter(Some(mark("first")));
        let second = ledger.enter(Some(mark("second")));
        let other = ledger.enter(None);
        // One batch, resolved in an order of lapin's own: the second carries
        // the first's return, and the other one the second's.
        ledger.resolve(second, true, Some(mark("first")));
        assert_eq!(ledger.pop(), None, "its own return may still come");
        ledger.resolve(other, true, Some(mark("second")));
        ledger.resolve(first, true, None);
        let fates = all(&mut ledger);
        assert!(fates.contains(&(second, Fate::Returned)), "{fates:?}");
        assert!(fates.contains(&(first, Fate::Returned)), "{fates:?}");
        assert!(fates.contains(&(other, Fate::Confirmed)), "{fates:?}");
        assert_eq!(ledger.outstanding(), 0);
        assert!(ledger.returned.is_empty(), "nothing is kept for ever");
    }

    #[test]
    fn what_is_published_later_does_not_hold_up_what_was_confirmed() {
        let mut ledger = Ledger::default();
        let first = ledger.enter(Some(mark("first")));
        ledger.resolve(first, true, None);
        let _later = ledger.enter(Some(mark("later")));
        assert_eq!(ledger.pop(), Some((first, Fate::Confirmed)));
        assert_eq!(ledger.pop(), None);
        assert_eq!(ledger.outstanding(), 1);
    }

    #[test]
    fn the_same_message_published_again_is_not_taken_for_returned() {
        let mut ledger = Ledger::default();
        let first = ledger.enter(Some(mark("m")));
        ledger.resolve(first, true, Some(mark("m")));
        let other = ledger.enter(Some(mark("other")));
        assert_eq!(ledger.pop(), Some((first, Fate::Returned)));
        let again = ledger.enter(Some(mark("m")));
        ledger.resolve(again, true, None);
        ledger.resolve(other, true, None);
        assert_eq!(
            all(&mut ledger),
            [(again, Fate::Confirmed), (other, Fate::Confirmed)]
        );
    }

    #[test]
    fn a_refused_message_is_told_at_once() {
        let mut ledger = Ledger::default();
        let refused = ledger.enter(Some(mark("refused")));
        let _open = ledger.enter(Some(mark("open")));
        ledger.resolve(refused, false, None);
        assert_eq!(ledger.pop(), Some((refused, Fate::Refused)));
    }

    #[test]
    fn the_parts_of_an_event_are_told_apart() {
        let part = |number: &str| {
            let mut headers = FieldTable::default();
            headers.insert("x-part".into(), text(number));
            let properties = BasicProperties::default()
                .with_message_id("m".into())
                .with_headers(headers);
            Some(Mark::of("", "q", &properties))
        };
        let mut ledger = Ledger::default();
        let one = ledger.enter(part("1/2"));
        let two = ledger.enter(part("2/2"));
        ledger.resolve(one, true, part("2/2"));
        ledger.resolve(two, true, None);
        assert_eq!(
            all(&mut ledger),
            [(one, Fate::Confirmed), (two, Fate::Returned)]
        );
    }
}
