//! Reports on their way to the outcomes exchange. They survive the session:
//! what was not confirmed is published again after a reconnect, in order.
//!
//! Reports are published, and their confirms looked at, every few milliseconds
//! and all at once: a report is in no hurry, and each by itself would cost
//! several switches between threads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use lapin::types::ShortString;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, warn};

use crate::call::event::Platform;
use crate::call::receipt::Receipt;
use crate::metrics::Metrics;

use super::complaint::Complaint;
use super::confirm_channel::ConfirmChannel;
use super::confirmation::Confirmation;
use super::error::AmqpError;
use super::redeclare::{Declaring, Redeclare};
use super::reports::{HeldUp, Item, QUEUES};
use super::wire::short;

/// Between two looks while there is something to do.
const TICK: Duration = Duration::from_millis(4);
/// The same while the broker takes its time.
const SLOW_TICK: Duration = Duration::from_millis(16);
/// How long a report that was refused or returned first waits for its next
/// attempt; doubled each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Between two looks for those whose time has come.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Bytes of token events that no message waits for, at most.
const MEMORY: usize = 64 << 20;
/// How long no outcome may have been confirmed before the broker counts as
/// standing still. A busy one confirms late, but it confirms all the time.
const STILL: Duration = Duration::from_secs(1);
/// The same for a session in which nothing was confirmed yet: a quorum queue
/// that elects a leader takes seconds.
const STILL_AT_FIRST: Duration = Duration::from_secs(5);
/// How long the oldest message may wait while too many do, even if others go
/// on.
const PATIENCE: Duration = Duration::from_secs(3);
/// After some messages were let go they get this long to go.
const LET_GO_EVERY: Duration = Duration::from_millis(20);
/// At most one line about lost reports in this time.
const LOST_EVERY: Duration = Duration::from_secs(10);
/// At most one line about token events that are not taken in this time.
const REFUSED_EVERY: Duration = Duration::from_secs(60);

/// A report that waits for its next attempt.
#[derive(Debug)]
struct Retry {
    due: Instant,
    /// No queue took it, which may be mended sooner.
    returned: bool,
    item: Item,
}

/// The reports that are not confirmed. Those of messages are bounded by the
/// prefetch; token events that no message waits for have a bound of their own.
pub(crate) struct Outbox {
    incoming: mpsc::UnboundedReceiver<Item>,
    held_up: Arc<HeldUp>,
    /// How many messages of a queue may be held up: half of a prefetch.
    held_up_max: usize,
    metrics: Metrics,
    taken: u64,
    waiting: VecDeque<Item>,
    /// Oldest first.
    retries: BTreeMap<u64, Retry>,
    next_retry: Instant,
    /// Bytes of token events that no message waits for.
    memory: usize,
    memory_max: usize,
    declaring: Option<Declaring>,
    /// Since when the broker is there.
    there_since: Instant,
    /// When it last confirmed an outcome, in this session.
    confirmed: Option<Instant>,
    let_go_at: Instant,
    lost: Lost,
    refused: Complaint,
}

impl Outbox {
    /// An outbox for what comes in here.
    pub(crate) fn new(
        incoming: mpsc::UnboundedReceiver<Item>,
        held_up: Arc<HeldUp>,
        prefetch: u16,
        metrics: Metrics,
    ) -> Self {
        let now = Instant::now();
        Self {
            incoming,
            held_up,
            held_up_max: usize::from(prefetch / 2),
            metrics,
            taken: 0,
            waiting: VecDeque::new(),
            retries: BTreeMap::new(),
            next_retry: now,
            memory: 0,
            memory_max: MEMORY,
            declaring: None,
            there_since: now,
            confirmed: None,
            let_go_at: now,
            lost: Lost {
                reports: 0,
                complaint: Complaint::every(LOST_EVERY),
            },
            refused: Complaint::every(REFUSED_EVERY),
        }
    }

    /// Publishes on this channel until it fails or is dropped;
    /// [`Outbox::take_back`] is to be called then.
    pub(crate) async fn serve(
        &mut self,
        channel: &mut ConfirmChannel<Item>,
        exchange: &str,
        redeclare: &Redeclare,
    ) -> AmqpError {
        self.begin();
        let mut pause = TICK;
        loop {
            match self.turn(channel, exchange, redeclare) {
                Ok(true) => pause = TICK,
                Ok(false) => pause = SLOW_TICK.min(pause * 2),
                Err(error) => return error,
            }
            if channel.outstanding() > 0 || !self.waiting.is_empty() || self.declaring.is_some() {
                sleep(pause).await;
                continue;
            }
            let retry = sleep_until(self.next_retry);
            tokio::select! {
                item = self.incoming.recv() => match item {
                    Some(item) => self.take(item),
                    None => std::future::pending().await,
                },
                () = retry, if !self.retries.is_empty() => {}
            }
        }
    }

    /// The broker is there.
    fn begin(&mut self) {
        self.there_since = Instant::now();
        self.confirmed = None;
        self.declaring = None;
        // The session has looked for the queues.
        self.hurry();
    }

    /// One look at everything. Whether anything came of it.
    fn turn(
        &mut self,
        channel: &mut ConfirmChannel<Item>,
        exchange: &str,
        redeclare: &Redeclare,
    ) -> Result<bool, AmqpError> {
        let mut worked = false;
        while let Ok(item) = self.incoming.try_recv() {
            self.take(item);
            worked = true;
        }
        for (item, confirmation) in channel.drain()? {
            worked = true;
            if let Some(key) = self.settle(item, confirmation) {
                let declare = || redeclare.again(&short(exchange), &key);
                self.declaring.get_or_insert_with(declare);
            }
        }
        self.look_at_declaring();
        self.retry();
        let blocked = channel.is_blocked();
        for platform in QUEUES {
            if self.too_many(platform) > 0 {
                let mut unconfirmed: Vec<_> = channel.unconfirmed().collect();
                self.let_go(platform, &mut unconfirmed, blocked);
            }
        }
        let room = channel.room().min(self.waiting.len());
        let batch = self.waiting.drain(..room);
        let batch = batch.filter(|item| !item.is_forgotten());
        channel.publish(batch.map(|item| (item.message(exchange), item)));
        Ok(worked || room > 0)
    }

    fn take(&mut self, mut item: Item) {
        item.number = self.taken;
        self.taken += 1;
        self.waiting.push_back(item);
    }

    /// Takes down what the broker said of a report. The routing key that no
    /// queue is bound to, if that was it.
    fn settle(&mut self, mut item: Item, confirmation: Confirmation) -> Option<ShortString> {
        let returned = match confirmation {
            Confirmation::Confirmed => {
                if !item.token {
                    self.confirmed = Some(Instant::now());
                }
                match item.receipt {
                    Some(receipt) => receipt.safe(),
                    None if item.token => self.memory -= item.size(),
                    None => {}
                }
                return None;
            }
            Confirmation::Refused => false,
            Confirmation::Returned => true,
        };
        if item.is_forgotten() {
            return None;
        }
        let key = returned.then(|| short(item.key()));
        if item.token {
            self.keep(&mut item);
            if self.refused.is_due() {
                let kept = self.memory;
                warn!(
                    key = item.key(),
                    kept_bytes = kept,
                    "a token event was not taken by every queue, or by none; such are kept and tried again, \
                     and rings go on"
                );
            }
        }
        item.wait = (item.wait * 2).clamp(RETRY_FIRST, RETRY_MAX);
        let due = Instant::now() + item.wait;
        let retry = Retry {
            due,
            returned,
            item,
        };
        self.retries.insert(retry.item.number, retry);
        self.forget();
        key
    }

    /// Takes a token event out of its message's fate.
    fn keep(&mut self, item: &mut Item) {
        if let Some(receipt) = item.receipt.take() {
            receipt.safe();
            self.memory += item.size();
        }
    }

    /// Drops the oldest token events that no message waits for while they are
    /// too many.
    fn forget(&mut self) {
        let mut dropped = 0;
        while self.memory > self.memory_max {
            let mut retries = self.retries.iter();
            let oldest = retries.find(|(_, retry)| retry.item.receipt.is_none());
            let Some(oldest) = oldest.map(|(number, _)| *number) else {
                break;
            };
            if let Some(retry) = self.retries.remove(&oldest) {
                self.memory -= retry.item.size();
                dropped += 1;
            }
        }
        self.lost.add(dropped, &self.metrics);
    }

    /// What no queue took goes at once when everything was declared again.
    fn look_at_declaring(&mut self) {
        let Some(declaring) = &mut self.declaring else {
            return;
        };
        let mut noop = Context::from_waker(Waker::noop());
        if let Poll::Ready(declared) = declaring.poll_unpin(&mut noop) {
            self.declaring = None;
            if declared {
                self.hurry();
            }
        }
    }

    /// What no queue took is due now.
    fn hurry(&mut self) {
        let now = Instant::now();
        let returned = self.retries.values_mut().filter(|retry| retry.returned);
        returned.for_each(|retry| retry.due = now);
        self.next_retry = now;
    }

    /// Puts those whose time has come behind all that wait.
    fn retry(&mut self) {
        let now = Instant::now();
        if now < self.next_retry {
            return;
        }
        self.next_retry = now + RETRY_EVERY;
        let due = self.retries.iter().filter(|(_, retry)| retry.due <= now);
        let due: Vec<_> = due.map(|(number, _)| *number).collect();
        let due = due.iter().filter_map(|number| self.retries.remove(number));
        self.waiting.extend(due.map(|retry| retry.item));
    }

    /// How many messages of a queue too many are held up.
    fn too_many(&self, platform: Platform) -> usize {
        let held_up = self.held_up.of(platform).load(Ordering::Acquire);
        held_up.saturating_sub(self.held_up_max)
    }

    /// Lets the oldest messages of a queue go without their reports when too
    /// many wait for those: rings come before reports.
    fn let_go(&mut self, platform: Platform, published: &mut [&mut Item], blocked: bool) {
        let now = Instant::now();
        let mut too_many = self.too_many(platform);
        if too_many == 0 || now < self.let_go_at {
            return;
        }
        let still = if self.confirmed.is_some() || blocked {
            STILL
        } else {
            STILL_AT_FIRST
        };
        let confirmed = self.confirmed.unwrap_or(self.there_since);
        let retries = self.retries.values_mut().map(|retry| &mut retry.item);
        let mut items: Vec<&mut Item> = (published.iter_mut().map(|item| &mut **item))
            .chain(retries)
            .chain(&mut self.waiting)
            .filter(|item| item.receipt.as_ref().and_then(Receipt::held_up) == Some(platform))
            .collect();
        items.sort_unstable_by_key(|item| item.number);
        for item in &items {
            let since = item.since.max(self.there_since);
            let hopeless =
                now - confirmed.max(since) >= still || now - since >= still.max(PATIENCE);
            let Some(receipt) = item.receipt.as_ref().filter(|r| !r.is_given_up()) else {
                continue;
            };
            if too_many == 0 || !hopeless {
                break;
            }
            receipt.give_up();
            too_many -= 1;
        }
        let mut lost = 0;
        for item in items {
            let Some(receipt) = item.receipt.take_if(|receipt| receipt.is_given_up()) else {
                continue;
            };
            receipt.safe();
            if item.token {
                self.memory += item.size();
            } else {
                lost += 1;
            }
        }
        if lost > 0 {
            self.let_go_at = now + LET_GO_EVERY;
        }
        self.waiting.retain(|item| !item.is_forgotten());
        self.retries.retain(|_, retry| !retry.item.is_forgotten());
        self.lost.add(lost, &self.metrics);
    }

    /// Puts what was published and not confirmed back in its place, when a
    /// session has ended.
    pub(crate) fn take_back(&mut self, unconfirmed: impl Iterator<Item = Item>) {
        let waiting = std::mem::take(&mut self.waiting);
        let mut items: Vec<_> = unconfirmed.chain(waiting).collect();
        items.retain(|item| !item.is_forgotten());
        items.sort_unstable_by_key(|item| item.number);
        self.waiting = items.into();
    }

    /// Token events that go with the worker.
    pub(crate) fn left(&self) -> usize {
        let waiting = self.waiting.iter().filter(|item| item.token).count();
        let retries = self.retries.values().filter(|retry| retry.item.token);
        waiting + retries.count()
    }
}

/// Counts what is lost, and says so now and then.
#[derive(Debug)]
struct Lost {
    reports: u64,
    complaint: Complaint,
}

impl Lost {
    fn add(&mut self, reports: u64, metrics: &Metrics) {
        if reports == 0 {
            return;
        }
        metrics.reports_lost.inc_by(reports);
        self.reports += reports;
        if self.complaint.is_due() {
            error!(
                reports = std::mem::take(&mut self.reports),
                "the broker does not confirm reports, and too many wait for that: gave up the oldest so \
                 that rings go on"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use tokio::time::advance;

    use super::super::reports::Reports;
    use super::super::reports::tests::report;
    use super::*;
    use crate::call::outcome::Outcomes as _;
    use crate::call::receipt::Receipts;

    struct Bench {
        reports: Reports,
        outbox: Outbox,
    }

    impl Bench {
        /// Two messages of a queue may be held up.
        fn new() -> Self {
            let held_up = Arc::new(HeldUp::default());
            let (reports, incoming) = Reports::new(Arc::clone(&held_up));
            let mut outbox = Outbox::new(incoming, held_up, 4, Metrics::default());
            outbox.begin();
            Self { reports, outbox }
        }

        /// A message with these reports (`true`: a token event), which has
        /// nothing to wait for but them.
        fn message(&mut self, tokens: &[bool]) -> Settling {
            let receipts: &'static Receipts = Box::leak(Box::default());
            for token in tokens {
                self.reports.publish(report(*token), receipts.expect());
            }
            while let Ok(item) = self.outbox.incoming.try_recv() {
                self.outbox.take(item);
            }
            let reports: &'static Reports = {
                let (other, _) = Reports::new(Arc::clone(&self.outbox.held_up));
                Box::leak(Box::new(other))
            };
            let mut settling = Settling(reports.settle(Platform::Ios, receipts));
            assert_eq!(settling.now(), None);
            settling
        }

        fn let_go(&mut self) {
            self.outbox.let_go(Platform::Ios, &mut [], false);
        }

        fn lost(&self) -> u64 {
            self.outbox.metrics.reports_lost.get()
        }

        /// The broker's word on the oldest that waits to be published.
        fn told(&mut self, confirmation: Confirmation) {
            let item = self.outbox.waiting.pop_front().unwrap();
            self.outbox.settle(item, confirmation);
        }
    }

    struct Settling(BoxFuture<'static, bool>);

    impl Settling {
        fn now(&mut self) -> Option<bool> {
            (&mut self.0).now_or_never()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_are_let_go_when_too_many_stand_still() {
        let mut bench = Bench::new();
        bench.outbox.confirmed = Some(Instant::now());
        let mut messages = [false; 4].map(|token| bench.message(&[token, false]));
        bench.let_go();
        assert_eq!(bench.lost(), 0, "they have only just become too many");
        advance(STILL).await;
        bench.let_go();
        assert_eq!(bench.lost(), 4);
        let gone = messages.each_mut().map(Settling::now);
        assert_eq!(gone, [Some(true), Some(true), None, None]);
        assert_eq!(bench.outbox.waiting.len(), 4);
        advance(PATIENCE * 10).await;
        bench.let_go();
        assert_eq!(bench.lost(), 4, "two may wait for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_has_just_come_back_gets_more_time() {
        let mut bench = Bench::new();
        let _messages = [(); 3].map(|()| bench.message(&[false]));
        advance(STILL_AT_FIRST / 2).await;
        bench.let_go();
        assert_eq!(bench.lost(), 0);
        // Away and back: that time does not count.
        advance(STILL_AT_FIRST).await;
        bench.outbox.begin();
        bench.let_go();
        assert_eq!(bench.lost(), 0);
        advance(STILL_AT_FIRST).await;
        bench.let_go();
        assert_eq!(bench.lost(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_lost_while_a_busy_broker_confirms() {
        let mut bench = Bench::new();
        bench.outbox.confirmed = Some(Instant::now());
        let mut messages: VecDeque<_> = (0..6).map(|_| bench.message(&[false])).collect();
        for _ in 0..20 {
            advance(STILL / 4).await;
            bench.told(Confirmation::Confirmed);
            assert_eq!(messages.pop_front().unwrap().now(), Some(true));
            messages.push_back(bench.message(&[false]));
            bench.let_go();
        }
        assert_eq!(bench.lost(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_too_long_are_let_go_even_if_others_go_on() {
        let mut bench = Bench::new();
        bench.outbox.confirmed = Some(Instant::now());
        let mut oldest = bench.message(&[false]);
        for _ in 0..4 {
            let mut young = bench.message(&[false]);
            advance(PATIENCE / 4).await;
            let item = bench.outbox.waiting.pop_back().unwrap();
            bench.outbox.settle(item, Confirmation::Confirmed);
            assert_eq!(young.now(), Some(true));
        }
        let _more = [(); 3].map(|()| bench.message(&[false]));
        bench.let_go();
        assert_eq!(bench.lost(), 1);
        assert_eq!(oldest.now(), Some(true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_event_outlives_the_message_that_is_let_go() {
        let mut bench = Bench::new();
        bench.outbox.confirmed = Some(Instant::now());
        let mut messages = [(); 3].map(|()| bench.message(&[true, false]));
        advance(STILL).await;
        bench.let_go();
        assert_eq!(messages[0].now(), Some(true));
        assert_eq!(bench.lost(), 1, "the outcome");
        assert_eq!(bench.outbox.waiting.len(), 5);
        assert!(bench.outbox.memory > 0);
        bench.told(Confirmation::Confirmed);
        assert_eq!(bench.outbox.memory, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_message_waits_for_a_token_event_that_is_refused_and_its_waits_grow() {
        let mut bench = Bench::new();
        let mut message = bench.message(&[true]);
        let began = Instant::now();
        bench.told(Confirmation::Refused);
        assert_eq!(message.now(), Some(true));
        let mut attempts = Vec::new();
        while attempts.len() < 12 {
            advance(Duration::from_millis(100)).await;
            bench.outbox.retry();
            if !bench.outbox.waiting.is_empty() {
                attempts.push(began.elapsed().as_secs());
                bench.told(Confirmation::Refused);
            }
        }
        let waits: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(attempts[0], 1);
        for (wait, expected) in waits
            .iter()
            .zip([2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300])
        {
            assert!(wait.abs_diff(expected) <= 2, "{waits:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_queue_took_goes_at_once_when_it_is_declared_again() {
        let mut bench = Bench::new();
        let _messages = [(); 2].map(|()| bench.message(&[true]));
        bench.told(Confirmation::Refused);
        bench.told(Confirmation::Returned);
        bench.outbox.declaring = Some(async { true }.boxed().shared());
        bench.outbox.look_at_declaring();
        bench.outbox.retry();
        assert_eq!(bench.outbox.waiting.len(), 1, "the one that was returned");
        assert_eq!(bench.outbox.waiting[0].number, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_token_events_are_dropped_when_they_are_too_many() {
        let mut bench = Bench::new();
        let _outcome = bench.message(&[false]);
        bench.told(Confirmation::Refused);
        let mut size = 0;
        for _ in 0..5 {
            let _message = bench.message(&[true]);
            size = bench.outbox.waiting[0].size();
            bench.outbox.memory_max = 3 * size;
            bench.told(Confirmation::Refused);
        }
        assert_eq!(bench.lost(), 2);
        assert_eq!(bench.outbox.memory, 3 * size);
        let left: Vec<_> = bench.outbox.retries.keys().copied().collect();
        assert_eq!(left, [0, 3, 4, 5], "a message still waits for the first");
        assert_eq!(bench.outbox.left(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_confirmed_is_published_again_in_order() {
        let mut bench = Bench::new();
        let _messages = [(); 4].map(|()| bench.message(&[false]));
        let published: Vec<_> = bench.outbox.waiting.drain(..2).collect();
        bench.outbox.take_back(published.into_iter().rev());
        let order: Vec<_> = bench
            .outbox
            .waiting
            .iter()
            .map(|item| item.number)
            .collect();
        assert_eq!(order, [0, 1, 2, 3]);
    }
}
