//! Pushes of the real clients over HTTP/2 to a gateway on loopback, without
//! TLS: what they allocate, and what they put on the wire.

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use ringpush::call::event::{Environment, Event, Platform, TargetKind};
use ringpush::call::payload::{Payload, Profiles};
use ringpush::call::push::{Attempt, Class, Gate, PushClient, PushKind};
use ringpush::call::secret::Secret;
use ringpush::call::time::Timestamp;
use ringpush::metrics::Metrics;
use ringpush::providers::endpoint::Endpoint;
use ringpush::providers::http2::Tuning;
use ringpush::providers::http2::proxy::Proxy;
use ringpush::providers::{apns, fcm, tls};
use ringpush::simulator::{Options, Simulator};
use tokio::runtime::{Builder, Runtime};
use uuid::uuid;

use super::events::{LIMITS, ring};
use super::gateway::{Gateway, Sent};
use super::{
    APNS_ATTEMPT, APNS_BYTES, FCM_ATTEMPT, FCM_BYTES, FRAMES, allocations, device, within,
};

/// So few that no window has to be given back meanwhile, which takes a frame
/// for every 20 KB of answers or so.
const PUSHES: u64 = 50;
/// Of 64 hexadecimal digits, as Apple's are today: it stands in the path.
const TOKEN: &str = "f6bca4347e7653e08ad2888dcdd909be0d5c1f7e3c554f0e9a106a3f0a7be001";
const AMPLE: Duration = Duration::from_secs(10);

#[test]
fn an_attempt_at_apns() {
    let gateway = Gateway::start("").unwrap();
    let runtime = runtime();
    let client = runtime.block_on(async { apns(&gateway) });
    let status = runtime.block_on(client.warm(AMPLE));
    assert_eq!(status.ready, 1, "{status:?}");
    let push = Push::new(Platform::Ios);
    let counted = attempts(&runtime, &client, &push);
    within(APNS_ATTEMPT * PUSHES, counted, "attempts at APNs");
    wire(&runtime, &gateway, &client, &push, APNS_BYTES);
}

#[test]
fn an_attempt_at_fcm() {
    let name = r#"{"name":"projects/calls/messages/0:1790000000000000%e609af1cf9fd7ecd"}"#;
    let gateway = Gateway::start(name).unwrap();
    let runtime = runtime();
    let client = runtime.block_on(fcm(&gateway));
    let status = runtime.block_on(client.warm(AMPLE));
    assert_eq!(status.ready, 1, "{status:?}");
    let push = Push::new(Platform::Android);
    let counted = attempts(&runtime, &client, &push);
    within(FCM_ATTEMPT * PUSHES, counted, "attempts at FCM");
    wire(&runtime, &gateway, &client, &push, FCM_BYTES);
}

/// What [`PUSHES`] attempts allocate, one after the other and after as many
/// others; that of the connection's task is in it, the gateway's is not.
fn attempts(runtime: &Runtime, client: &dyn PushClient, push: &Push) -> u64 {
    allocations(|| {
        runtime.block_on(async {
            for _ in 0..PUSHES {
                push.send(client).await;
            }
        });
    })
}

/// What pushes take on the wire once the header table is filled: one by one
/// and all at once they are the same frames.
fn wire(runtime: &Runtime, gateway: &Gateway, client: &dyn PushClient, push: &Push, bytes: u64) {
    let one_by_one = async {
        for _ in 0..PUSHES {
            push.send(client).await;
        }
    };
    let at_once = async {
        join_all((0..PUSHES).map(|_| push.send(client))).await;
    };
    let before = gateway.sent();
    runtime.block_on(one_by_one);
    let between = gateway.sent();
    runtime.block_on(at_once);
    check(before, between, bytes);
    check(between, gateway.sent(), bytes);
}

fn check(before: Sent, after: Sent, planned: u64) {
    let credentials = after.credential - before.credential;
    assert!(credentials > 0, "a push without a credential");
    let frames = [
        after.headers - before.headers,
        after.data - before.data,
        after.others - before.others,
    ];
    assert_eq!(frames, FRAMES.map(|frames| frames * PUSHES), "frames");
    let bytes = after.bytes - before.bytes;
    let bytes = bytes - (after.body - before.body) - credentials;
    assert_eq!(bytes, planned * PUSHES, "bytes beside body and credential");
}

/// One that is always the same, so that its bytes are.
struct Push {
    token: Secret,
    payload: Payload,
    deadline: Timestamp,
}

impl Push {
    fn new(platform: Platform) -> Self {
        let event = Event::decode(ring(2).to_string().as_bytes(), LIMITS).unwrap();
        let device = device(&event, platform);
        let profiles = Profiles::built_in().unwrap();
        let now = Timestamp::from_millis(1_790_000_000_000);
        Self {
            payload: profiles
                .get("plain")
                .unwrap()
                .render(&event, &device, now)
                .unwrap(),
            token: Secret::from(TOKEN),
            deadline: now.plus(LIMITS.ttl),
        }
    }

    async fn send(&self, client: &dyn PushClient) {
        let attempt = Attempt {
            id: uuid!("f6bca434-7e76-53e0-8ad2-888dcdd909be"),
            kind: PushKind::Call,
            token: &self.token,
            target: TargetKind::Token,
            payload: &self.payload,
            deadline: self.deadline,
            time_left: LIMITS.ttl,
            gate: &Gate::default(),
        };
        let answer = client.send(attempt).await;
        assert_eq!(answer.class, Class::Accepted, "{answer:?}");
    }
}

fn apns(gateway: &Gateway) -> apns::Client {
    let key = rcgen::KeyPair::generate().unwrap().serialize_der();
    let signer = apns::Signers::default().get("ABCDE12345", "FGHIJ67890", &key);
    let settings = apns::Settings {
        production_url: Endpoint::parse(&gateway.url).unwrap(),
        connections: 1,
        attempt_timeout: AMPLE,
        ..apns::Settings::default()
    };
    // Not used over plain HTTP, but a client without roots cannot be made.
    let trusted = rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert;
    apns::Client::new(apns::Options {
        proxy: &Proxy::default(),
        settings: &settings,
        environment: Environment::Production,
        bundle_id: "com.example.calls",
        credentials: &apns::Credentials::Key(signer.unwrap()),
        roots: tls::roots(Some(trusted.pem().as_bytes())).unwrap(),
        metrics: &Metrics::default(),
        tuning: Tuning::default(),
    })
    .unwrap()
}

/// Its access token is the simulator's.
async fn fcm(gateway: &Gateway) -> fcm::Client {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let json = simulator.service_account_json().as_bytes();
    let account = fcm::ServiceAccount::parse(Path::new("account.json"), json, None).unwrap();
    let tokens = fcm::TokenSources::new(Metrics::default()).of(&account, &Proxy::default());
    tokens.valid_until().await.unwrap();
    let settings = fcm::Settings {
        url: gateway.url.clone(),
        connections: 1,
        attempt_timeout: AMPLE,
        ..fcm::Settings::default()
    };
    fcm::Client::new(
        &settings,
        &account,
        tokens,
        &Proxy::default(),
        &Metrics::default(),
    )
    .unwrap()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}
