//! A worker's broker side with a prefix of its own, and a plain client to look
//! at the broker with.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use lapin::message::{BasicGetMessage, Delivery};
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
    ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use ringpush::amqp::{AmqpError, PreparedWorker, Reports, Settings, Worker};
use ringpush::call::event::{EventKind, Platform, TargetKind};
use ringpush::call::outcome::{
    Outcomes, PushOutcome, PushResult, Report, ReportBody, TokenEvent, TokenVerdict, TraceContext,
};
use ringpush::call::payload::Profiles;
use ringpush::call::receipt::Receipts;
use ringpush::call::time::Timestamp;
use ringpush::engine::dispatch::Dispatcher;
use ringpush::engine::routes::Routes;
use ringpush::engine::settings::RingSettings;
use ringpush::metrics::Metrics;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// Longer than anything here takes, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const RING_WINDOW: Duration = Duration::from_secs(120);

pub(crate) fn settings(url: &str) -> Settings {
    Settings {
        url: url.into(),
        prefix: format!("t{}", Uuid::new_v4().simple()),
        ..Settings::default()
    }
}

/// A running worker's broker side.
pub(crate) struct Rig {
    pub(crate) settings: Settings,
    pub(crate) worker: Worker,
    pub(crate) reports: Arc<Reports>,
    pub(crate) metrics: Metrics,
}

impl Rig {
    pub(crate) fn start(settings: Settings) -> Self {
        // Shown for a test that fails.
        let _ = tracing_subscriber::fmt()
            .with_env_filter("ringpush=debug,lapin=off")
            .with_test_writer()
            .try_init();
        let metrics = Metrics::default();
        let (prepared, reports) =
            PreparedWorker::new(&settings, metrics.clone()).expect("valid settings");
        // No app: every device is rejected, which is a report like any other.
        let routes = Routes {
            apps: HashMap::new(),
            profiles: Profiles::built_in().expect("valid profiles"),
        };
        let dispatcher = Arc::new(Dispatcher::new(
            RingSettings::default(),
            routes,
            Arc::clone(&reports) as Arc<dyn Outcomes>,
            metrics.clone(),
        ));
        Self {
            settings,
            worker: prepared.start(dispatcher, RING_WINDOW),
            reports,
            metrics,
        }
    }

    pub(crate) async fn connected(url: &str) -> Self {
        let rig = Self::start(settings(url));
        rig.becomes(true).await;
        rig
    }

    pub(crate) async fn becomes(&self, connected: bool) {
        let mut state = self.worker.state();
        let became = timeout(PATIENCE, state.wait_for(|s| s.connected == connected)).await;
        let failed = !matches!(became, Ok(Ok(_)));
        drop(became);
        assert!(!failed, "not {connected}: {:?}", state.borrow());
    }

    pub(crate) fn name(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.settings.prefix)
    }

    /// Reports these, as one message's, and tells whether that message may be
    /// acknowledged.
    pub(crate) fn until_safe(
        &self,
        said: impl IntoIterator<Item = Report>,
    ) -> BoxFuture<'static, bool> {
        let reports = Arc::clone(&self.reports);
        let receipts = Receipts::default();
        for report in said {
            reports.publish(report, receipts.expect());
        }
        Box::pin(async move { reports.until_safe(Platform::Ios, &receipts).await })
    }

    /// Ends the worker and deletes its exchanges and queues.
    pub(crate) async fn end(self) {
        let Self {
            settings, worker, ..
        } = self;
        worker.stop_taking();
        timeout(PATIENCE, worker.drained()).await.expect("drains");
        timeout(PATIENCE, worker.close()).await.expect("ends");
        Eye::open(settings.url.expose())
            .await
            .clean(&settings.prefix)
            .await;
    }
}

/// The error that a worker with these settings ends with at once.
pub(crate) async fn fatal(settings: Settings) -> AmqpError {
    let mut rig = Rig::start(settings);
    let error = timeout(PATIENCE, rig.worker.fatal()).await.expect("ends");
    rig.worker.close().await;
    error
}

/// A plain client.
pub(crate) struct Eye {
    pub(crate) connection: Connection,
    pub(crate) channel: Channel,
}

impl Eye {
    pub(crate) async fn open(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default())
            .await
            .expect("a broker");
        let channel = connection.create_channel().await.expect("a channel");
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .expect("confirms");
        Self {
            connection,
            channel,
        }
    }

    pub(crate) async fn publish(
        &self,
        exchange: &str,
        key: &str,
        body: &[u8],
        with: BasicProperties,
    ) {
        self.channel
            .basic_publish(
                exchange.into(),
                key.into(),
                BasicPublishOptions::default(),
                body,
                with,
            )
            .await
            .expect("published")
            .await
            .expect("confirmed");
    }

    /// The same with no properties.
    pub(crate) async fn send(&self, exchange: &str, key: &str, body: &[u8]) {
        self.publish(exchange, key, body, BasicProperties::default())
            .await;
    }

    /// Messages ready in a queue; none if it does not exist.
    pub(crate) async fn count(&self, queue: &str) -> Option<u32> {
        let channel = self.connection.create_channel().await.expect("a channel");
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await;
        queue.ok().map(|queue| queue.message_count())
    }

    /// Waits until a queue has this many messages.
    pub(crate) async fn holds(&self, queue: &str, count: u32) {
        let counted = async {
            while self.count(queue).await != Some(count) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = timeout(PATIENCE, counted).await.is_ok();
        assert!(in_time, "{queue} does not come to hold {count}");
    }

    /// Takes the next message, waiting for it.
    pub(crate) async fn take(&self, queue: &str) -> Delivery {
        let taken = async {
            loop {
                let got: Option<BasicGetMessage> = self
                    .channel
                    .basic_get(queue.into(), BasicGetOptions::default())
                    .await
                    .expect("the queue");
                if let Some(message) = got {
                    return message.delivery;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let delivery = timeout(PATIENCE, taken)
            .await
            .unwrap_or_else(|_| panic!("nothing in {queue}"));
        self.channel
            .basic_ack(delivery.delivery_tag, BasicAckOptions::default())
            .await
            .expect("acknowledged");
        delivery
    }

    /// A queue of its own for all reports on pushes.
    pub(crate) async fn collect(&self, queue: &str, outcomes: &str) {
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        self.channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .expect("a queue");
        self.channel
            .queue_bind(
                queue.into(),
                outcomes.into(),
                "push.#".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("bound");
    }

    pub(crate) async fn clean(&self, prefix: &str) {
        for suffix in [
            "calls", "ios", "android", "cancels", "tokens", "dead", "seen",
        ] {
            let queue = format!("{prefix}.{suffix}");
            let _ = self
                .channel
                .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
                .await;
        }
        for suffix in ["calls", "outcomes", "dead"] {
            let exchange = format!("{prefix}.{suffix}");
            let _ = self
                .channel
                .exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default())
                .await;
        }
    }
}

pub(crate) fn header(delivery: &Delivery, name: &str) -> Option<String> {
    let headers = delivery.properties.headers().as_ref()?;
    let value = headers.inner().get(name)?;
    if let AMQPValue::LongString(text) = value {
        return Some(text.to_string());
    }
    Some(format!("{value:?}"))
}

/// A good ring for one device, or for one on each platform (`both`).
pub(crate) fn ring(platform: &str) -> Vec<u8> {
    let token = "ab".repeat(32);
    let now = chrono::Utc::now().to_rfc3339();
    let platforms = if platform == "both" {
        &["ios", "android"][..]
    } else {
        &[platform]
    };
    let device = |platform| serde_json::json!({"id": platform, "platform": platform, "app": "a", "token": token});
    let devices: Vec<_> = platforms.iter().map(device).collect();
    serde_json::json!({
        "v": 1, "event": "ring", "event_id": Uuid::new_v4(), "call_id": "c1", "sent_at": now,
        "caller": {"id": "u1"},
        "devices": devices,
    })
    .to_string()
    .into_bytes()
}

/// A good cancel.
pub(crate) fn cancel() -> Vec<u8> {
    let now = chrono::Utc::now().to_rfc3339();
    serde_json::json!({
        "v": 1, "event": "cancel", "event_id": Uuid::new_v4(), "call_id": "c1", "sent_at": now,
    })
    .to_string()
    .into_bytes()
}

pub(crate) fn push_report(call_id: &str) -> Report {
    report(
        call_id,
        ReportBody::Push(PushOutcome {
            at: Timestamp::from_millis(0),
            event: EventKind::Ring,
            event_id: Uuid::new_v4(),
            call_id: call_id.into(),
            device_id: Some("d1".into()),
            app: Some("a".into()),
            platform: Platform::Ios,
            environment: None,
            result: PushResult::Accepted,
            reason: None,
            detail: None,
            provider_id: None,
            attempts: 1,
            queue_ms: 1,
            push_ms: 2,
        }),
    )
}

pub(crate) fn token_report(call_id: &str) -> Report {
    report(
        call_id,
        ReportBody::Token(TokenEvent {
            at: Timestamp::from_millis(0),
            verdict: TokenVerdict::Dead,
            reason: Some("Unregistered".to_owned()),
            app: "a".into(),
            platform: Platform::Ios,
            environment: None,
            device_id: "d1".into(),
            token: "abcdef".into(),
            target: TargetKind::Token,
            registered_at: None,
            provider_timestamp: None,
        }),
    )
}

fn report(call_id: &str, body: ReportBody) -> Report {
    Report {
        body,
        call_id: call_id.into(),
        trace: Arc::new(TraceContext {
            traceparent: Some("00-aa-bb-01".to_owned()),
            tracestate: None,
        }),
    }
}
