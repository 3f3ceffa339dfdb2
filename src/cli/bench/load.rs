//! When rings are sent: on a schedule, or as others end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::args::Args;
use super::record::Recorder;
use super::rings::Rings;
use super::worker::Entrance;
use crate::call::time::Timestamp;

/// The longest sleep of a schedule, so that a signal is noticed.
const NAP: Duration = Duration::from_millis(100);

/// Sends rings to a worker.
pub(super) struct Load {
    pub(super) entrance: Entrance,
    pub(super) rings: Rings,
    pub(super) recorder: Arc<Recorder>,
    pub(super) args: Args,
    /// Ends it early.
    pub(super) stop: CancellationToken,
    /// Both clocks as the run begins.
    pub(super) began: (Instant, Timestamp),
    /// The number of the next ring.
    pub(super) next: AtomicU64,
}

/// How many rings a schedule has, the warm-up's too.
fn scheduled(args: &Args, rate: f64) -> u64 {
    let by_count = args.count.map(|count| due_by(rate, args.warm_up) + count);
    let by_time = args.span().map(|_| due_by(rate, args.end()));
    let both = [by_count, by_time].into_iter().flatten();
    both.min().unwrap_or(0)
}

/// When a ring of a schedule is due. From the rate each time, so that it never
/// drifts.
#[allow(clippy::cast_precision_loss)] // exact for a hundred years
pub(super) fn due(number: u64, rate: f64) -> Duration {
    Duration::from_secs_f64(number as f64 / rate)
}

/// How many rings of a schedule are due before this moment.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a day of rings at most"
)]
fn due_by(rate: f64, moment: Duration) -> u64 {
    (moment.as_secs_f64() * rate - 1e-6).ceil() as u64
}

impl Load {
    /// Sends all rings and waits until each has ended, which takes no longer than a
    /// ring lives. Returns how many stayed behind.
    ///
    /// # Errors
    /// Never, unless there is a mistake in here.
    pub(super) async fn drive(self: Arc<Self>) -> Result<u64, JoinError> {
        let Some(rate) = self.args.rate else {
            return self.in_turn().await.map(|()| 0);
        };
        let handle = Handle::current();
        tokio::task::spawn_blocking(move || self.on_schedule(rate, &handle)).await
    }

    /// Always so many at a time.
    async fn in_turn(self: &Arc<Self>) -> Result<(), JoinError> {
        let counted = Arc::new(AtomicU64::new(0));
        let senders = (0..self.args.most_in_flight()).map(|_| {
            let (this, counted) = (Arc::clone(self), Arc::clone(&counted));
            tokio::spawn(async move {
                loop {
                    let due = this.began.0.elapsed();
                    if due >= this.args.end() || this.stop.is_cancelled() {
                        break;
                    }
                    if let Some(count) = this.args.count
                        && due >= this.args.warm_up
                        && counted.fetch_add(1, Ordering::Relaxed) >= count
                    {
                        break;
                    }
                    this.ring(due).await;
                }
            })
        });
        join_all(senders).await.into_iter().collect()
    }

    /// At a steady rate, whatever becomes of the rings before. On a thread of its
    /// own: the runtime's timers have steps of a millisecond, which is as long as a
    /// push takes. Returns how many rings stayed behind.
    fn on_schedule(self: &Arc<Self>, rate: f64, handle: &Handle) -> u64 {
        let room = Arc::new(Semaphore::new(self.args.most_in_flight() as usize));
        let under_way = TaskTracker::new();
        let scheduled = scheduled(&self.args, rate);
        let mut begun = 0;
        while begun < scheduled && self.sleep_until(due(begun, rate)) {
            let Some(permit) = self.permit(&room, handle) else {
                break;
            };
            let (this, due) = (Arc::clone(self), due(begun, rate));
            begun += 1;
            drop(under_way.spawn_on(
                async move {
                    this.ring(due).await;
                    drop(permit);
                },
                handle,
            ));
        }
        under_way.close();
        handle.block_on(under_way.wait());
        if self.stop.is_cancelled() {
            return 0; // nobody wanted them any more
        }
        scheduled - begun
    }

    /// False if it is to end before.
    fn sleep_until(&self, due: Duration) -> bool {
        loop {
            if self.stop.is_cancelled() {
                return false;
            }
            let left = due.saturating_sub(self.began.0.elapsed());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(NAP));
        }
    }

    /// Room for one more, or none before the end.
    fn permit(&self, room: &Arc<Semaphore>, handle: &Handle) -> Option<OwnedSemaphorePermit> {
        // The last one may be begun a little later than it is due.
        let end = self.args.span().map(|_| self.args.end() + NAP);
        let end = self.began.0 + end.unwrap_or(Duration::from_secs(1 << 30));
        handle.block_on(async {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => None,
                () = tokio::time::sleep_until(end.into()) => None,
                permit = Arc::clone(room).acquire_owned() => permit.ok(),
            }
        })
    }

    /// Rings once, to the end.
    async fn ring(&self, due: Duration) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // By the schedule: a ring that waited here is as old as one that waited
        // in a queue.
        let ring = self.rings.ring(number, due, self.began.1.plus(due));
        self.recorder.begin(due, self.rings.devices());
        self.entrance.ring(ring).await;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_schedule_does_not_drift() {
        for rate in [0.1, 3.0, 7.0, 999.0, 40_000.0] {
            for number in [1, 10, 1_000, 10_000_000] {
                let at = due(number, rate);
                assert_eq!(due_by(rate, at), number, "{number} at {rate}");
                let later = at + Duration::from_secs_f64(0.5 / rate);
                assert_eq!(due_by(rate, later), number + 1);
            }
        }
        assert_eq!(due(0, 5.0), Duration::ZERO);
        assert_eq!(due(10, 5.0), 2 * SECOND);
    }

    fn args(line: &str) -> Args {
        let words = ["bench", "--warm-up", "1s"].into_iter();
        let line = Line::try_parse_from(words.chain(line.split_whitespace()));
        line.ok().unwrap().args
    }

    #[test]
    fn rings_for_many_phones_are_not_more_pushes_at_a_time() {
        let most = |line| args(line).most_in_flight();
        assert_eq!(most(""), 64);
        assert_eq!(most("--broker"), 2000);
        assert_eq!(most("--broker --devices 100"), 20);
        assert_eq!(most("--devices 1000"), 1);
        assert_eq!(most("--devices 1000 --in-flight 64"), 64);
    }

    #[test]
    fn a_schedule_ends_by_time_or_by_count_whichever_comes_first() {
        let scheduled = |line| scheduled(&args(line), 50.0);
        assert_eq!(scheduled("--duration 10s"), 550);
        assert_eq!(scheduled("--count 7"), 57);
        assert_eq!(scheduled("--duration 10s --count 7"), 57);
        assert_eq!(scheduled("--duration 10s --count 700"), 550);
    }
}
