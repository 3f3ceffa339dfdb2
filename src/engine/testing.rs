//! A provider, a report sink and events for the engine's own tests.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::delivery::{Delivery, Source, Verdict};
use super::dispatch::Dispatcher;
use super::lane::Lane;
use super::routes::{App, IosLanes, Routes};
use super::settings::{RetrySettings, RingSettings, TokenSettings};
use super::tokens::Brake;
use crate::call::event::{Environment, EnvironmentChoice, PartNumber, Platform, TargetKind};
use crate::call::outcome::{Outcomes, Report};
use crate::call::payload::{CancelMode, Payload, Profiles};
use crate::call::push::{Answer, Attempt, Class, PushClient, PushKind};
use crate::call::receipt::Receipt;
use crate::call::time::Timestamp;
use crate::metrics::{LaneLabels, Metrics};

/// What a scripted provider does with one attempt.
#[derive(Clone, Debug)]
pub struct Step {
    /// Before the request goes out.
    pub wait: Duration,
    /// After it went out.
    pub delay: Duration,
    pub answer: Answer,
    /// Instead of the answer.
    pub panics: bool,
}

pub fn step(class: Class, reason: &str) -> Step {
    let answer = Answer::new(class).because(reason);
    Step {
        wait: Duration::ZERO,
        delay: Duration::from_millis(5),
        answer,
        panics: false,
    }
}

pub fn accepted() -> Step {
    let answer = Answer {
        provider_id: Some("id".into()),
        ..Answer::new(Class::Accepted)
    };
    Step {
        wait: Duration::ZERO,
        delay: Duration::from_millis(5),
        answer,
        panics: false,
    }
}

/// One attempt as a provider saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub id: uuid::Uuid,
    pub at: Instant,
    pub time_left: Duration,
    pub kind: PushKind,
    pub target: TargetKind,
    pub payload: Payload,
}

impl Seen {
    /// The payload of an iOS push.
    pub fn json(&self) -> Value {
        match &self.payload {
            Payload::Ios(body) => serde_json::from_slice(body).unwrap(),
            Payload::Android(data) => panic!("{data:?}"),
        }
    }
}

/// Plays steps by token; `accepted` where there are none left.
#[derive(Debug, Default)]
pub struct Provider {
    pub steps: Mutex<HashMap<String, VecDeque<Step>>>,
    pub seen: Mutex<Vec<Seen>>,
}

impl Provider {
    pub fn script(&self, token: &str, steps: impl IntoIterator<Item = Step>) {
        let steps = steps.into_iter().collect();
        self.steps.lock().unwrap().insert(token.to_owned(), steps);
    }

    pub fn times(&self) -> Vec<Instant> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|seen| seen.at)
            .collect()
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl PushClient for Provider {
    fn send<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Answer> {
        let token = attempt.token.expose().to_owned();
        let next = self
            .steps
            .lock()
            .unwrap()
            .get_mut(&token)
            .and_then(VecDeque::pop_front);
        let step = next.unwrap_or_else(accepted);
        async move {
            sleep(step.wait).await;
            if !attempt.gate.pass() {
                return Answer::new(Class::NotProcessed).unstarted();
            }
            self.seen.lock().unwrap().push(Seen {
                id: attempt.id,
                at: Instant::now(),
                time_left: attempt.time_left,
                kind: attempt.kind,
                target: attempt.target,
                payload: attempt.payload.clone(),
            });
            sleep(step.delay).await;
            assert!(!step.panics, "as scripted");
            step.answer
        }
        .boxed()
    }

    fn why_not_ready(&self) -> Option<String> {
        None
    }
}

/// Takes reports; they are safe at once, or when those that are held are let go.
#[derive(Debug, Default)]
pub struct Sink(pub Mutex<Vec<Report>>, pub Mutex<Option<Vec<Receipt>>>);

impl Outcomes for Sink {
    fn publish(&self, report: Report, receipt: Receipt) {
        self.0.lock().unwrap().push(report);
        match &mut *self.1.lock().unwrap() {
            Some(held) => held.push(receipt),
            None => receipt.safe(),
        }
    }
}

/// A dispatcher with an app `app` on scripted providers.
pub struct Bench {
    pub ios: Arc<Provider>,
    pub sandbox: Arc<Provider>,
    pub android: Arc<Provider>,
    pub sink: Arc<Sink>,
    pub metrics: Metrics,
    pub dispatcher: Arc<Dispatcher>,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(TokenSettings::default(), 100)
    }

    pub fn with(tokens: TokenSettings, permits: usize) -> Self {
        Self::build(tokens, permits, None)
    }

    /// With a mode of the app's own for cancels on iOS.
    pub fn cancelling(mode: CancelMode) -> Self {
        Self::build(TokenSettings::default(), 100, Some(mode))
    }

    fn build(tokens: TokenSettings, permits: usize, cancel: Option<CancelMode>) -> Self {
        let ios = Arc::new(Provider::default());
        let sandbox = Arc::new(Provider::default());
        let android = Arc::new(Provider::default());
        let metrics = Metrics::default();
        let lane = |platform, environment, client: &Arc<Provider>| {
            let labels = LaneLabels {
                app: "app".into(),
                platform,
                environment,
            };
            let permits = Arc::new(Semaphore::new(permits));
            let client = Arc::clone(client) as Arc<dyn PushClient>;
            let retry = RetrySettings::default();
            let brake = Arc::new(Brake::new(tokens, labels.clone()));
            Arc::new(Lane::new(labels, client, permits, brake, retry, &metrics))
        };
        let app = App {
            profile: "plain".into(),
            ios: Some(Arc::new(IosLanes {
                environment: EnvironmentChoice::Only(Environment::Production),
                cancel,
                production: lane("ios", "production", &ios),
                sandbox: lane("ios", "sandbox", &sandbox),
            })),
            android: Some(lane("android", "", &android)),
        };
        let routes = Routes {
            apps: [("app".into(), app)].into(),
            profiles: Profiles::built_in().unwrap(),
        };
        let sink = Arc::new(Sink::default());
        let reports = Arc::clone(&sink) as Arc<dyn Outcomes>;
        let dispatcher = Dispatcher::new(RingSettings::default(), routes, reports, metrics.clone());
        Self {
            ios,
            sandbox,
            android,
            sink,
            metrics,
            dispatcher: Arc::new(dispatcher),
        }
    }

    pub async fn handle(&self, platform: Platform, event: &Value) -> Verdict {
        self.dispatcher
            .handle(&delivery(Source::Platform(platform), event))
            .await
    }

    /// Bodies of all reports so far.
    pub fn reports(&self) -> Vec<Value> {
        let reports = self.sink.0.lock().unwrap();
        reports
            .iter()
            .map(|r| serde_json::from_slice(&r.to_json().unwrap()).unwrap())
            .collect()
    }

    /// Those of a type.
    pub fn of(&self, kind: &str) -> Vec<Value> {
        self.reports()
            .into_iter()
            .filter(|report| report["type"] == kind)
            .collect()
    }

    /// `result` and `reason` of the outcomes.
    pub fn results(&self) -> Vec<(String, String)> {
        let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        self.of("push")
            .iter()
            .map(|push| (word(&push["result"]), word(&push["reason"])))
            .collect()
    }
}

pub fn delivery(source: Source, event: &Value) -> Delivery {
    Delivery {
        body: event.to_string().into_bytes().into(),
        source,
        part: PartNumber::WHOLE,
        trace: Arc::default(),
    }
}

/// A time that many milliseconds from now, as events have it.
pub fn in_millis(millis: i64) -> String {
    Timestamp::from_millis(super::deadline::wall_clock().millis() + millis).to_string()
}

/// A ring sent now that lives for so long.
pub fn ring(ttl_ms: i64, devices: &[Value]) -> Value {
    json!({
        "v": 1, "event": "ring", "event_id": uuid::Uuid::new_v4(), "call_id": "call-1",
        "sent_at": in_millis(0), "expires_at": in_millis(ttl_ms),
        "caller": {"id": "alice", "name": "Alice"}, "callee": {"id": "bob"}, "devices": devices,
    })
}

/// A cancel of the same call sent a little later.
pub fn cancel(devices: &[Value]) -> Value {
    json!({
        "v": 1, "event": "cancel", "event_id": uuid::Uuid::new_v4(), "call_id": "call-1",
        "sent_at": in_millis(1), "reason": "caller_hangup", "devices": devices,
    })
}

pub fn ios(token: &str) -> Value {
    json!({"id": format!("i-{token}"), "platform": "ios", "app": "app", "token": token})
}

pub fn android(token: &str) -> Value {
    json!({"id": format!("a-{token}"), "platform": "android", "app": "app", "token": token})
}
