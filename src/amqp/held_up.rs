//! How many messages wait for nothing but the confirms of their reports.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::call::event::Platform;

/// How long no message may have gone on before they count as standing still. A
/// busy broker confirms late, but it confirms all the time.
pub(crate) const STILL: Duration = Duration::from_secs(1);
/// The same for a session in which nothing was confirmed yet: a quorum queue
/// that elects a leader takes seconds.
pub(crate) const STILL_AT_FIRST: Duration = Duration::from_secs(5);
/// How long the oldest may wait while too many do, even if others go on.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// The queues that rings wait in.
pub(crate) const QUEUES: [Platform; 3] = [Platform::Ios, Platform::Android, Platform::Unknown];

/// The messages of each platform's queue (unknown: of the one for any) that
/// are held up by nothing but their reports.
#[derive(Debug)]
pub(crate) struct HeldUp {
    /// How many may be: half of a prefetch.
    limit: usize,
    began: Instant,
    queues: [Queue; 3],
}

#[derive(Debug, Default)]
struct Queue {
    waiting: AtomicUsize,
    /// When one last went on, in milliseconds from the beginning.
    moved: AtomicU64,
}

impl HeldUp {
    pub(crate) fn new(prefetch: u16) -> Self {
        Self {
            limit: usize::from(prefetch / 2),
            began: Instant::now(),
            queues: Default::default(),
        }
    }

    const fn queue(&self, platform: Platform) -> &Queue {
        match platform {
            Platform::Ios => &self.queues[0],
            Platform::Android => &self.queues[1],
            Platform::Unknown => &self.queues[2],
        }
    }

    /// One more waits, until this is dropped.
    pub(crate) fn enter(&self, platform: Platform) -> Waiting<'_> {
        let queue = self.queue(platform);
        queue.waiting.fetch_add(1, Ordering::AcqRel);
        Waiting {
            queue,
            began: self.began,
        }
    }

    /// How many too many wait.
    pub(crate) fn too_many(&self, platform: Platform) -> usize {
        let waiting = self.queue(platform).waiting.load(Ordering::Acquire);
        waiting.saturating_sub(self.limit)
    }

    /// When one last went on because its reports were safe.
    pub(crate) fn moved(&self, platform: Platform) -> Instant {
        let millis = self.queue(platform).moved.load(Ordering::Acquire);
        self.began + Duration::from_millis(millis)
    }
}

/// A message that waits.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    queue: &'a Queue,
    began: Instant,
}

impl Waiting<'_> {
    /// Its reports are safe, and it goes on.
    pub(crate) fn go_on(self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.queue.moved.store(millis, Ordering::Release);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.queue.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
