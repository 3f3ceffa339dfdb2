//! Reports on their way to the outcomes exchange. They survive the session:
//! what was not confirmed is published again after a reconnect, in order.
//!
//! Reports are published, and their confirms looked at, every few milliseconds
//! and all at once: a report is in no hurry, and each by itself would cost
//! several switches between threads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use lapin::types::ShortString;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::error;

use crate::call::event::Platform;
use crate::call::receipt::Receipt;
use crate::metrics::Metrics;

use super::complaint::Complaint;
use super::confirm_channel::ConfirmChannel;
use super::confirmation::Confirmation;
use super::error::AmqpError;
use super::redeclare::{Declaring, Redeclare};
use super::reports::{HeldUp, Item, QUEUES};
use super::retries::Retries;
use super::standstill::Standstill;
use super::wire::short;

/// Between two looks while there is something to do.
const TICK: Duration = Duration::from_millis(4);
/// The same while the broker takes its time.
const SLOW_TICK: Duration = Duration::from_millis(16);
/// After some messages were given up they get this long to go.
const GIVE_UP_EVERY: Duration = Duration::from_millis(20);
/// At most one line about lost reports in this time.
const LOST_EVERY: Duration = Duration::from_secs(10);
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
    retries: Retries,
    declaring: Option<Declaring>,
    standstill: Standstill,
    given_up_at: Instant,
    lost: Lost,
}

impl Outbox {
    /// An outbox for what comes in here.
    pub(crate) fn new(
        incoming: mpsc::UnboundedReceiver<Item>,
        held_up: Arc<HeldUp>,
        prefetch: u16,
        metrics: Metrics,
    ) -> Self {
        Self {
            incoming,
            held_up,
            held_up_max: usize::from(prefetch / 2),
            metrics,
            taken: 0,
            waiting: VecDeque::new(),
            retries: Retries::new(),
            declaring: None,
            standstill: Standstill::new(),
            given_up_at: Instant::now(),
            lost: Lost {
                reports: 0,
                complaint: Complaint::every(LOST_EVERY),
            },
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
            let retry = sleep_until(self.retries.next_look());
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
        self.standstill.begin();
        self.declaring = None;
        // The session has looked for the queues.
        self.retries.hurry();
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
            if let Some(key) = self.told(item, confirmation) {
                let declare = || redeclare.again(&short(exchange), &key);
                self.declaring.get_or_insert_with(declare);
            }
        }
        self.look_at_declaring();
        self.waiting.extend(self.retries.due());
        let blocked = channel.is_blocked();
        for platform in QUEUES {
            if self.too_many(platform) > 0 {
                let mut unconfirmed: Vec<_> = channel.unconfirmed().collect();
                self.give_up(platform, &mut unconfirmed, blocked);
            }
        }
        let room = channel.room().min(self.waiting.len());
        let batch = self.waiting.drain(..room);
        let batch = batch.filter(|item| !item.is_unwanted());
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
    fn told(&mut self, item: Item, confirmation: Confirmation) -> Option<ShortString> {
        let returned = match confirmation {
            Confirmation::Confirmed => {
                if !item.token {
                    self.standstill.confirmed();
                }
                self.retries.confirmed(item);
                return None;
            }
            Confirmation::Refused => false,
            Confirmation::Returned => true,
        };
        if item.is_unwanted() {
            return None;
        }
        let key = returned.then(|| short(item.key()));
        let dropped = self.retries.add(item, returned);
        self.lost.add(dropped, &self.metrics);
        key
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
                self.retries.hurry();
            }
        }
    }

    /// How many messages of a queue too many are held up.
    fn too_many(&self, platform: Platform) -> usize {
        let held_up = self.held_up.of(platform).load(Ordering::Acquire);
        held_up.saturating_sub(self.held_up_max)
    }

    /// Gives up the reports of a queue's oldest messages when too many wait for
    /// theirs, so that the messages can go: rings come before reports.
    fn give_up(&mut self, platform: Platform, published: &mut [&mut Item], blocked: bool) {
        let now = Instant::now();
        let mut too_many = self.too_many(platform);
        if too_many == 0 || now < self.given_up_at {
            return;
        }
        let mut items: Vec<&mut Item> = (published.iter_mut().map(|item| &mut **item))
            .chain(self.retries.items_mut())
            .chain(&mut self.waiting)
            .filter(|item| item.receipt.as_ref().and_then(Receipt::held_up) == Some(platform))
            .collect();
        items.sort_unstable_by_key(|item| item.number);
        for item in &items {
            let Some(receipt) = item.receipt.as_ref().filter(|r| !r.is_given_up()) else {
                continue;
            };
            if too_many == 0 || !self.standstill.is_hopeless(item.since, blocked) {
                break;
            }
            receipt.give_up();
            too_many -= 1;
        }
        let mut lost = 0;
        let mut tokens = 0;
        for item in items {
            if !item.receipt.as_ref().is_some_and(Receipt::is_given_up) {
                continue;
            }
            let detached = item.detach();
            if item.token {
                tokens += detached;
            } else {
                lost += 1;
            }
        }
        let dropped = self.retries.keep(tokens, &mut self.waiting);
        if lost > 0 {
            self.given_up_at = now + GIVE_UP_EVERY;
        }
        self.waiting.retain(|item| !item.is_unwanted());
        self.retries.drop_unwanted();
        self.lost.add(lost + dropped, &self.metrics);
    }

    /// Puts what was published and not confirmed back in its place, when a
    /// session has ended.
    pub(crate) fn take_back(&mut self, unconfirmed: impl Iterator<Item = Item>) {
        let waiting = std::mem::take(&mut self.waiting);
        let mut items: Vec<_> = unconfirmed.chain(waiting).collect();
        items.retain(|item| !item.is_unwanted());
        items.sort_unstable_by_key(|item| item.number);
        self.waiting = items.into();
    }

    /// Token events that go with the worker.
    pub(crate) fn left(&self) -> usize {
        let waiting = self.waiting.iter().filter(|item| item.token).count();
        waiting + self.retries.tokens()
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
    use super::super::standstill::{PATIENCE, STILL, STILL_AT_FIRST};
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
            let mut settling = Settling(reports.until_safe(Platform::Ios, receipts));
            assert_eq!(settling.now(), None);
            settling
        }

        fn give_up(&mut self) {
            self.outbox.give_up(Platform::Ios, &mut [], false);
        }

        fn lost(&self) -> u64 {
            self.outbox.metrics.reports_lost.get()
        }

        /// The broker's word on the oldest that waits to be published.
        fn told(&mut self, confirmation: Confirmation) {
            let item = self.outbox.waiting.pop_front().unwrap();
            self.outbox.told(item, confirmation);
        }
    }

    struct Settling(BoxFuture<'static, bool>);

    impl Settling {
        fn now(&mut self) -> Option<bool> {
            (&mut self.0).now_or_never()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_are_given_up_when_too_many_stand_still() {
        let mut bench = Bench::new();
        bench.outbox.standstill.confirmed();
        let mut messages = [false; 4].map(|token| bench.message(&[token, false]));
        bench.give_up();
        assert_eq!(bench.lost(), 0, "they have only just become too many");
        advance(STILL).await;
        bench.give_up();
        assert_eq!(bench.lost(), 4);
        let gone = messages.each_mut().map(Settling::now);
        assert_eq!(gone, [Some(true), Some(true), None, None]);
        assert_eq!(bench.outbox.waiting.len(), 4);
        advance(PATIENCE * 10).await;
        bench.give_up();
        assert_eq!(bench.lost(), 4, "two may wait for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_has_just_come_back_gets_more_time() {
        let mut bench = Bench::new();
        let _messages = [(); 3].map(|()| bench.message(&[false]));
        advance(STILL_AT_FIRST / 2).await;
        bench.give_up();
        assert_eq!(bench.lost(), 0);
        // Away and back: that time does not count.
        advance(STILL_AT_FIRST).await;
        bench.outbox.begin();
        bench.give_up();
        assert_eq!(bench.lost(), 0);
        advance(STILL_AT_FIRST).await;
        bench.give_up();
        assert_eq!(bench.lost(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_lost_while_a_busy_broker_confirms() {
        let mut bench = Bench::new();
        bench.outbox.standstill.confirmed();
        let mut messages: VecDeque<_> = (0..6).map(|_| bench.message(&[false])).collect();
        for _ in 0..20 {
            advance(STILL / 4).await;
            bench.told(Confirmation::Confirmed);
            assert_eq!(messages.pop_front().unwrap().now(), Some(true));
            messages.push_back(bench.message(&[false]));
            bench.give_up();
        }
        assert_eq!(bench.lost(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_too_long_are_given_up_even_if_others_go_on() {
        let mut bench = Bench::new();
        bench.outbox.standstill.confirmed();
        let mut oldest = bench.message(&[false]);
        for _ in 0..4 {
            let mut young = bench.message(&[false]);
            advance(PATIENCE / 4).await;
            let item = bench.outbox.waiting.pop_back().unwrap();
            bench.outbox.told(item, Confirmation::Confirmed);
            assert_eq!(young.now(), Some(true));
        }
        let _more = [(); 3].map(|()| bench.message(&[false]));
        bench.give_up();
        assert_eq!(bench.lost(), 1);
        assert_eq!(oldest.now(), Some(true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_event_outlives_the_message_that_is_given_up() {
        let mut bench = Bench::new();
        bench.outbox.standstill.confirmed();
        let mut messages = [(); 3].map(|()| bench.message(&[true, false]));
        advance(STILL).await;
        bench.give_up();
        assert_eq!(messages[0].now(), Some(true));
        assert_eq!(bench.lost(), 1, "the outcome");
        assert_eq!(bench.outbox.waiting.len(), 5);
        // Were its bytes not counted there would be less than none now.
        bench.told(Confirmation::Confirmed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_queue_took_goes_at_once_when_it_is_declared_again() {
        let mut bench = Bench::new();
        let _messages = [(); 2].map(|()| bench.message(&[true]));
        bench.told(Confirmation::Refused);
        bench.told(Confirmation::Returned);
        bench.outbox.declaring = Some(async { true }.boxed().shared());
        bench.outbox.look_at_declaring();
        let due = bench.outbox.retries.due();
        let due: Vec<_> = due.iter().map(|item| item.number).collect();
        assert_eq!(due, [1], "the one that was returned");
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
