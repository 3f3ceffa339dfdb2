//! Which reports of a message are safe yet.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;

use futures_util::task::AtomicWaker;

/// Counts the reports of one message until all of them are safe, so that the
/// message can be acknowledged. Cheap to clone; one task waits for it.
#[derive(Clone, Debug, Default)]
pub struct Receipts(Arc<Open>);

#[derive(Debug, Default)]
struct Open {
    /// Reports that are not safe yet, essential ones included.
    all: AtomicUsize,
    /// Those that may never be given up.
    essential: AtomicUsize,
    /// Nobody waits for the others any more.
    given_up: AtomicBool,
    /// One can never become safe.
    broken: AtomicBool,
    waiting: AtomicWaker,
}

/// One report's place in [`Receipts`]. Whoever makes the report safe says so
/// with [`Receipt::safe`]; one that is dropped instead will never be.
#[derive(Debug)]
pub struct Receipt {
    open: Arc<Open>,
    essential: bool,
    safe: bool,
}

impl Receipts {
    /// A place for one more report.
    #[must_use]
    pub fn expect(&self, essential: bool) -> Receipt {
        self.0.all.fetch_add(1, Ordering::AcqRel);
        if essential {
            self.0.essential.fetch_add(1, Ordering::AcqRel);
        }
        Receipt {
            open: Arc::clone(&self.0),
            essential,
            safe: false,
        }
    }

    /// Whether every report so far is safe or was given up.
    #[must_use]
    pub fn all_safe(&self) -> bool {
        self.0.left() == 0 && !self.0.broken.load(Ordering::Acquire)
    }

    /// Whether one is open that may not be given up.
    #[must_use]
    pub fn has_essential(&self) -> bool {
        self.0.essential.load(Ordering::Acquire) > 0
    }

    /// Waits no longer for reports that may be given up. How many that were.
    pub fn give_up(&self) -> usize {
        self.0.given_up.store(true, Ordering::Release);
        let essential = self.0.essential.load(Ordering::Acquire);
        let given_up = self.0.all.load(Ordering::Acquire).saturating_sub(essential);
        self.0.waiting.wake();
        given_up
    }

    /// Waits until every report is safe or given up. `false` as soon as that
    /// can no longer happen, as when whoever was to publish them is gone.
    pub async fn wait(&self) -> bool {
        poll_fn(|cx| {
            self.0.waiting.register(cx.waker());
            if self.0.broken.load(Ordering::Acquire) {
                Poll::Ready(false)
            } else if self.0.left() == 0 {
                Poll::Ready(true)
            } else {
                Poll::Pending
            }
        })
        .await
    }
}

impl Open {
    fn left(&self) -> usize {
        if self.given_up.load(Ordering::Acquire) {
            self.essential.load(Ordering::Acquire)
        } else {
            self.all.load(Ordering::Acquire)
        }
    }
}

impl Receipt {
    /// The report is safe.
    pub fn safe(mut self) {
        self.safe = true;
    }

    /// Whether nobody waits for this report any more.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        !self.essential && self.open.given_up.load(Ordering::Acquire)
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.safe && !self.is_given_up() {
            self.open.broken.store(true, Ordering::Release);
        }
        if self.essential {
            self.open.essential.fetch_sub(1, Ordering::AcqRel);
        }
        let before = self.open.all.fetch_sub(1, Ordering::AcqRel);
        if before == 1 || self.open.left() == 0 || !self.safe {
            self.open.waiting.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_message_waits_until_its_last_report_is_safe() {
        let receipts = Receipts::default();
        let (first, second) = (receipts.expect(false), receipts.expect(true));
        first.safe();
        assert_eq!(receipts.wait().now_or_never(), None);
        second.safe();
        assert_eq!(receipts.wait().now_or_never(), Some(true));
        assert!(receipts.all_safe());
    }

    #[test]
    fn a_report_that_nobody_will_publish_is_told_at_once() {
        let receipts = Receipts::default();
        let (lost, _open) = (receipts.expect(false), receipts.expect(false));
        drop(lost);
        assert_eq!(receipts.wait().now_or_never(), Some(false));
    }

    #[test]
    fn what_is_essential_is_never_given_up() {
        let receipts = Receipts::default();
        let (outcome, token) = (receipts.expect(false), receipts.expect(true));
        assert_eq!(receipts.give_up(), 1);
        assert!(outcome.is_given_up() && !token.is_given_up());
        drop(outcome);
        assert_eq!(receipts.wait().now_or_never(), None);
        token.safe();
        assert_eq!(receipts.wait().now_or_never(), Some(true));
    }
}
