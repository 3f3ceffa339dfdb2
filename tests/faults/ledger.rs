//! The books of a scenario: every ring that was published, every report that
//! came of it, every push that arrived.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use ringpush::simulator::Simulator;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::support::events::{APP, android_token, ios_token};

/// One operation on the broker, which may be going down.
const STEP: Duration = Duration::from_secs(5);

/// A ring for one phone.
#[derive(Clone)]
pub(crate) struct Ring {
    pub(crate) event_id: String,
    pub(crate) token: String,
    pub(crate) platform: &'static str,
    pub(crate) sent: DateTime<Utc>,
    pub(crate) expires: DateTime<Utc>,
    /// When the broker had it.
    #[allow(dead_code, reason = "read by scripts/chaos")]
    pub(crate) published: Option<DateTime<Utc>>,
    body: Vec<u8>,
}

impl Ring {
    /// Sent now, for a phone with a token of its own that begins so.
    pub(crate) fn new(platform: &'static str, ttl: Duration, prefix: &str) -> Self {
        let (event_id, device) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        let own = if platform == "ios" {
            ios_token()
        } else {
            android_token()
        };
        let token = format!("{prefix}{}", &own[prefix.len()..]);
        let now = Utc::now();
        let expires = now + ttl;
        let text = |at: DateTime<Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        let event = json!({
            "v": 1, "event": "ring", "event_id": event_id, "call_id": format!("c-{event_id}"),
            "sent_at": text(now), "expires_at": text(expires),
            "caller": {"id": "u1", "name": "Ada Example"},
            "devices": [{"id": device, "platform": platform, "app": APP, "token": token}],
        });
        Self {
            event_id,

            token,
            platform,
            sent: now,
            expires,
            published: None,
            body: event.to_string().into_bytes(),
        }
    }
}

/// The books.
pub(crate) struct Ledger {
    url: String,
    prefix: String,
    pub(crate) rings: Vec<Ring>,
    line: Option<(Connection, Channel)>,
}

impl Ledger {
    /// Makes a queue of its own for every report, one that survives a broker.
    pub(crate) async fn open(url: &str, prefix: &str) -> Self {
        let mut ledger = Self {
            url: url.to_owned(),
            prefix: prefix.to_owned(),
            rings: Vec::new(),
            line: None,
        };
        let channel = ledger.channel().await;
        let exchange = format!("{prefix}.outcomes");
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(
                exchange.as_str().into(),
                ExchangeKind::Topic,
                durable,
                FieldTable::default(),
            )
            .await
            .expect("the exchange");
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let queue = ledger.queue();
        channel
            .queue_declare(queue.as_str().into(), durable, FieldTable::default())
            .await
            .expect("a queue");
        channel
            .queue_bind(
                queue.as_str().into(),
                exchange.as_str().into(),
                "#".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("bound");
        ledger
    }

    fn queue(&self) -> String {
        format!("{}.seen", self.prefix)
    }

    /// A channel on a connection that works, as soon as there is one.
    async fn channel(&mut self) -> Channel {
        loop {
            if let Some((_, channel)) = &self.line
                && channel.status().connected()
            {
                return channel.clone();
            }
            self.line = timeout(STEP, connect(&self.url))
                .await
                .ok()
                .and_then(Result::ok);
            if self.line.is_none() {
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Publishes rings and waits until the broker has them all: what was not
    /// confirmed is published again, as a careful producer does.
    pub(crate) async fn publish(&mut self, rings: Vec<Ring>) {
        let mut open: Vec<Ring> = rings;
        while !open.is_empty() {
            let channel = self.channel().await;
            let mut confirms = Vec::new();
            for ring in &open {
                let sent = publish(&channel, &self.prefix, ring).await;
                confirms.push(sent);
            }
            let mut left = Vec::new();
            for (ring, confirm) in open.into_iter().zip(confirms) {
                let confirmed = match confirm {
                    Ok(confirm) => timeout(STEP, confirm).await,
                    Err(_) => Ok(Ok(lapin::Confirmation::NotRequested)),
                };
                if matches!(&confirmed, Ok(Ok(confirmed)) if confirmed.is_ack()) {
                    self.rings.push(Ring {
                        published: Some(Utc::now()),
                        ..ring
                    });
                } else {
                    left.push(ring);
                }
            }
            if !left.is_empty() {
                self.line = None;
            }
            open = left;
        }
    }

    /// Publishes rings for one platform, all at once.
    pub(crate) async fn ring(&mut self, platform: &'static str, count: usize, ttl: u64) {
        let ttl = Duration::from_secs(ttl);
        let rings = (0..count).map(|_| Ring::new(platform, ttl, "")).collect();
        self.publish(rings).await;
    }

    /// Publishes rings at a steady pace, for both platforms in turn.
    pub(crate) async fn load(&mut self, per_second: u32, time: Duration, ttl: u64) {
        let begun = Instant::now();
        let ttl = Duration::from_secs(ttl);
        let mut sent = 0_u32;
        while begun.elapsed() < time {
            let due = (begun.elapsed().as_secs_f64() * f64::from(per_second)).floor();
            let mut rings = Vec::new();
            while f64::from(sent) < due {
                let platform = if sent.is_multiple_of(2) {
                    "ios"
                } else {
                    "android"
                };
                rings.push(Ring::new(platform, ttl, ""));
                sent += 1;
            }
            self.publish(rings).await;
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until every ring has an outcome, and a moment for what should not
    /// come any more. At most `patience`.
    pub(crate) async fn collect(&mut self, patience: Duration) -> Books {
        let mut open: HashSet<String> = self.rings.iter().map(|r| r.event_id.clone()).collect();
        let mut seen = HashSet::new();
        let mut reports = Vec::new();
        let until = Instant::now() + patience;
        while Instant::now() < until {
            let channel = self.channel().await;
            let mut note = |id: String, report: Value| {
                if !seen.insert(id) {
                    return !open.is_empty();
                }
                if report["type"] == "push" {
                    open.remove(report["event_id"].as_str().unwrap_or_default());
                }
                reports.push(report);
                !open.is_empty()
            };
            if read(&channel, &self.queue(), until, &mut note).await {
                break;
            }
            self.line = None;
        }
        Books {
            rings: self.rings.clone(),
            reports,
        }
    }
}

async fn connect(url: &str) -> lapin::Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    channel.basic_qos(500, BasicQosOptions::default()).await?;
    Ok((connection, channel))
}

async fn publish(
    channel: &Channel,
    prefix: &str,
    ring: &Ring,
) -> lapin::Result<lapin::PublisherConfirm> {
    let exchange = format!("{prefix}.calls");
    let key = format!("ring.{}", ring.platform);
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let properties = BasicProperties::default().with_delivery_mode(2);
    channel
        .basic_publish(
            exchange.as_str().into(),
            key.as_str().into(),
            options,
            &ring.body,
            properties,
        )
        .await
}

/// Reads reports until `wanted` says enough and nothing has come for a moment.
/// `false` if the connection failed.
async fn read(
    channel: &Channel,
    queue: &str,
    until: Instant,
    wanted: &mut impl FnMut(String, Value) -> bool,
) -> bool {
    let consume = channel.basic_consume(
        queue.into(),
        "".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let Ok(Ok(mut consumer)) = timeout(STEP, consume).await else {
        return false;
    };
    let mut more = true;
    loop {
        let patience = if more {
            until.saturating_duration_since(Instant::now())
        } else {
            Duration::from_millis(400)
        };
        match timeout(patience, consumer.next()).await {
            Err(_) => return true,
            Ok(None | Some(Err(_))) => return false,
            Ok(Some(Ok(delivery))) => {
                let id = delivery.properties.message_id().as_ref();
                let id = id.map(ToString::to_string).expect("reports have ids");
                let report = serde_json::from_slice(&delivery.data).expect("JSON");
                more = wanted(id, report);
                let ack = channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default());
                if ack.await.is_err() {
                    return false;
                }
            }
        }
    }
}

/// What was found in the end.
pub(crate) struct Books {
    pub(crate) rings: Vec<Ring>,
    pub(crate) reports: Vec<Value>,
}

impl Books {
    /// Reports of a type.
    pub(crate) fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.reports
            .iter()
            .filter(move |report| report["type"] == kind)
    }

    /// The outcomes of each ring.
    pub(crate) fn outcomes(&self) -> HashMap<&str, Vec<&Value>> {
        let mut all: HashMap<&str, Vec<&Value>> = HashMap::new();
        for push in self.of("push") {
            all.entry(push["event_id"].as_str().expect("an id"))
                .or_default()
                .push(push);
        }
        all
    }

    /// How many rings ended how; every ring counts once.
    pub(crate) fn results(&self) -> BTreeMap<String, usize> {
        let mut results = BTreeMap::new();
        let outcomes = self.outcomes();
        for ring in &self.rings {
            let result = match outcomes.get(ring.event_id.as_str()).map(Vec::as_slice) {
                Some([first, ..]) => first["result"].as_str().expect("a result"),
                Some([]) | None => "missing",
            };
            *results.entry(result.to_owned()).or_default() += 1;
        }
        results
    }

    /// Every ring has one outcome, and there is none without a ring. With
    /// `again`, some may have been reported twice: a worker was killed.
    pub(crate) fn balance(&self, again: bool) {
        let outcomes = self.outcomes();
        let missing: Vec<_> = self
            .rings
            .iter()
            .filter(|ring| !outcomes.contains_key(ring.event_id.as_str()))
            .map(|ring| &ring.event_id)
            .collect();
        assert!(missing.is_empty(), "no outcome for {missing:?}");
        assert_eq!(outcomes.len(), self.rings.len(), "outcomes of other rings");
        if !again {
            let twice: Vec<_> = outcomes.values().filter(|o| o.len() > 1).collect();
            assert!(twice.is_empty(), "reported twice: {twice:?}");
        }
    }

    /// Every ring was accepted, and every phone's service has it. Gives the
    /// number of pushes beyond one per ring.
    pub(crate) fn all_accepted(&self, simulator: &Simulator) -> u64 {
        let expected = BTreeMap::from([("accepted".to_owned(), self.rings.len())]);
        assert_eq!(self.results(), expected, "{:#?}", self.trouble());
        self.arrived(simulator)
    }

    /// Every accepted ring arrived. Gives the number of pushes beyond one each.
    pub(crate) fn arrived(&self, simulator: &Simulator) -> u64 {
        let delivered: HashSet<String> = simulator
            .record()
            .pushes()
            .iter()
            // Of an acceptance the head is enough.
            .filter(|record| {
                record.answer.delivered || record.answer.fault == Some("headers_then_hang")
            })
            .filter_map(|record| record.token.clone())
            .collect();
        let outcomes = self.outcomes();
        for ring in &self.rings {
            let outcome = outcomes.get(ring.event_id.as_str());
            let accepted = outcome.is_some_and(|o| o.iter().any(|o| o["result"] == "accepted"));
            assert!(
                !accepted || delivered.contains(&ring.token),
                "accepted and never delivered: {}",
                ring.event_id
            );
        }
        let tally = simulator.record().tally();
        tally.delivered - tally.distinct
    }

    /// Outcomes that are not `accepted`, for a test that fails.
    pub(crate) fn trouble(&self) -> Vec<&Value> {
        let bad = self.of("push").filter(|push| push["result"] != "accepted");
        bad.take(5).collect()
    }

    /// From the moment before publishing to the final outcome, the longest
    /// first, in milliseconds.
    pub(crate) fn latencies(&self, platform: &str) -> Vec<i64> {
        let outcomes = self.outcomes();
        let mut all: Vec<i64> = self
            .rings
            .iter()
            .filter(|ring| ring.platform == platform)
            .filter_map(|ring| {
                let outcome = outcomes.get(ring.event_id.as_str())?.first()?;
                let at = DateTime::parse_from_rfc3339(outcome["at"].as_str()?).ok()?;
                Some((at.to_utc() - ring.sent).num_milliseconds())
            })
            .collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all
    }

    /// Requests that were started for all rings.
    pub(crate) fn attempts(&self) -> u64 {
        let attempts = self.of("push").filter_map(|push| push["attempts"].as_u64());
        attempts.sum()
    }
}
