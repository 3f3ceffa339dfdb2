//! The seam through which the engine reports.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::error;
use uuid::Uuid;

use crate::call::event::Platform;
use crate::call::outcome::{Outcomes, Report, TraceContext};
use crate::call::receipt::{Receipt, Receipts};

use super::message::{Message, epoch_seconds, properties};
use super::wire::short;

/// What an item takes beside its body, in bytes: more than measured.
const OVERHEAD: usize = 512;

/// A report on its way, written once whatever becomes of the session.
pub(crate) struct Item {
    /// Tells older from younger.
    pub(crate) number: u64,
    key: String,
    /// Whether it is a token event. A lost outcome costs a line in a report, a
    /// lost token event keeps a dead token alive: it has to find a queue, and
    /// is kept until one takes it.
    pub(crate) token: bool,
    id: Uuid,
    call_id: Arc<str>,
    trace: Arc<TraceContext>,
    /// When it was made, in seconds since the epoch.
    seconds: u64,
    body: Bytes,
    pub(crate) since: Instant,
    /// How long it waited for its latest attempt.
    pub(crate) wait: Duration,
    /// The place in the message that waits for it; none if none does any more.
    pub(crate) receipt: Option<Receipt>,
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The body of a token event holds the token.
        write!(f, "Item({})", self.key)
    }
}

impl Item {
    fn new(report: Report, receipt: Receipt) -> serde_json::Result<Self> {
        Ok(Self {
            number: 0,
            key: report.routing_key(),
            token: report.is_essential(),
            id: Uuid::new_v4(),
            seconds: epoch_seconds(),
            body: report.to_json()?.into(),
            call_id: report.call_id,
            trace: report.trace,
            since: Instant::now(),
            wait: Duration::ZERO,
            receipt: Some(receipt),
        })
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Whether nobody wants it published any more.
    pub(crate) fn is_unwanted(&self) -> bool {
        !self.token && self.receipt.as_ref().is_none_or(Receipt::is_given_up)
    }

    /// No message waits for it any more, if one did: its bytes of memory then.
    pub(crate) fn detach(&mut self) -> usize {
        let Some(receipt) = self.receipt.take() else {
            return 0;
        };
        receipt.safe();
        self.size()
    }

    /// Bytes of memory.
    pub(crate) fn size(&self) -> usize {
        OVERHEAD + self.body.len()
    }

    /// What is published. Without a queue for it nobody wants an outcome; a
    /// token event must find its queue.
    pub(crate) fn message(&self, exchange: &str) -> Message {
        let id = self.id.hyphenated();
        let id = id.encode_lower(&mut Uuid::encode_buffer()).to_owned();
        Message {
            exchange: short(exchange),
            key: short(&self.key),
            mandatory: self.token,
            properties: properties(&id, &self.call_id, &self.trace, self.seconds),
            body: self.body.clone(),
        }
    }
}

/// The queues that rings wait in; unknown is the one for any platform.
pub(crate) const QUEUES: [Platform; 3] = [Platform::Ios, Platform::Android, Platform::Unknown];

/// How many messages of each queue are held up by nothing but their reports.
#[derive(Debug, Default)]
pub(crate) struct HeldUp([AtomicUsize; QUEUES.len()]);

impl HeldUp {
    /// Of this platform's queue.
    pub(crate) const fn of(&self, platform: Platform) -> &AtomicUsize {
        match platform {
            Platform::Ios => &self.0[0],
            Platform::Android => &self.0[1],
            Platform::Unknown => &self.0[2],
        }
    }
}

/// One of them; dropping it lets the message go.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The seam through which the engine reports ([`Outcomes`]).
#[derive(Debug)]
pub struct Reports {
    items: mpsc::UnboundedSender<Item>,
    held_up: Arc<HeldUp>,
}

impl Reports {
    /// The seam, and where reports come out. There are never more of them than
    /// the messages under way have devices, and token events that left them.
    pub(crate) fn new(held_up: Arc<HeldUp>) -> (Self, mpsc::UnboundedReceiver<Item>) {
        let (items, incoming) = mpsc::unbounded_channel();
        (Self { items, held_up }, incoming)
    }
}

impl Outcomes for Reports {
    fn publish(&self, report: Report, receipt: Receipt) {
        // A receipt that is dropped says that its report will never be safe.
        match Item::new(report, receipt) {
            Ok(item) => drop(self.items.send(item)),
            Err(error) => error!(%error, "a report cannot be written as JSON"),
        }
    }

    fn until_safe<'a>(&'a self, platform: Platform, receipts: &'a Receipts) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            if receipts.all_safe() {
                return true;
            }
            receipts.hold_up(platform);
            let held_up = self.held_up.of(platform);
            held_up.fetch_add(1, Ordering::AcqRel);
            let _waiting = Waiting(held_up);
            receipts.wait().await
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::call::event::{EventKind, TargetKind};
    use crate::call::outcome::{PushOutcome, PushResult, ReportBody, TokenEvent, TokenVerdict};
    use crate::call::time::Timestamp;

    /// A report of a push or a token event.
    pub(crate) fn report(token: bool) -> Report {
        let at = Timestamp::from_millis(0);
        let (platform, call_id): (_, Arc<str>) = (Platform::Ios, "c1".into());
        let body = if token {
            ReportBody::Token(TokenEvent {
                at,
                verdict: TokenVerdict::Dead,
                reason: None,
                app: "a".into(),
                platform,
                environment: None,
                device_id: "d".into(),
                token: "abcdef".into(),
                target: TargetKind::Token,
                registered_at: None,
                provider_timestamp: None,
            })
        } else {
            ReportBody::Push(PushOutcome {
                at,
                event: EventKind::Ring,
                event_id: Uuid::nil(),
                call_id: Arc::clone(&call_id),
                device_id: None,
                app: None,
                platform,
                environment: None,
                result: PushResult::Accepted,
                reason: None,
                detail: None,
                provider_id: None,
                attempts: 1,
                queue_ms: 0,
                push_ms: 0,
            })
        };
        Report {
            body,
            call_id,
            trace: Arc::default(),
        }
    }

    /// The same on its way.
    pub(crate) fn item(token: bool, receipts: &Receipts) -> Item {
        Item::new(report(token), receipts.expect()).unwrap()
    }

    #[test]
    fn what_is_published_says_what_it_is_and_shows_no_token() {
        let receipts = Receipts::default();
        let (push, token) = (item(false, &receipts), item(true, &receipts));
        assert!(!format!("{token:?}").contains("abcdef"));
        assert!(!push.message("x").mandatory && token.message("x").mandatory);
        let message = token.message("p.outcomes");
        assert_eq!(message.exchange.as_str(), "p.outcomes");
        assert_eq!(message.key.as_str(), "token.ios.dead");
        assert_eq!(message.properties.correlation_id(), &Some("c1".into()));
        assert_eq!(
            message.properties.message_id(),
            token.message("p.outcomes").properties.message_id(),
            "the same however often it is published"
        );
        receipts.hold_up(Platform::Ios);
        push.receipt.as_ref().unwrap().give_up();
        assert!(push.is_unwanted() && !token.is_unwanted());
    }
}
