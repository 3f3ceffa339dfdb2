//! What is known and wanted of one connection, shared by the task that drives
//! it, the bytes' filter ([`super::wire`]) and the requests on it.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use super::frames::{self, Head};

/// How the connection treats its peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Open,
    /// TCP stays, nothing is read and nothing answered, PING neither.
    BlackHole,
    /// Closed with a TCP reset.
    Killed,
}

/// Whose SETTINGS an acknowledgement is for.
enum Settings {
    /// Those of the HTTP/2 library, which expects the acknowledgement.
    Library,
    /// Injected, with this limit of streams.
    Injected(u32),
}

/// See the module.
#[derive(Default)]
pub(super) struct Control {
    state: Mutex<State>,
    waker: AtomicWaker,
    ending: Notify,
}

#[derive(Default)]
struct State {
    mode: Mode,
    inject: VecDeque<Vec<u8>>,
    unacknowledged: VecDeque<Settings>,
    /// How many streams may be open at once, as far as the peer must know.
    limit: u32,
    open: HashSet<u32>,
    refused: HashSet<u32>,
    highest: u32,
    highest_claimed: u32,
    /// Streams above this one are not processed.
    goaway: Option<u32>,
}

impl Control {
    /// A connection with `limit` streams, which it announces first of all.
    pub(super) fn new(limit: u32) -> Self {
        let control = Self::default();
        control.announce(limit);
        control
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn mode(&self) -> Mode {
        self.state().mode
    }

    /// Changes how the peer is treated; a killed connection stays killed.
    pub(super) fn set_mode(&self, mode: Mode) {
        let mut state = self.state();
        if state.mode != Mode::Killed {
            state.mode = mode;
        }
        if mode == Mode::BlackHole {
            self.ending.notify_one();
        }
        drop(state);
        self.waker.wake();
    }

    /// Called by the task that drives the connection before it waits.
    pub(super) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// Sends SETTINGS with this limit. A higher limit counts at once, a lower
    /// one when the peer has acknowledged it (RFC 9113, section 6.5.3).
    pub(super) fn announce(&self, limit: u32) {
        let mut state = self.state();
        state.limit = state.limit.max(limit);
        state.inject.push_back(frames::settings(limit));
        drop(state);
        self.waker.wake();
    }

    /// Sends GOAWAY and closes once the streams it covers have been answered.
    /// The last stream is `last`, or higher if one above has been processed
    /// already, for a client repeats what lies above. Only the first counts.
    pub(super) fn go_away(&self, last: Option<u32>, debug: &str) {
        let mut state = self.state();
        if state.goaway.is_none() {
            let last = last.map_or(state.highest, |last| last.max(state.highest_claimed));
            state.goaway = Some(last);
            state.open.retain(|stream| *stream <= last);
            state
                .inject
                .push_back(frames::goaway(last, debug.as_bytes()));
            self.ending.notify_one();
        }
        drop(state);
        self.waker.wake();
    }

    /// Until GOAWAY was said or the connection became a black hole. For the one
    /// task that drives the connection.
    pub(super) async fn ending(&self) {
        self.ending.notified().await;
    }

    /// Whether a GOAWAY that was said includes this stream.
    pub(super) fn covers(&self, stream: u32) -> bool {
        self.state().goaway.is_some_and(|last| stream <= last)
    }

    /// Marks a stream as processed; false if a GOAWAY has excluded it.
    pub(super) fn claim(&self, stream: u32) -> bool {
        let mut state = self.state();
        if state.goaway.is_some_and(|last| stream > last) {
            return false;
        }
        state.highest_claimed = state.highest_claimed.max(stream);
        true
    }

    /// Whether this stream came in above the limit; asked once per stream.
    pub(super) fn was_refused(&self, stream: u32) -> bool {
        self.state().refused.remove(&stream)
    }

    /// The next frame to write between two of the library's.
    pub(super) fn next_injection(&self) -> Option<Vec<u8>> {
        let mut state = self.state();
        let frame = state.inject.pop_front()?;
        if let Some(limit) = frames::settings_limit(&frame) {
            state.unacknowledged.push_back(Settings::Injected(limit));
        }
        Some(frame)
    }

    pub(super) fn wants_to_inject(&self) -> bool {
        !self.state().inject.is_empty()
    }

    /// Whether GOAWAY has been said and all it covers has been answered.
    pub(super) fn is_finished(&self) -> bool {
        let state = self.state();
        state.goaway.is_some() && state.inject.is_empty() && state.open.is_empty()
    }

    /// A frame header went out.
    pub(super) fn sent(&self, head: Head) {
        let mut state = self.state();
        if head.is_settings() {
            state.unacknowledged.push_back(Settings::Library);
        } else if head.ends_stream() && state.open.remove(&head.stream) && state.goaway.is_some() {
            drop(state);
            self.waker.wake();
        }
    }

    /// A frame header came in; false if the library must not see the frame.
    pub(super) fn received(&self, head: Head) -> bool {
        let mut state = self.state();
        if head.is_settings_ack() {
            if let Some(Settings::Injected(limit)) = state.unacknowledged.pop_front() {
                state.limit = limit;
                return false;
            }
        } else if head.is_reset() {
            state.open.remove(&head.stream);
        } else if head.is_headers() && head.stream > state.highest {
            state.highest = head.stream;
            let excluded = state.goaway.is_some_and(|last| head.stream > last);
            if !excluded && state.open.len() >= state.limit as usize {
                state.refused.insert(head.stream);
            } else if !excluded {
                state.open.insert(head.stream);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::frames::{Piece, Scanner};

    fn head(kind: u8, flags: u8, stream: u8) -> Head {
        match Scanner::default().next(&[0, 0, 0, kind, flags, 0, 0, 0, stream]) {
            Piece::Head(_, head) => head,
            Piece::Partial(_) | Piece::Payload(_) => panic!("a whole header"),
        }
    }

    /// RFC 9113: a lower limit binds the peer once it has acknowledged it.
    #[test]
    fn a_lower_limit_counts_from_its_acknowledgement() {
        let control = Control::new(2);
        while control.next_injection().is_some() {}
        assert!(
            !control.received(head(4, 1, 0)),
            "the library never sent these settings"
        );
        control.announce(1);
        while control.next_injection().is_some() {}
        control.received(head(1, 4, 1));
        control.received(head(1, 4, 3));
        assert!(
            !control.was_refused(3),
            "two were allowed until the acknowledgement"
        );
        control.received(head(4, 1, 0));
        control.received(head(1, 4, 5));
        assert!(control.was_refused(5));
    }

    /// What was processed must not lie above the last stream of a GOAWAY: a
    /// client would push it a second time.
    #[test]
    fn goaway_never_excludes_what_was_processed() {
        let control = Control::new(10);
        for stream in [1, 3, 5] {
            control.received(head(1, 5, stream));
        }
        assert!(control.claim(3));
        control.go_away(Some(1), "");
        assert!(control.claim(1) && control.claim(3), "covered");
        assert!(!control.claim(5), "excluded");
    }

    /// The connection closes when what GOAWAY covers has been answered, and
    /// not before.
    #[test]
    fn goaway_waits_for_what_it_covers() {
        let control = Control::new(10);
        control.received(head(1, 5, 1));
        control.received(head(1, 5, 3));
        control.go_away(Some(1), "");
        while control.next_injection().is_some() {}
        assert!(!control.is_finished());
        control.sent(head(0, 1, 1));
        assert!(control.is_finished());
    }
}
