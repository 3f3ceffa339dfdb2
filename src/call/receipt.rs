//! Which reports of a message are safe yet.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use super::event::Platform;

/// Counts the reports of one message until all of them are safe, so that the
/// message can be acknowledged. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Receipts(Arc<Message>);

#[derive(Debug, Default)]
struct Message {
    /// Reports that are not safe yet.
    open: AtomicUsize,
    /// Nobody waits for them any more.
    given_up: AtomicBool,
    /// One can never become safe.
    broken: AtomicBool,
    /// Nothing but its reports holds up this platform's message.
    held_up: OnceLock<Platform>,
    /// Wakes those who wait: the message, and others with the same devices.
    changed: Notify,
}

/// One report's place in [`Receipts`]. Whoever makes the report safe says so
/// with [`Receipt::safe`]; one that is dropped instead will never be.
#[derive(Debug)]
pub struct Receipt {
    message: Arc<Message>,
    safe: bool,
}

impl Receipts {
    /// A place for one more report.
    #[must_use]
    pub fn expect(&self) -> Receipt {
        self.0.open.fetch_add(1, Ordering::AcqRel);
        Receipt {
            message: Arc::clone(&self.0),
            safe: false,
        }
    }

    /// Whether every report so far is safe.
    #[must_use]
    pub fn all_safe(&self) -> bool {
        self.0.open.load(Ordering::Acquire) == 0 && !self.0.broken.load(Ordering::Acquire)
    }

    /// Says that a message of this platform's queue is ready but for its
    /// reports.
    pub fn hold_up(&self, platform: Platform) {
        let _ = self.0.held_up.set(platform);
    }

    /// Waits until every report is safe or they were given up. `false` as soon
    /// as that can no longer happen, as when whoever was to publish them is
    /// gone.
    pub async fn wait(&self) -> bool {
        loop {
            if let Some(end) = self.end() {
                return end;
            }
            let mut changed = pin!(self.0.changed.notified());
            changed.as_mut().enable();
            if let Some(end) = self.end() {
                return end;
            }
            changed.await;
        }
    }

    fn end(&self) -> Option<bool> {
        if self.0.given_up.load(Ordering::Acquire) {
            Some(true)
        } else if self.0.broken.load(Ordering::Acquire) {
            Some(false)
        } else {
            (self.0.open.load(Ordering::Acquire) == 0).then_some(true)
        }
    }
}

impl Receipt {
    /// The report is safe.
    pub fn safe(mut self) {
        self.safe = true;
    }

    /// Whose queue's message waits for nothing but its reports. None while
    /// devices of it are still under way.
    #[must_use]
    pub fn held_up(&self) -> Option<Platform> {
        self.message.held_up.get().copied()
    }

    /// Lets the message go without any of its reports.
    pub fn give_up(&self) {
        self.message.given_up.store(true, Ordering::Release);
        self.message.changed.notify_waiters();
    }

    /// Whether the message was let go.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.message.given_up.load(Ordering::Acquire)
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.safe && !self.is_given_up() {
            self.message.broken.store(true, Ordering::Release);
        }
        let before = self.message.open.fetch_sub(1, Ordering::AcqRel);
        if before == 1 || !self.safe {
            self.message.changed.notify_waiters();
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
        let (first, second) = (receipts.expect(), receipts.expect());
        first.safe();
        assert_eq!(receipts.wait().now_or_never(), None);
        second.safe();
        assert_eq!(receipts.wait().now_or_never(), Some(true));
        assert!(receipts.all_safe());
    }

    #[test]
    fn a_report_that_nobody_will_publish_is_told_at_once() {
        let receipts = Receipts::default();
        let (lost, _open) = (receipts.expect(), receipts.expect());
        drop(lost);
        assert_eq!(receipts.wait().now_or_never(), Some(false));
    }

    #[test]
    fn a_message_that_is_given_up_waits_for_none_of_its_reports() {
        let receipts = Receipts::default();
        let (first, second) = (receipts.expect(), receipts.expect());
        assert_eq!(first.held_up(), None, "devices may be under way");
        receipts.hold_up(Platform::Ios);
        assert_eq!(first.held_up(), Some(Platform::Ios));
        first.give_up();
        assert!(second.is_given_up());
        drop(first);
        assert_eq!(receipts.wait().now_or_never(), Some(true));
        drop(second);
        assert_eq!(receipts.wait().now_or_never(), Some(true));
    }
}
