//! What is known of one connection, shared by the task that drives it, the
//! pool that picks it and the attempts on it. Atomics only: no lock is taken
//! for a push.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::watched::Reads;

/// So many setbacks (time-outs and resets) without an answer between them wear
/// a connection out: it answers PINGs, perhaps, but no requests, so another is
/// opened in its place.
const WORN: usize = 3;
/// After a setback or a 5xx others are preferred for so long.
const TROUBLED: Duration = Duration::from_secs(1);
/// One that has lived for so long was of use, whatever it answered.
const PROVEN: Duration = Duration::from_secs(10);

/// Whether a connection takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// It does.
    Ready = 0,
    /// It owes an answer; it does again as soon as anything comes from it.
    Suspect = 1,
    /// It never will again; what is under way may finish.
    Draining = 2,
    /// It is gone.
    Closed = 3,
}

/// Wakes those who wait for a connection, and the pool's supervisor.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// A stream may be free: wakes one waiting request.
    pub(super) free: Notify,
    /// A connection has changed its state: wakes the supervisor.
    pub(super) changed: Notify,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) opened: Instant,
    pub(super) signals: Arc<Signals>,
    /// Wakes the driver to look at state and `probe`.
    pub(super) poke: Notify,
    /// Why it ended, once it has.
    pub(super) ended: OnceLock<String>,
    reads: Arc<Reads>,
    /// A request after so long a silence takes a PING along.
    stale: Duration,
    state: AtomicU8,
    /// The peer's stream limit, or ours if that is lower.
    limit: AtomicUsize,
    limit_at_most: usize,
    in_flight: AtomicUsize,
    started: AtomicU64,
    /// `reads` when it became suspect.
    mark: AtomicU64,
    /// Milliseconds after `opened` at which the peer was heard last.
    heard: AtomicU64,
    probe: AtomicBool,
    answered: AtomicBool,
    trusted: AtomicBool,
    /// Milliseconds after `opened` until which others are preferred.
    troubled_until: AtomicU64,
    setbacks: AtomicUsize,
}

impl Link {
    pub(super) fn new(
        reads: Arc<Reads>,
        signals: Arc<Signals>,
        stale: Duration,
        limit_at_most: usize,
    ) -> Self {
        Self {
            opened: Instant::now(),
            signals,
            poke: Notify::new(),
            ended: OnceLock::new(),
            reads,
            stale,
            state: AtomicU8::new(State::Ready as u8),
            limit: AtomicUsize::new(1),
            limit_at_most,
            in_flight: AtomicUsize::new(0),
            started: AtomicU64::new(0),
            mark: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            probe: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            trusted: AtomicBool::new(false),
            troubled_until: AtomicU64::new(0),
            setbacks: AtomicUsize::new(0),
        }
    }

    pub(super) fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Ready,
            1 => State::Suspect,
            2 => State::Draining,
            _ => State::Closed,
        }
    }

    pub(super) fn reads(&self) -> u64 {
        self.reads.count()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Whether it takes one more request, and how gladly: the smallest first.
    pub(super) fn preference(&self, now: Instant) -> Option<(bool, usize, u64)> {
        let busy = self.in_flight();
        let free = busy < self.limit.load(Ordering::Acquire);
        (self.state() == State::Ready && free).then(|| {
            let troubled = self.millis(now) < self.troubled_until.load(Ordering::Relaxed);
            (troubled, busy, self.started.load(Ordering::Relaxed))
        })
    }

    /// Takes a stream. Only under the pool's lock, after [`Self::preference`].
    pub(super) fn take(&self, now: Instant) {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        self.started.fetch_add(1, Ordering::Relaxed);
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        if now.saturating_duration_since(self.opened + heard) >= self.stale {
            self.ask_probe();
        }
    }

    /// Gives a stream back.
    pub(super) fn release(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.signals.free.notify_one();
    }

    /// Asks the driver for a PING.
    pub(super) fn ask_probe(&self) {
        self.probe.store(true, Ordering::Release);
        self.poke.notify_one();
    }

    pub(super) fn probe_asked(&self) -> bool {
        self.probe.swap(false, Ordering::AcqRel)
    }

    /// The peer was heard at this moment.
    pub(super) fn heard(&self, now: Instant) {
        self.heard.store(self.millis(now), Ordering::Relaxed);
        if self.state() == State::Suspect && self.reads() != self.mark.load(Ordering::Acquire) {
            self.shift(State::Suspect, State::Ready);
            self.signals.free.notify_one();
        }
    }

    /// A request timed out here, or a PING is overdue: no new requests until
    /// something comes.
    pub(super) fn suspect(&self) {
        if self.state() == State::Ready {
            self.mark.store(self.reads(), Ordering::Release);
            self.shift(State::Ready, State::Suspect);
            self.ask_probe();
        }
    }

    /// Counts a request that timed out.
    pub(super) fn timed_out(&self) {
        self.set_back();
        self.suspect();
    }

    /// Counts a request whose stream was reset or refused. A connection that
    /// does so to every one is always idle, and must not be liked for that.
    pub(super) fn set_back(&self) {
        self.trouble();
        if self.setbacks.fetch_add(1, Ordering::Relaxed) + 1 == WORN {
            self.signals.changed.notify_one();
        }
    }

    /// Counts an answer that refused the credential.
    pub(super) fn refused(&self) {
        if self.setbacks.load(Ordering::Relaxed) != 0 {
            self.setbacks.store(0, Ordering::Relaxed);
        }
        if !self.has_answered() {
            self.answered.store(true, Ordering::Relaxed);
            // It may be the replacement that a worn one waits for.
            self.signals.changed.notify_one();
        }
    }

    /// Whether it has ever taken the credential.
    pub(super) fn is_trusted(&self) -> bool {
        self.trusted.load(Ordering::Relaxed)
    }

    /// Counts an answer. `trouble` is a 5xx: others are preferred for now.
    pub(super) fn answered(&self, trouble: bool) {
        self.refused();
        if !self.is_trusted() {
            self.trusted.store(true, Ordering::Relaxed);
        }
        if trouble {
            self.trouble();
        } else if self.troubled_until.load(Ordering::Relaxed) != 0 {
            self.troubled_until.store(0, Ordering::Relaxed);
        }
    }

    fn trouble(&self) {
        let until = self.millis(Instant::now() + TROUBLED);
        self.troubled_until.store(until, Ordering::Relaxed);
    }

    /// Whether it has answered a request.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether it has answered a request, or has lived for a while.
    pub(super) fn is_proven(&self) -> bool {
        self.has_answered() || self.opened.elapsed() >= PROVEN
    }

    pub(super) fn is_worn(&self) -> bool {
        self.setbacks.load(Ordering::Relaxed) >= WORN
    }

    /// No new requests; the connection closes when the last one has ended.
    pub(super) fn retire(&self) {
        self.shift(State::Ready, State::Draining);
        self.shift(State::Suspect, State::Draining);
        self.poke.notify_one();
    }

    pub(super) fn close(&self, why: String) {
        let _ = self.ended.set(why);
        self.state.store(State::Closed as u8, Ordering::Release);
        self.signals.changed.notify_one();
    }

    /// Publishes the peer's stream limit, and wakes a waiting request if it grew.
    pub(super) fn publish_limit(&self, limit: usize) {
        let limit = limit.min(self.limit_at_most);
        if limit > self.limit.swap(limit, Ordering::AcqRel) {
            self.signals.free.notify_one();
        }
    }

    fn millis(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.opened).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    fn shift(&self, from: State, to: State) {
        let (from, to) = (from as u8, to as u8);
        let moved = self
            .state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        if moved.is_ok() {
            self.poke.notify_one();
            self.signals.changed.notify_one();
        }
    }
}
