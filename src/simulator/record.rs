//! What arrived and what it was answered: a bounded journal, and a count per
//! push that stays cheap at any load.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::HeaderMap;
use serde_json::Value;
use tokio::sync::{broadcast, watch};

use super::kind::ServerKind;

/// One request and what became of it. `Debug` shows neither device token nor
/// payload.
#[derive(Clone)]
pub struct Record {
    /// When it was judged.
    pub at: DateTime<Utc>,
    /// By which server.
    pub server: ServerKind,
    /// The connection's number, from 1, unique in this simulator.
    pub connection: u64,
    /// The HTTP/2 stream; 0 on the token server.
    pub stream: u32,
    /// HTTP method.
    pub method: http::Method,
    /// `:path`, which on `APNs` ends in the device token.
    pub path: String,
    /// Every header except `authorization`.
    pub headers: HeaderMap,
    /// What the provider token (`APNs`) or the assertion (OAuth) claims.
    pub claims: Option<Claims>,
    /// The body as it came.
    pub body: Bytes,
    /// The device token, where one was given.
    pub token: Option<String>,
    /// What makes this push one push: `apns-id`, or on FCM the data's
    /// `event_id` and the device token.
    pub push_id: Option<String>,
    /// What the provider's rules say against it; empty for a good request.
    pub violations: Vec<String>,
    /// The answer.
    pub answer: Answer,
}

/// The claims of a JWT, never the JWT itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Key id, from the header.
    pub kid: Option<String>,
    /// Issuer: the team, or the service account.
    pub iss: Option<String>,
    /// Issued at, seconds since 1970.
    pub iat: Option<i64>,
}

/// How a request was answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// HTTP status; `None` if a fault took its place.
    pub status: Option<u16>,
    /// The provider's word for what is wrong.
    pub reason: Option<String>,
    /// The scripted fault, such as `hang`.
    pub fault: Option<&'static str>,
    /// `apns-id` or the message's name.
    pub id: Option<String>,
    /// Whether a phone would ring: accepted, and not only validated.
    pub delivered: bool,
}

impl Record {
    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The device token's first characters, for people.
    #[must_use]
    pub fn short_token(&self) -> String {
        let token = self.token.as_deref().unwrap_or_default();
        let short: String = token.chars().take(8).collect();
        if short.len() < token.len() {
            short + "…"
        } else {
            short
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("at", &self.at)
            .field("server", &self.server)
            .field("connection", &self.connection)
            .field("stream", &self.stream)
            .field("push_id", &self.push_id.is_some())
            .field("body_bytes", &self.body.len())
            .field("violations", &self.violations)
            .field("answer", &self.answer)
            .finish_non_exhaustive()
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The latest records, so many, and the counts.
    Records(usize),
    /// Counts only: for load.
    Counts,
}

/// How often pushes arrived, by push id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Requests to the push servers.
    pub requests: u64,
    /// Requests answered 200 by the servers' own rules.
    pub delivered: u64,
    /// Different push ids that were delivered at least once.
    pub distinct: u64,
    /// Push ids that were delivered more than once.
    pub repeated: u64,
}

/// See the module.
pub struct Journal {
    inner: Mutex<Inner>,
    keep: Keep,
    pushes: watch::Sender<u64>,
    live: broadcast::Sender<Arc<Record>>,
}

#[derive(Default)]
struct Inner {
    records: VecDeque<Arc<Record>>,
    deliveries: HashMap<[u8; 16], u32>,
    tally: Tally,
}

/// Push ids that are told apart; beyond it they are only summed up.
const IDS: usize = 4_000_000;
const LIVE: usize = 4_096;

impl Journal {
    pub(super) fn new(keep: Keep) -> Self {
        Self {
            inner: Mutex::default(),
            keep,
            pushes: watch::Sender::new(0),
            live: broadcast::Sender::new(LIVE),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, record: Record) {
        let counted = record.server != ServerKind::Oauth;
        let id = record
            .push_id
            .as_deref()
            .filter(|_| record.answer.delivered)
            .map(digest);
        let delivered = record.answer.delivered;
        let record = match self.keep {
            Keep::Counts if self.live.receiver_count() == 0 => None,
            Keep::Counts | Keep::Records(_) => Some(Arc::new(record)),
        };
        let mut inner = self.inner();
        if counted {
            inner.count(delivered, id);
        }
        if let (Keep::Records(most), Some(record)) = (self.keep, &record) {
            if inner.records.len() >= most {
                inner.records.pop_front();
            }
            inner.records.push_back(Arc::clone(record));
        }
        let requests = inner.tally.requests;
        drop(inner);
        if let Some(record) = record {
            // Nobody listening is fine.
            let _ = self.live.send(record);
        }
        self.pushes.send_if_modified(|seen| {
            let more = requests > *seen;
            *seen = requests.max(*seen);
            more || !counted
        });
    }

    /// Every record kept, oldest first, of all servers.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Record>> {
        self.kept(|_| true)
    }

    /// The records kept of the push servers, without OAuth.
    #[must_use]
    pub fn pushes(&self) -> Vec<Arc<Record>> {
        self.kept(|server| server != ServerKind::Oauth)
    }

    /// The records kept of one server.
    #[must_use]
    pub fn of(&self, server: ServerKind) -> Vec<Arc<Record>> {
        self.kept(|other| other == server)
    }

    fn kept(&self, by: impl Fn(ServerKind) -> bool) -> Vec<Arc<Record>> {
        let records = &self.inner().records;
        let kept = records.iter().filter(|record| by(record.server));
        kept.cloned().collect()
    }

    /// Waits until `n` requests have come to the push servers since the start
    /// (or the last [`Self::clear`]); false after `timeout`.
    pub async fn wait_for(&self, n: u64, timeout: Duration) -> bool {
        let mut seen = self.pushes.subscribe();
        tokio::time::timeout(timeout, seen.wait_for(|count| *count >= n))
            .await
            .is_ok()
    }

    /// Waits until the records kept satisfy `enough`, asked after each new
    /// one; false after `timeout`.
    pub async fn wait_until(
        &self,
        timeout: Duration,
        mut enough: impl FnMut(&[Arc<Record>]) -> bool,
    ) -> bool {
        let mut seen = self.pushes.subscribe();
        let wait = async {
            while !enough(&self.all()) {
                if seen.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(timeout, wait).await.unwrap_or(false)
    }

    /// Records from now on; a listener that falls 4 096 behind misses some.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Record>> {
        self.live.subscribe()
    }

    /// The counts since the start or the last [`Self::clear`].
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.inner().tally
    }

    /// How often the push with this id was delivered.
    #[must_use]
    pub fn deliveries(&self, push_id: &str) -> u32 {
        self.inner()
            .deliveries
            .get(&digest(push_id))
            .copied()
            .unwrap_or(0)
    }

    /// Forgets records and counts.
    pub fn clear(&self) {
        let mut inner = self.inner();
        *inner = Inner::default();
        self.pushes.send_replace(0);
    }
}

impl Inner {
    fn count(&mut self, delivered: bool, id: Option<[u8; 16]>) {
        self.tally.requests += 1;
        self.tally.delivered += u64::from(delivered);
        let Some(id) = id else { return };
        if self.deliveries.len() >= IDS && !self.deliveries.contains_key(&id) {
            return;
        }
        let times = self.deliveries.entry(id).or_default();
        *times += 1;
        match *times {
            1 => self.tally.distinct += 1,
            2 => self.tally.repeated += 1,
            _ => {}
        }
    }
}

fn digest(id: &str) -> [u8; 16] {
    let digest = ring::digest::digest(&ring::digest::SHA256, id.as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&digest.as_ref()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(push_id: &str, delivered: bool) -> Record {
        Record {
            at: Utc::now(),
            server: ServerKind::ApnsProduction,
            connection: 1,
            stream: 1,
            method: http::Method::POST,
            path: "/3/device/secret-token".to_owned(),
            headers: HeaderMap::new(),
            claims: None,
            body: Bytes::from_static(b"{\"caller_name\":\"Somebody\"}"),
            token: Some("secret-token".to_owned()),
            push_id: Some(push_id.to_owned()),
            violations: Vec::new(),
            answer: Answer {
                delivered,
                ..Answer::default()
            },
        }
    }

    /// Exactly once must be provable from the counts alone.
    #[test]
    fn repeated_deliveries_are_counted_and_refusals_are_not() {
        let journal = Journal::new(Keep::Counts);
        for (id, delivered) in [
            ("a", true),
            ("b", false),
            ("b", true),
            ("c", true),
            ("c", true),
        ] {
            journal.push(record(id, delivered));
        }
        let expected = Tally {
            requests: 5,
            delivered: 4,
            distinct: 3,
            repeated: 1,
        };
        assert_eq!(journal.tally(), expected);
        assert_eq!((journal.deliveries("b"), journal.deliveries("c")), (1, 2));
        assert!(journal.all().is_empty(), "counts only");
    }

    /// A long-running simulator keeps the latest records only.
    #[test]
    fn the_journal_is_bounded() {
        let journal = Journal::new(Keep::Records(2));
        for id in ["a", "b", "c"] {
            journal.push(record(id, true));
        }
        let kept: Vec<_> = journal
            .all()
            .iter()
            .filter_map(|r| r.push_id.clone())
            .collect();
        assert_eq!(kept, ["b", "c"]);
    }

    /// Records end up in test output and logs.
    #[test]
    fn debug_shows_neither_token_nor_payload() {
        let text = format!("{:?}", record("a", true));
        assert!(
            !text.contains("secret") && !text.contains("Somebody"),
            "{text}"
        );
    }
}
