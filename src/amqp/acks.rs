//! Acknowledgements of one channel, as few frames as are safe.

use std::collections::VecDeque;

use futures_util::FutureExt;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};

use super::error::AmqpError;

/// How it stands with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Under way.
    Open,
    /// Handled, and the broker does not know.
    Handled,
    /// The same since before the last flush.
    Late,
    /// Acknowledged by itself, or given back.
    Told,
}

/// The deliveries of a channel that the broker has to hear of, oldest first.
///
/// One acknowledgement of many covers everything up to its tag, so it may only
/// go as far as the first delivery that is still under way. What is handled
/// beyond that waits for one flush more: most often the gap has closed then.
#[derive(Debug)]
struct Tags {
    /// The tag of the first in `states`.
    first: u64,
    states: VecDeque<State>,
    /// Handled since the last flush.
    fresh: usize,
    /// Handled before it, and not acknowledged.
    late: usize,
}

impl Tags {
    const fn new() -> Self {
        Self {
            // A channel's first delivery.
            first: 1,
            states: VecDeque::new(),
            fresh: 0,
            late: 0,
        }
    }

    fn deliver(&mut self, tag: u64) {
        while self.first + (self.states.len() as u64) < tag {
            self.states.push_back(State::Told);
        }
        self.states.push_back(State::Open);
    }

    fn set(&mut self, tag: u64, state: State) {
        let index = tag.checked_sub(self.first);
        let index = index.and_then(|index| usize::try_from(index).ok());
        let Some(now @ State::Open) = index.and_then(|index| self.states.get_mut(index)) else {
            return;
        };
        *now = state;
        if state == State::Handled {
            self.fresh += 1;
        }
    }

    /// What to acknowledge now: everything up to a tag, and single ones beyond
    /// it, with `all` every one that is handled.
    fn flush(&mut self, all: bool) -> (Option<u64>, Vec<u64>) {
        let mut multiple = None;
        while let Some(state) = self.states.front().filter(|state| **state != State::Open) {
            match state {
                State::Handled => (self.fresh, multiple) = (self.fresh - 1, Some(self.first)),
                State::Late => (self.late, multiple) = (self.late - 1, Some(self.first)),
                State::Open | State::Told => {}
            }
            self.states.pop_front();
            self.first += 1;
        }
        let mut single = Vec::new();
        if self.fresh + self.late > 0 {
            for (tag, state) in (self.first..).zip(&mut self.states) {
                match state {
                    State::Handled if !all => *state = State::Late,
                    State::Handled | State::Late => {
                        *state = State::Told;
                        single.push(tag);
                    }
                    State::Open | State::Told => {}
                }
            }
        }
        self.late = if all { 0 } else { self.fresh };
        self.fresh = 0;
        (multiple, single)
    }
}

/// Acknowledges on one channel, whose own methods are used, not lapin's
/// `Acker`, which is slower. Nothing waits for a frame to be written: a channel
/// that fails tells its consumer.
#[derive(Debug)]
pub(crate) struct Acks {
    channel: Channel,
    tags: Tags,
}

impl Acks {
    pub(crate) const fn new(channel: Channel) -> Self {
        Self {
            channel,
            tags: Tags::new(),
        }
    }

    /// A message came.
    pub(crate) fn deliver(&mut self, tag: u64) {
        self.tags.deliver(tag);
    }

    /// A message is handled; the next flush says so.
    pub(crate) fn handled(&mut self, tag: u64) {
        self.tags.set(tag, State::Handled);
    }

    /// Gives a message back to its queue, at once, as one that could not be
    /// handled: a reject counts towards the delivery limit on every `RabbitMQ`, a
    /// nack only before 4.3.
    pub(crate) fn reject(&mut self, tag: u64) -> Result<(), AmqpError> {
        self.tags.set(tag, State::Told);
        let options = BasicRejectOptions { requeue: true };
        handed_over(self.channel.basic_reject(tag, options))
    }

    /// Gives a message back to its queue, at once.
    pub(crate) fn requeue(&mut self, tag: u64) -> Result<(), AmqpError> {
        self.tags.set(tag, State::Told);
        let options = BasicNackOptions {
            requeue: true,
            ..BasicNackOptions::default()
        };
        handed_over(self.channel.basic_nack(tag, options))
    }

    /// Messages that were handled since the last flush.
    pub(crate) const fn fresh(&self) -> usize {
        self.tags.fresh
    }

    /// Whether a flush has anything to do.
    pub(crate) const fn is_pending(&self) -> bool {
        self.tags.fresh + self.tags.late > 0
    }

    /// Tells the broker what is handled, with `all` also what is only to wait
    /// for its neighbours.
    pub(crate) fn flush(&mut self, all: bool) -> Result<(), AmqpError> {
        let (multiple, single) = self.tags.flush(all);
        let run = multiple.map(|tag| (tag, true));
        for (tag, multiple) in run
            .into_iter()
            .chain(single.into_iter().map(|t| (t, false)))
        {
            handed_over(self.channel.basic_ack(tag, BasicAckOptions { multiple }))?;
        }
        Ok(())
    }
}

/// The first poll hands a frame to lapin; the rest would only tell that it is
/// written.
fn handed_over(frame: impl Future<Output = lapin::Result<()>>) -> Result<(), AmqpError> {
    match frame.now_or_never() {
        Some(Err(error)) => Err(AmqpError::of_operation("acknowledging", &error)),
        Some(Ok(())) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(count: u64) -> Tags {
        let mut tags = Tags::new();
        (1..=count).for_each(|tag| tags.deliver(tag));
        tags
    }

    fn handle(tags: &mut Tags, handled: &[u64]) {
        for tag in handled {
            tags.set(*tag, State::Handled);
        }
    }

    #[test]
    fn a_run_is_one_acknowledgement_and_a_gap_ends_it() {
        let mut tags = delivered(6);
        handle(&mut tags, &[2, 1, 3, 5]);
        assert_eq!(tags.fresh, 4);
        assert_eq!(tags.flush(false), (Some(3), vec![]));
        assert_eq!((tags.fresh, tags.late), (0, 1), "the fifth waits");
        handle(&mut tags, &[4]);
        assert_eq!(tags.flush(false), (Some(5), vec![]), "the gap has closed");
        assert_eq!((tags.fresh, tags.late), (0, 0));
    }

    #[test]
    fn a_gap_that_stays_keeps_nobody_waiting() {
        let mut tags = delivered(6);
        handle(&mut tags, &[2, 3]);
        assert_eq!(tags.flush(false), (None, vec![]));
        handle(&mut tags, &[5]);
        assert_eq!(tags.flush(false), (None, vec![2, 3]));
        assert_eq!(tags.flush(false), (None, vec![5]));
        assert_eq!(tags.flush(false), (None, vec![]), "once each");
        handle(&mut tags, &[6, 1, 4]);
        assert_eq!(tags.flush(false), (Some(6), vec![]));
    }

    #[test]
    fn all_means_all() {
        let mut tags = delivered(4);
        handle(&mut tags, &[1, 3]);
        assert_eq!(tags.flush(true), (Some(1), vec![3]));
        assert_eq!((tags.fresh, tags.late), (0, 0));
    }

    /// An acknowledgement of many must name a tag that is not handled yet: the
    /// broker ends the channel of who names another.
    #[test]
    fn what_was_told_is_never_named_again() {
        let mut tags = delivered(5);
        tags.set(2, State::Told);
        handle(&mut tags, &[1]);
        assert_eq!(tags.flush(false), (Some(1), vec![]), "not the second");
        tags.set(3, State::Told);
        handle(&mut tags, &[2, 3]);
        assert_eq!(tags.flush(false), (None, vec![]), "they were given back");
        tags.set(5, State::Told);
        handle(&mut tags, &[4]);
        assert_eq!(tags.flush(false), (Some(4), vec![]));
        assert!(tags.states.is_empty());
        assert_eq!(tags.first, 6);
    }
}
