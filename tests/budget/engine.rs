//! Rings through the whole engine, to a provider and a sink that have
//! everything done at once: what is counted is the engine's own, but for the
//! provider's boxed future and its id.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use ringpush::call::event::{Environment, EnvironmentChoice, PartNumber, Platform};
use ringpush::call::outcome::{Outcomes, Report};
use ringpush::call::payload::Profiles;
use ringpush::call::push::{Answer, Attempt, Class, PushClient};
use ringpush::call::receipt::Receipt;
use ringpush::call::time::Timestamp;
use ringpush::engine::delivery::{Delivery, Source, Verdict};
use ringpush::engine::dispatch::Dispatcher;
use ringpush::engine::lane::Lane;
use ringpush::engine::routes::{App, IosLanes, Routes};
use ringpush::engine::settings::{RetrySettings, RingSettings, TokenSettings};
use ringpush::engine::tokens::Brake;
use ringpush::metrics::{LaneLabels, Metrics};
use tokio::runtime::Builder;
use tokio::sync::Semaphore;

use super::events::ring;
use super::{ANDROID_PUSH, FURTHER_ANDROID_PUSH, FURTHER_IOS_PUSH, IOS_PUSH, allocations, within};

const RINGS: u64 = 100;

#[test]
fn a_push_through_the_engine() {
    for (platform, planned) in [(Platform::Ios, IOS_PUSH), (Platform::Android, ANDROID_PUSH)] {
        let what = format!("{RINGS} rings of one device, {}", platform.name());
        within(planned * RINGS, handling(platform, 1), &what);
    }
}

#[test]
fn a_rings_further_devices() {
    const DEVICES: u64 = 20;
    for (platform, planned) in [
        (Platform::Ios, FURTHER_IOS_PUSH),
        (Platform::Android, FURTHER_ANDROID_PUSH),
    ] {
        let many = handling(platform, usize::try_from(DEVICES).unwrap());
        let further = many - handling(platform, 1);
        let what = format!("{} further devices, {}", DEVICES - 1, platform.name());
        within(planned * (DEVICES - 1) * RINGS, further, &what);
    }
}

/// How often [`RINGS`] rings of so many devices allocate, after as many others.
fn handling(platform: Platform, devices: usize) -> u64 {
    let dispatcher = dispatcher();
    let deliveries = (0..2 * RINGS).map(|_| delivery(platform, devices));
    let mut deliveries = deliveries.collect::<Vec<_>>().into_iter();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let counted = allocations(|| {
        for delivery in deliveries.by_ref().take(usize::try_from(RINGS).unwrap()) {
            let verdict = runtime.block_on(dispatcher.handle(&delivery));
            assert!(matches!(verdict, Verdict::Settled));
        }
    });
    let (_, pushed) = dispatcher.history().size();
    assert_eq!(pushed, 2 * RINGS * devices as u64);
    counted
}

/// A ring of a call of its own, sent just now.
fn delivery(platform: Platform, devices: usize) -> Delivery {
    let mut event = ring(2 * devices);
    let id = uuid::Uuid::new_v4();
    event["event_id"] = id.to_string().into();
    event["call_uuid"] = id.to_string().into();
    event["call_id"] = format!("room-{id}").into();
    event["sent_at"] = Timestamp::from(SystemTime::now()).to_string().into();
    event.as_object_mut().unwrap().remove("expires_at");
    let all = event["devices"].as_array_mut().unwrap();
    all.retain(|device| device["platform"] == platform.name());
    Delivery {
        body: event.to_string().into_bytes().into(),
        source: Source::Platform(platform),
        part: PartNumber::WHOLE,
        trace: Arc::default(),
    }
}

/// With the one app that the events are for.
fn dispatcher() -> Dispatcher {
    let metrics = Metrics::default();
    let name = "com.example.calls";
    let lane = |platform, environment| {
        let labels = LaneLabels {
            app: name.into(),
            platform,
            environment,
        };
        let brake = Brake::new(TokenSettings::default(), labels.clone());
        let (permits, retry) = (Arc::new(Semaphore::new(1000)), RetrySettings::default());
        let client = Arc::new(Provider);
        Arc::new(Lane::new(
            labels,
            client,
            permits,
            Arc::new(brake),
            retry,
            &metrics,
        ))
    };
    let app = App {
        profile: "plain".into(),
        ios: Some(Arc::new(IosLanes {
            environment: EnvironmentChoice::Only(Environment::Production),
            cancel: None,
            production: lane("ios", "production"),
            sandbox: lane("ios", "sandbox"),
        })),
        android: Some(lane("android", "")),
    };
    let routes = Routes {
        apps: [(name.into(), app)].into(),
        profiles: Profiles::built_in().unwrap(),
    };
    Dispatcher::new(
        RingSettings::default(),
        routes,
        Arc::new(Sink),
        metrics.clone(),
    )
}

/// Accepts at once.
struct Provider;

impl PushClient for Provider {
    fn send<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            assert!(attempt.gate.pass());
            Answer {
                provider_id: Some("F6BCA434-7E76-53E0-8AD2-888DCDD909BE".into()),
                ..Answer::new(Class::Accepted)
            }
        })
    }

    fn why_not_ready(&self) -> Option<String> {
        None
    }
}

/// Has every report safe at once.
struct Sink;

impl Outcomes for Sink {
    fn publish(&self, _: Report, receipt: Receipt) {
        receipt.safe();
    }
}
