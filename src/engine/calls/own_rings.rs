//! This worker's rings to one device, for a call may ring more than once.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::call::event::Event;
use crate::call::time::Timestamp;

/// The most rings kept for their cancels to repeat.
const MAX_REPEATED: usize = 4;

/// How a ring of this worker ended for one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingState {
    /// It is not final yet.
    UnderWay,
    /// The provider took it.
    Accepted,
    /// It may have been processed.
    Unclear,
    /// The phone has not got it from here.
    NotSent,
}

/// As much of them as a cancel of any time has to know. Of those that ended the
/// same way the oldest says it all: a cancel that applies to a later one applies
/// to it too.
#[derive(Debug, Default)]
pub(super) struct OwnRings {
    under_way: Vec<Timestamp>,
    accepted: Option<Timestamp>,
    unclear: Option<Timestamp>,
    /// Those that a cancel will have to repeat, with their bytes.
    events: VecDeque<(Arc<Event>, usize)>,
    /// The latest cancel that came while one was under way and names the device.
    cancel: Option<Arc<Event>>,
    /// Woken when one ends, if somebody waits for it.
    ended: Option<Arc<Notify>>,
}

impl OwnRings {
    /// One of that time begins; the event, of so many bytes, is kept if its
    /// cancel has to repeat it.
    pub(super) fn begin(&mut self, sent_at: Timestamp, event: Option<(Arc<Event>, usize)>) {
        self.under_way.push(sent_at);
        if let Some(event) = event {
            if self.events.len() >= MAX_REPEATED {
                self.events.pop_front();
            }
            self.events.push_back(event);
        }
    }

    /// Bytes of what is kept beside the fields, estimated.
    pub(super) fn kept_bytes(&self) -> usize {
        self.events.iter().map(|(_, bytes)| bytes).sum()
    }

    /// One of that time ended. The cancel that is to be pushed to a phone that
    /// may be ringing nevertheless.
    pub(super) fn end(&mut self, sent_at: Timestamp, state: RingState) -> Option<Arc<Event>> {
        if let Some(n) = self.under_way.iter().position(|begun| *begun == sent_at) {
            self.under_way.swap_remove(n);
        }
        if let Some(ended) = self.ended.take() {
            ended.notify_waiters();
        }
        let cancel = self.cancel.clone().filter(|c| sent_at <= c.sent_at);
        if self.under_way.is_empty() {
            (self.under_way, self.cancel) = (Vec::new(), None);
        }
        let oldest = match state {
            RingState::Accepted => &mut self.accepted,
            RingState::Unclear => &mut self.unclear,
            RingState::NotSent | RingState::UnderWay => return None,
        };
        *oldest = Some(oldest.map_or(sent_at, |oldest| oldest.min(sent_at)));
        cancel
    }

    /// A cancel names the device. Kept only while a ring is under way that it
    /// applies to: whoever handles the cancel itself cannot know of that one.
    pub(super) fn cancelled(&mut self, cancel: &Arc<Event>) {
        let later = self
            .cancel
            .as_ref()
            .is_none_or(|c| c.sent_at < cancel.sent_at);
        if later && self.state_at(cancel.sent_at) == RingState::UnderWay {
            self.cancel = Some(Arc::clone(cancel));
        }
    }

    /// What wakes whoever waits for the next end.
    pub(super) fn next_end(&mut self) -> Arc<Notify> {
        Arc::clone(self.ended.get_or_insert_default())
    }

    /// How those that a cancel of that time applies to ended: the one that got
    /// furthest, for a later ring that was not sent does not silence an earlier
    /// one.
    pub(super) fn state_at(&self, cancelled_at: Timestamp) -> RingState {
        let applies = |sent_at: &Timestamp| *sent_at <= cancelled_at;
        if self.under_way.iter().any(applies) {
            RingState::UnderWay
        } else if self.accepted.as_ref().is_some_and(applies) {
            RingState::Accepted
        } else if self.unclear.as_ref().is_some_and(applies) {
            RingState::Unclear
        } else {
            RingState::NotSent
        }
    }

    /// The latest ring that a cancel of that time has to repeat. If it was put
    /// away for later ones, the oldest of those that are left: half a cancel
    /// would ring by itself.
    pub(super) fn event_at(&self, cancelled_at: Timestamp) -> Option<&Arc<Event>> {
        let events = || self.events.iter().map(|(event, _)| event);
        let applies = |event: &&Arc<Event>| event.sent_at <= cancelled_at;
        let latest = events().filter(applies);
        latest
            .max_by_key(|event| event.sent_at)
            .or_else(|| events().min_by_key(|event| event.sent_at))
    }
}
