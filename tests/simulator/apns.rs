//! Apple's rules for a push, each with the word and status Apple gives.

use chrono::{TimeZone as _, Utc};
use ringpush::simulator::{Device, Environment, ServerKind};

use super::client::{Client, PATIENCE, Push, TOKEN, TOPIC, jwt, simulator};

/// What a good push gets, and what is kept of it.
#[tokio::test]
async fn a_good_push_is_accepted_and_recorded() {
    let simulator = simulator().await;
    let client = Client::connect(&simulator.apns_production_url(), &simulator).await;
    let answer = client.send(Push::voip(&jwt(&simulator, 0))).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(
        answer.headers["apns-id"],
        "123e4567-e89b-12d3-a456-426614174000"
    );
    assert!(
        !answer.headers.contains_key("apns-unique-id"),
        "the sandbox's only"
    );
    assert!(simulator.record().wait_for(1, PATIENCE).await);
    let record = simulator.record().pushes().remove(0);
    assert_eq!(record.server, ServerKind::ApnsProduction);
    assert_eq!(record.path, format!("/3/device/{TOKEN}"));
    assert_eq!(record.header("apns-topic"), Some(TOPIC));
    assert_eq!(record.header("authorization"), None, "never kept");
    let claims = record.claims.clone().unwrap();
    assert_eq!(claims.kid.as_deref(), Some("FGHIJ67890"));
    assert_eq!(claims.iss.as_deref(), Some("ABCDE12345"));
    assert_eq!(record.json().unwrap()["v"], 1);
    assert!(record.answer.delivered && record.violations.is_empty());
    assert_eq!(
        simulator
            .record()
            .deliveries("123e4567-e89b-12d3-a456-426614174000"),
        1
    );
}

/// The sandbox names each push for Apple's console.
#[tokio::test]
async fn the_sandbox_gives_a_unique_id() {
    let simulator = simulator().await;
    let client = Client::connect(&simulator.apns_sandbox_url(), &simulator).await;
    let answer = client
        .send(Push::voip(&jwt(&simulator, 0)).with("apns-id", ""))
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.headers.contains_key("apns-unique-id"));
    assert_eq!(
        answer.headers["apns-id"].len(),
        36,
        "made by the server if it was not given"
    );
}

/// Every rule of a request by itself: what breaks it is named as Apple does.
#[tokio::test]
async fn each_broken_rule_has_its_reason() {
    let simulator = simulator().await;
    let client = Client::connect(&simulator.apns_production_url(), &simulator).await;
    let good = Push::voip(&jwt(&simulator, 0));
    let voip_limit = format!("{{\"v\":\"{}\"}}", "x".repeat(5_120 - 8));
    let alert = good
        .clone()
        .with("apns-push-type", "alert")
        .with("apns-topic", "com.example.calls");
    let background = alert.clone().with("apns-push-type", "background");
    let cases: Vec<(Push, u16, &str)> = vec![
        (good.clone().path("/3/devices/00"), 404, "BadPath"),
        (good.clone().path("/2/device/00"), 404, "BadPath"),
        (good.clone().path("/3/device/00/11"), 404, "BadPath"),
        (good.clone().path("/3/device/"), 400, "MissingDeviceToken"),
        (good.clone().method("GET"), 405, "MethodNotAllowed"),
        (good.clone().method("PUT"), 405, "MethodNotAllowed"),
        (good.clone().to("not-hex"), 400, "BadDeviceToken"),
        (good.clone().to("abc"), 400, "BadDeviceToken"),
        (
            good.clone().with("apns-push-type", ""),
            400,
            "InvalidPushType",
        ),
        (
            good.clone().with("apns-push-type", "ring"),
            400,
            "InvalidPushType",
        ),
        (
            good.clone().with("apns-push-type", "alert"),
            400,
            "InvalidPushType",
        ),
        (good.clone().with("apns-topic", ""), 400, "MissingTopic"),
        (
            good.clone().with("apns-topic", "com.example.calls"),
            400,
            "DeviceTokenNotForTopic",
        ),
        (
            good.clone().with("apns-topic", "com.example.other.voip"),
            400,
            "TopicDisallowed",
        ),
        (
            good.clone().with("apns-topic", "com example"),
            400,
            "BadTopic",
        ),
        (good.clone().with("apns-priority", "7"), 400, "BadPriority"),
        (background.clone(), 400, "BadPriority"),
        (background.with("apns-priority", "5"), 200, ""),
        (alert.clone(), 200, ""),
        (
            good.clone().with("apns-expiration", "soon"),
            400,
            "BadExpirationDate",
        ),
        (
            good.clone().with("apns-expiration", "-1"),
            400,
            "BadExpirationDate",
        ),
        (
            good.clone()
                .with("apns-id", "123e4567e89b12d3a456426614174000"),
            400,
            "BadMessageId",
        ),
        (good.clone().with("apns-id", "1"), 400, "BadMessageId"),
        (
            good.clone().with("apns-collapse-id", &"x".repeat(65)),
            400,
            "BadCollapseId",
        ),
        (
            good.clone().with("apns-collapse-id", &"x".repeat(64)),
            200,
            "",
        ),
        (
            good.clone().and("apns-topic", TOPIC),
            400,
            "DuplicateHeaders",
        ),
        (
            good.clone().and("apns-push-type", "voip"),
            400,
            "DuplicateHeaders",
        ),
        (good.clone().body(""), 400, "PayloadEmpty"),
        (good.clone().body("[]"), 400, "PayloadEmpty"),
        (good.clone().body("{"), 400, "PayloadEmpty"),
        (good.clone().body(voip_limit.clone()), 200, ""),
        (good.clone().body(voip_limit + " "), 413, "PayloadTooLarge"),
        (
            alert
                .clone()
                .body(format!("{{\"v\":\"{}\"}}", "x".repeat(4_096 - 8))),
            200,
            "",
        ),
        (
            alert.body(format!("{{\"v\":\"{}\"}}", "x".repeat(4_097 - 8))),
            413,
            "PayloadTooLarge",
        ),
        (
            good.clone().body(vec![b' '; 300_000]),
            413,
            "PayloadTooLarge",
        ),
        (good, 200, ""),
    ];
    for (number, (push, status, reason)) in cases.into_iter().enumerate() {
        let expected = (status, reason.to_owned());
        assert_eq!(client.reason(push).await, expected, "case {number}");
    }
}

/// A token belongs to one environment, topic and time, if the test says so.
#[tokio::test]
async fn devices_are_known_by_environment_topic_and_registration() {
    let simulator = simulator().await;
    let production = Client::connect(&simulator.apns_production_url(), &simulator).await;
    let sandbox = Client::connect(&simulator.apns_sandbox_url(), &simulator).await;
    let good = Push::voip(&jwt(&simulator, 0));
    let since = Utc.timestamp_millis_opt(1_700_000_000_123).unwrap();
    let only_sandbox = Device {
        environment: Some(Environment::Sandbox),
        ..Device::default()
    };
    simulator.register("aa01", only_sandbox);
    let alert = Device {
        topic: Some("com.example.calls".to_owned()),
        ..Device::default()
    };
    simulator.register("aa02", alert);
    simulator.unregister("aa03", since);
    let expired = Device {
        unregistered_since: Some(since),
        expired: true,
        ..Device::default()
    };
    simulator.register("aa04", expired);
    let send = |client: &Client, token: &str| {
        let (client, push) = (client.clone(), good.clone().to(token));
        async move { client.send(push).await.unwrap() }
    };
    assert_eq!(
        send(&production, "aa01").await.reason(),
        (400, "BadDeviceToken".to_owned())
    );
    assert_eq!(send(&sandbox, "aa01").await.status, 200);
    assert_eq!(
        send(&production, "aa02").await.reason(),
        (400, "DeviceTokenNotForTopic".to_owned())
    );
    let gone = send(&production, "aa03").await;
    assert_eq!(gone.reason(), (410, "Unregistered".to_owned()));
    assert_eq!(gone.json()["timestamp"], 1_700_000_000_123_i64);
    assert_eq!(
        send(&production, "aa04").await.reason(),
        (410, "ExpiredToken".to_owned())
    );
    simulator.forget("aa03");
    assert_eq!(send(&production, "aa03").await.status, 200);
    let tally = simulator.record().tally();
    assert_eq!(
        (tally.requests, tally.delivered, tally.repeated),
        (6, 2, 1),
        "one apns-id, twice"
    );
}
