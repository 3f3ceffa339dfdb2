//! Every step a script knows, seen by a client.

use std::time::Duration;

use ringpush::simulator::{Rule, Script, ServerKind, Simulator, Target};
use tokio::time::{Instant, timeout};

use super::client::{Client, PATIENCE, Push, jwt, read, simulator, tls};
use super::raw::{PING, RST_STREAM, Raw};

const SHORT: Duration = Duration::from_millis(300);

fn play(simulator: &Simulator, steps: &str) {
    let text = format!("[[rule]]\nserver = \"apns\"\nsteps = [{steps}]");
    simulator.script(Script::from_toml(&text).unwrap()).unwrap();
}

async fn ready() -> (Simulator, Client, Push) {
    let simulator = simulator().await;
    let client = Client::connect(&simulator.apns_production_url(), &simulator).await;
    let push = Push::voip(&jwt(&simulator, 0));
    (simulator, client, push)
}

/// Status, reason, timestamp and both forms of `retry-after`.
#[tokio::test]
async fn answers_by_script() {
    let (simulator, client, push) = ready().await;
    play(
        &simulator,
        r#"{ status = 410, reason = "Unregistered", timestamp = 1700000000000 },
           { status = 429, reason = "TooManyRequests", retry_after = 7 },
           { status = 503, retry_after = { date_in = 60 } },
           { status = 500, body = "<html>" }"#,
    );
    let gone = client.send(push.clone()).await.unwrap();
    assert_eq!(gone.reason(), (410, "Unregistered".to_owned()));
    assert_eq!(gone.json()["timestamp"], 1_700_000_000_000_i64);
    let limited = client.send(push.clone()).await.unwrap();
    assert_eq!(
        (limited.status, &limited.headers["retry-after"]),
        (429, &"7".parse().unwrap())
    );
    let busy = client.send(push.clone()).await.unwrap();
    let date = httpdate::parse_http_date(busy.headers["retry-after"].to_str().unwrap()).unwrap();
    let wait = date.duration_since(std::time::SystemTime::now()).unwrap();
    assert!(
        wait > Duration::from_secs(50) && wait <= Duration::from_secs(60),
        "{wait:?}"
    );
    assert!(busy.body.is_empty(), "a 5xx without a body");
    assert_eq!(client.send(push.clone()).await.unwrap().body, "<html>");
    assert_eq!(client.reason(push).await.0, 200, "the script is over");
    let tally = simulator.record().tally();
    assert_eq!((tally.requests, tally.delivered), (5, 1));
}

/// A script is played to requests that are right: strictness comes first.
#[tokio::test]
async fn a_broken_request_is_judged_before_the_script() {
    let (simulator, client, push) = ready().await;
    play(&simulator, "{ status = 503 }");
    let broken = push.clone().with("apns-topic", "");
    assert_eq!(
        client.reason(broken).await,
        (400, "MissingTopic".to_owned())
    );
    assert_eq!(client.reason(push).await.0, 503, "the step was not used up");
}

/// Delay, slow body, headers without a body, no answer at all.
#[tokio::test]
async fn late_answers_and_missing_ones() {
    let (simulator, client, push) = ready().await;
    play(
        &simulator,
        r#"{ delay = "200ms" }, { status = 503, reason = "Shutdown", slow_body = "200ms" },
           { headers_then_hang = true }, { hang = true }"#,
    );
    for status in [200, 503] {
        let began = Instant::now();
        assert_eq!(client.reason(push.clone()).await.0, status);
        assert!(began.elapsed() >= Duration::from_millis(200));
    }
    let mut body = client
        .start(push.clone())
        .await
        .unwrap()
        .await
        .unwrap()
        .into_body();
    assert!(
        timeout(SHORT, body.data()).await.is_err(),
        "headers, and no end"
    );
    drop(body);
    let hanging = client.start(push.clone()).await.unwrap();
    assert!(timeout(SHORT, read(hanging)).await.is_err());
    assert_eq!(
        client.reason(push).await.0,
        200,
        "the connection is as good as before"
    );
    let faults: Vec<_> = simulator
        .record()
        .pushes()
        .iter()
        .map(|r| r.answer.fault)
        .collect();
    assert_eq!(
        faults,
        [None, None, Some("headers_then_hang"), Some("hang"), None]
    );
}

/// `RST_STREAM` carries the code the script names.
#[tokio::test]
async fn streams_are_reset_with_the_code_asked_for() {
    let (simulator, client, push) = ready().await;
    play(
        &simulator,
        r#"{ reset = "REFUSED_STREAM" }, { reset = "INTERNAL_ERROR" }"#,
    );
    for code in [h2::Reason::REFUSED_STREAM, h2::Reason::INTERNAL_ERROR] {
        let error = client.send(push.clone()).await.unwrap_err();
        assert!(error.is_remote() && error.reason() == Some(code), "{error}");
    }
    assert_eq!(client.reason(push).await.0, 200);
    let mut raw = Raw::connect(&simulator.apns_production_url(), &simulator).await;
    play(&simulator, r#"{ reset = "ENHANCE_YOUR_CALM" }"#);
    raw.start(&Push::voip(&jwt(&simulator, 0))).await;
    let reset = raw.until(|frame| frame.kind == RST_STREAM).await;
    assert_eq!(reset.payload, [0, 0, 0, 11]);
}

/// A TCP reset ends the connection as an error, not as an orderly close.
#[tokio::test]
async fn tcp_reset_is_an_error() {
    let (simulator, client, push) = ready().await;
    play(&simulator, "{ tcp_reset = true }");
    let error = client.send(push.clone()).await.unwrap_err();
    assert!(error.is_io(), "{error}");
    let io = error.into_io().unwrap();
    assert_eq!(io.kind(), std::io::ErrorKind::ConnectionReset, "{io}");
    let again = Client::connect(&simulator.apns_production_url(), &simulator).await;
    assert_eq!(again.reason(push).await.0, 200);
}

/// A black hole: TCP stays, but PING is not answered any more.
#[tokio::test]
async fn a_black_hole_answers_nothing() {
    let simulator = simulator().await;
    play(&simulator, "{ black_hole = true }");
    let mut raw = Raw::connect(&simulator.apns_production_url(), &simulator).await;
    raw.write(PING, 0, 0, b"12345678").await;
    raw.until(|frame| frame.kind == PING && frame.flags == 1)
        .await;
    raw.start(&Push::voip(&jwt(&simulator, 0))).await;
    assert!(simulator.record().wait_for(1, PATIENCE).await);
    raw.write(PING, 0, 0, b"87654321").await;
    let mut after = Vec::new();
    while let Ok(frame) = timeout(SHORT, raw.read()).await {
        after.push(frame.expect("the connection stays open"));
    }
    assert!(
        after
            .iter()
            .all(|frame| frame.kind != PING && frame.kind != 1),
        "{after:?}"
    );
    assert_eq!(
        simulator.server(ServerKind::ApnsProduction).connections(),
        1
    );
    let other = Client::connect(&simulator.apns_production_url(), &simulator).await;
    assert_eq!(
        other.reason(Push::voip(&jwt(&simulator, 0))).await.0,
        200,
        "others are served"
    );
}

/// A stall takes TCP and gives no TLS, to one connection.
#[tokio::test]
async fn a_stall_leaves_the_handshake_hanging() {
    let simulator = simulator().await;
    play(&simulator, "{ stall = true }");
    let url = simulator.apns_production_url();
    let handshake = tls(&url, simulator.ca_pem(), None);
    assert!(
        timeout(SHORT, handshake).await.is_err(),
        "TCP is up, TLS is not"
    );
    let client = Client::connect(&url, &simulator).await;
    assert_eq!(client.reason(Push::voip(&jwt(&simulator, 0))).await.0, 200);
}

/// Faults of a device token hit that token only, on FCM as on `APNs`.
#[tokio::test]
async fn a_token_rule_leaves_the_others_alone() {
    let (simulator, client, push) = ready().await;
    let mut rule = Rule::token(Target::Apns, "dead01", Vec::new());
    rule.then = Some(ringpush::simulator::Step::answer(410, "Unregistered"));
    simulator.script(Script { rules: vec![rule] }).unwrap();
    for (token, status) in [("dead01", 410), ("beef01", 200), ("dead01", 410)] {
        assert_eq!(
            client.reason(push.clone().to(token)).await.0,
            status,
            "{token}"
        );
    }
}

/// A storm of 503 for a time, whoever asks.
#[tokio::test]
async fn a_storm_ends() {
    let (simulator, client, push) = ready().await;
    play(
        &simulator,
        r#"{ status = 503, reason = "ServiceUnavailable", for = "300ms" }"#,
    );
    let began = Instant::now();
    let mut refused = 0;
    while client.reason(push.clone()).await.0 == 503 {
        refused += 1;
        assert!(began.elapsed() < PATIENCE, "the storm does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(refused >= 1 && began.elapsed() >= SHORT);
}
