//! Reports on their way to the outcomes exchange. They survive the session:
//! what was not confirmed is published again after a reconnect, in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use lapin::BasicProperties;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::error;
use uuid::Uuid;

use crate::call::event::Platform;
use crate::call::outcome::{Outcomes, Report, TraceContext};
use crate::call::receipt::{Receipt, Receipts};
use crate::metrics::Metrics;

use super::AmqpError;
use super::ledger::Fate;
use super::publisher::{ConfirmChannel, Message, WINDOW};
use super::repair::{Lost, Repairs};
use super::settle::Line;
use super::wire::{short, table, text};

/// How long a report that was refused or returned waits for its next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// At most one line about lost reports in this time.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Reports that may wait before those that were given up are looked for.
const CROWDED: usize = 4 * WINDOW;

/// A report, and whom to tell when it is safe.
struct Item {
    report: Report,
    id: Uuid,
    receipt: Receipt,
}

impl Item {
    /// Whether nobody waits for it any more and it may be given up.
    fn is_forgotten(&self) -> bool {
        self.receipt.is_given_up()
    }
}

/// The seam through which the engine reports ([`Outcomes`]).
#[derive(Debug)]
pub struct Reports {
    sender: mpsc::UnboundedSender<Item>,
    lines: [Line; 3],
    metrics: Metrics,
    complained: Mutex<Option<Instant>>,
    lost_since: AtomicU64,
}

impl Reports {
    /// The seam and the queue behind it, which a session serves. The oldest
    /// messages' reports are given up when half of `prefetch` messages wait for
    /// confirms alone and none or hardly any come.
    pub(crate) fn new(prefetch: u16, metrics: Metrics) -> (Self, ReportQueue) {
        let (sender, incoming) = mpsc::unbounded_channel();
        let limit = usize::from(prefetch / 2).max(1);
        let reports = Self {
            sender,
            lines: std::array::from_fn(|_| Line::new(limit)),
            metrics,
            complained: Mutex::new(None),
            lost_since: AtomicU64::new(0),
        };
        (reports, ReportQueue::new(incoming))
    }

    fn line(&self, platform: Platform) -> &Line {
        match platform {
            Platform::Ios => &self.lines[0],
            Platform::Android => &self.lines[1],
            Platform::Unknown => &self.lines[2],
        }
    }

    /// Gives up what may be given up.
    fn lose(&self, receipts: &Receipts) {
        let lost = u64::try_from(receipts.give_up()).unwrap_or(u64::MAX);
        if lost == 0 {
            return;
        }
        self.metrics.reports_lost.inc_by(lost);
        self.lost_since.fetch_add(lost, Ordering::Relaxed);
        let now = Instant::now();
        let mut complained = self
            .complained
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if complained.is_some_and(|at| now - at < COMPLAIN_EVERY) {
            return;
        }
        *complained = Some(now);
        let reports = self.lost_since.swap(0, Ordering::Relaxed);
        error!(
            reports,
            "half of the prefetch waits for the broker to confirm reports, and it does not: gave up \
             reports so that rings go on"
        );
    }
}

impl Outcomes for Reports {
    fn publish(&self, report: Report, receipt: Receipt) {
        // If the queue is gone, so is the receipt, which says so.
        let _ = self.sender.send(Item {
            report,
            id: Uuid::new_v4(),
            receipt,
        });
    }

    fn settle<'a>(&'a self, platform: Platform, receipts: &'a Receipts) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            if receipts.all_safe() {
                return true;
            }
            let mut ticket = self.line(platform).join(receipts.has_essential());
            tokio::select! {
                biased;
                all = receipts.wait() => return all,
                () = ticket.give_up() => {}
            }
            self.lose(receipts);
            receipts.wait().await
        })
    }
}

/// The reports not yet confirmed. Bounded by the prefetch: there are only as
/// many as the messages under way have devices.
pub(crate) struct ReportQueue {
    incoming: mpsc::UnboundedReceiver<Item>,
    waiting: VecDeque<Item>,
    published: BTreeMap<u64, Item>,
    /// Refused or returned, with the time of their next attempt.
    again: VecDeque<(Instant, Item)>,
    /// How many may wait before those given up are put away.
    crowded: usize,
}

impl ReportQueue {
    fn new(incoming: mpsc::UnboundedReceiver<Item>) -> Self {
        Self {
            incoming,
            waiting: VecDeque::new(),
            published: BTreeMap::new(),
            again: VecDeque::new(),
            crowded: CROWDED,
        }
    }

    /// Publishes on this channel until it fails or is dropped;
    /// [`ReportQueue::take_back`] is to be called then.
    pub(crate) async fn serve(
        &mut self,
        channel: &mut ConfirmChannel,
        exchange: &str,
        repairs: &Repairs,
    ) -> AmqpError {
        loop {
            match self.step(channel, exchange).await {
                Ok(None) => {}
                // It is published again in any case; meanwhile the others go on.
                Ok(Some(lost)) => repairs.ask(lost),
                Err(error) => return error,
            }
        }
    }

    /// The next thing that happens; a report that found no queue, if it was
    /// that.
    async fn step(
        &mut self,
        channel: &mut ConfirmChannel,
        exchange: &str,
    ) -> Result<Option<Lost>, AmqpError> {
        while channel.outstanding() < WINDOW
            && let Some(item) = self.waiting.pop_front()
        {
            if item.is_forgotten() {
                continue;
            }
            let Some(message) = message(&item, exchange) else {
                continue;
            };
            self.published.insert(channel.publish(message), item);
        }
        let due = self.again.front().map(|(due, _)| *due);
        tokio::select! {
            biased;
            fate = channel.next() => {
                let (seq, fate) = fate?;
                let returned = self.settle(seq, fate);
                return Ok(returned.map(|key| Lost { exchange: exchange.to_owned(), key }));
            }
            item = self.incoming.recv() => {
                let Some(item) = item else { return std::future::pending().await };
                self.take(item);
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                self.waiting.extend(self.again.pop_front().map(|(_, item)| item));
            }
        }
        Ok(None)
    }

    /// Puts an item at the end of the line, and those away that were given up:
    /// while the broker blocks nothing else would take them off it.
    fn take(&mut self, item: Item) {
        self.waiting.push_back(item);
        if self.waiting.len() >= self.crowded {
            self.waiting.retain(|item| !item.is_forgotten());
            self.crowded = (2 * self.waiting.len()).max(CROWDED);
        }
    }

    /// Takes down what became of a report. The routing key that no queue is
    /// bound to, if that was it.
    fn settle(&mut self, seq: u64, fate: Fate) -> Option<String> {
        let item = self.published.remove(&seq)?;
        let returned = match fate {
            Fate::Confirmed => {
                item.receipt.safe();
                return None;
            }
            Fate::Refused => None,
            Fate::Returned => Some(item.report.routing_key()),
        };
        self.again.push_back((Instant::now() + RETRY_AFTER, item));
        returned
    }

    /// Puts what was published and not confirmed back to the front, when a
    /// session has ended.
    pub(crate) fn take_back(&mut self) {
        let mut items: VecDeque<Item> = std::mem::take(&mut self.published)
            .into_values()
            .chain(self.again.drain(..).map(|(_, item)| item))
            .collect();
        items.append(&mut self.waiting);
        items.retain(|item| !item.is_forgotten());
        self.waiting = items;
    }
}

fn message(item: &Item, exchange: &str) -> Option<Message> {
    let body = match item.report.to_json() {
        Ok(body) => body,
        Err(error) => {
            error!(%error, "a report cannot be written as JSON");
            return None;
        }
    };
    Some(Message {
        exchange: exchange.to_owned(),
        key: item.report.routing_key(),
        // Without a queue for it, nobody wants an outcome; a token event must
        // find its queue.
        mandatory: item.report.is_essential(),
        properties: properties(
            &item.id.to_string(),
            &item.report.call_id,
            &item.report.trace,
        ),
        body: body.into(),
    })
}

/// Properties of a message of ours.
pub(crate) fn properties(id: &str, call_id: &str, trace: &TraceContext) -> BasicProperties {
    let mut headers = table([]);
    for (name, value) in [
        ("traceparent", &trace.traceparent),
        ("tracestate", &trace.tracestate),
    ] {
        if let Some(value) = value {
            headers.insert(name.into(), text(value));
        }
    }
    let seconds = chrono::Utc::now().timestamp();
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2)
        .with_message_id(short(id))
        .with_timestamp(u64::try_from(seconds).unwrap_or(0))
        .with_correlation_id(short(call_id))
        .with_headers(headers)
}
