//! `APNs`' rules of a connection: streams, SETTINGS, GOAWAY.

use std::time::Duration;

use ringpush::simulator::{
    Effect, Options, Rule, Script, ServerKind, Simulator, Step, Stop, Target,
};

use super::client::{Client, PATIENCE, Push, jwt, read, simulator};
use super::raw::{GOAWAY, PING, RST_STREAM, Raw};

const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];

fn play(simulator: &Simulator, steps: Vec<Step>) {
    let script = Script {
        rules: vec![Rule::every(Target::Apns, steps)],
    };
    simulator.script(script).unwrap();
}

/// With a provider token: one stream until the first push of a proven sender.
#[tokio::test]
async fn streams_open_up_after_the_first_valid_request() {
    let simulator = simulator().await;
    let mut raw = Raw::connect(&simulator.apns_production_url(), &simulator).await;
    let first = raw.read().await.unwrap();
    assert_eq!(
        first.max_streams(),
        Some(1),
        "the very first frame limits the streams"
    );
    raw.acknowledge().await;
    raw.acknowledge().await;
    raw.start(&Push::voip("nonsense")).await;
    let refused = raw
        .until(|f| f.kind == 1 || f.max_streams().is_some())
        .await;
    assert_eq!(refused.kind, 1, "a wrong token opens nothing");
    raw.start(&Push::voip(&jwt(&simulator, 0))).await;
    let more = raw.until(|frame| frame.max_streams().is_some()).await;
    assert_eq!(more.max_streams(), Some(1_000));
    assert!(raw.until(|frame| frame.kind == 1).await.is_ok());
}

/// A library follows the change in the middle of a connection.
#[tokio::test]
async fn a_client_library_sees_one_then_many() {
    let options = Options {
        max_streams: 7,
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let client = Client::connect(&simulator.apns_production_url(), &simulator).await;
    let push = Push::voip(&jwt(&simulator, 0));
    let response = client.start(push.clone()).await.unwrap();
    assert_eq!(read(response).await.unwrap().status, 200);
    assert_eq!(client.allowed_streams(), 7);
    let many = (0..50).map(|_| client.send(push.clone()));
    for answer in futures_util::future::join_all(many).await {
        assert_eq!(answer.unwrap().status, 200);
    }
}

/// What comes above the limit is refused unprocessed, the rest goes on.
#[tokio::test]
async fn a_stream_above_the_limit_is_refused() {
    let simulator = simulator().await;
    let jwt = jwt(&simulator, 0);
    let mut raw = Raw::connect(&simulator.apns_production_url(), &simulator).await;
    // Its body is still to come, so the stream stays open.
    let slow = raw.open(&Push::voip(&jwt)).await;
    let above = raw.start(&Push::voip(&jwt)).await;
    let reset = raw.until(|frame| frame.kind == RST_STREAM).await;
    assert_eq!(
        (reset.stream, reset.payload.as_slice()),
        (above, REFUSED_STREAM.as_slice())
    );
    raw.write(0, 1, slow, b"{}").await;
    let answer = raw.until(|frame| frame.kind == 1).await;
    assert_eq!((answer.stream, answer.is_ok()), (slow, true));
}

/// A scripted limit reaches the client as SETTINGS.
#[tokio::test]
async fn a_script_can_change_the_limit() {
    let simulator = simulator().await;
    play(&simulator, vec![Step::new(Effect::MaxStreams(3))]);
    let mut raw = Raw::connect(&simulator.apns_production_url(), &simulator).await;
    raw.start(&Push::voip(&jwt(&simulator, 0))).await;
    raw.until(|frame| frame.max_streams() == Some(3)).await;
    assert!(raw.until(|frame| frame.kind == 1).await.is_ok());
}

/// GOAWAY that covers the request: it is answered, then the connection ends.
#[tokio::test]
async fn goaway_after_a_request_covers_it() {
    let simulator = simulator().await;
    let effect = Effect::GoAway {
        processed: true,
        reason: "Shutdown".to_owned(),
    };
    play(&simulator, vec![Step::new(effect)]);
    let mut raw = Raw::connect(&simulator.apns_production_url(), &simulator).await;
    let stream = raw.start(&Push::voip(&jwt(&simulator, 0))).await;
    let goaway = raw.until(|frame| frame.kind == GOAWAY).await.goaway();
    assert_eq!(goaway, (stream, r#"{"reason":"Shutdown"}"#.to_owned()));
    let answer = raw.until(|frame| frame.kind == 1).await;
    assert!(answer.is_ok() && answer.stream == stream);
    assert!(raw.read().await.is_none(), "then the connection ends");
    assert_eq!(simulator.record().tally().delivered, 1);
}

/// GOAWAY that excludes the request: it is not processed, and may be repeated.
#[tokio::test]
async fn goaway_before_a_request_leaves_it_unprocessed() {
    let simulator = simulator().await;
    let effect = Effect::GoAway {
        processed: false,
        reason: "Shutdown".to_owned(),
    };
    play(
        &simulator,
        vec![Step::new(Effect::Honest), Step::new(effect)],
    );
    let push = Push::voip(&jwt(&simulator, 0));
    let mut raw = Raw::connect(&simulator.apns_production_url(), &simulator).await;
    let first = raw.start(&push).await;
    raw.until(|frame| frame.kind == 1).await;
    raw.start(&push).await;
    let (last, _) = raw.until(|frame| frame.kind == GOAWAY).await.goaway();
    assert_eq!(last, first);
    while let Some(frame) = raw.read().await {
        assert_ne!(frame.kind, 1, "nothing above the last stream is answered");
    }
    assert_eq!(simulator.record().tally().delivered, 1);
    let client = Client::connect(&simulator.apns_production_url(), &simulator).await;
    assert_eq!(
        client.reason(push).await.0,
        200,
        "repeated on another connection"
    );
    let faults: Vec<_> = simulator
        .record()
        .pushes()
        .iter()
        .map(|r| r.answer.fault)
        .collect();
    assert_eq!(faults, [None, Some("goaway"), None]);
}

/// With many in flight: exactly those above the last stream fail, and what was
/// processed is never among them, so that repeating is safe.
#[tokio::test]
async fn nothing_processed_lies_above_the_last_stream() {
    let simulator = simulator().await;
    let effect = Effect::GoAway {
        processed: false,
        reason: "Shutdown".to_owned(),
    };
    let steps = vec![Step::new(Effect::Honest).times(30), Step::new(effect)];
    play(&simulator, steps);
    let client = Client::connect(&simulator.apns_production_url(), &simulator).await;
    let push = |n: u32| {
        let id = format!("123e4567-e89b-12d3-a456-{n:012}");
        (
            id.clone(),
            Push::voip(&jwt(&simulator, 0)).with("apns-id", &id),
        )
    };
    let jwt = jwt(&simulator, 0);
    let with_jwt = |push: Push| push.with("authorization", &format!("bearer {jwt}"));
    assert_eq!(client.reason(with_jwt(push(0).1)).await.0, 200);
    let pushes: Vec<_> = (1..100).map(push).collect();
    let sends = pushes
        .iter()
        .map(|(_, push)| client.send(with_jwt(push.clone())));
    let answers = futures_util::future::join_all(sends).await;
    let mut failed = 0;
    for ((id, _), answer) in pushes.iter().zip(answers) {
        let expected = u32::from(answer.is_ok_and(|answer| answer.status == 200));
        failed += 1 - expected;
        assert_eq!(
            simulator.record().deliveries(id),
            expected,
            "an answer for each processed push"
        );
    }
    assert!(failed > 0, "the script cut the connection");
}

/// An orderly stop answers what is under way.
#[tokio::test]
async fn a_graceful_stop_finishes_what_it_began() {
    let simulator = simulator().await;
    play(
        &simulator,
        vec![Step::new(Effect::Honest).after(Duration::from_millis(200))],
    );
    let mut raw = Raw::connect(&simulator.apns_production_url(), &simulator).await;
    let stream = raw.start(&Push::voip(&jwt(&simulator, 0))).await;
    assert!(simulator.record().wait_for(1, PATIENCE).await);
    let server = simulator.server(ServerKind::ApnsProduction).clone();
    let stopping = tokio::spawn(async move { server.stop(Stop::Graceful).await });
    let goaway = raw.until(|frame| frame.kind == GOAWAY).await.goaway();
    assert_eq!(goaway, (stream, r#"{"reason":"Shutdown"}"#.to_owned()));
    assert!(raw.until(|frame| frame.kind == 1).await.is_ok());
    assert!(raw.read().await.is_none());
    drop(raw);
    stopping.await.unwrap();
}

/// PING is answered while a push hangs: the path is alive.
#[tokio::test]
async fn ping_is_answered_while_a_push_hangs() {
    let simulator = simulator().await;
    play(&simulator, vec![Step::new(Effect::Hang)]);
    let mut raw = Raw::connect(&simulator.apns_production_url(), &simulator).await;
    raw.start(&Push::voip(&jwt(&simulator, 0))).await;
    assert!(simulator.record().wait_for(1, PATIENCE).await);
    raw.write(PING, 0, 0, b"12345678").await;
    let pong = raw.until(|frame| frame.kind == PING).await;
    assert_eq!(
        (pong.flags, pong.payload.as_slice()),
        (1, b"12345678".as_slice())
    );
}
