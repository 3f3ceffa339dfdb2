//! Provider tokens and client certificates, by Apple's rules.

use std::time::Duration;

use chrono::Utc;
use ringpush::simulator::{Environment, Options, Simulator};
use serde_json::json;

use super::client::{Client, Push, es256, jwt, simulator};

fn refused(reason: &str) -> (u16, String) {
    (403, reason.to_owned())
}

/// Every way in which a provider token can be wrong.
#[tokio::test]
async fn each_wrong_token_has_its_reason() {
    let simulator = simulator().await;
    let url = simulator.apns_production_url();
    let now = Utc::now().timestamp();
    let key = simulator.auth_key_pem();
    let (header, claims) = (
        json!({ "alg": "ES256", "kid": "FGHIJ67890" }),
        json!({ "iss": "ABCDE12345", "iat": now }),
    );
    let stranger = simulator
        .add_auth_key("OTHERTEAM1", "OTHERKEY01", None)
        .unwrap();
    let good = es256(key, &header, &claims);
    let cases = [
        (es256(&stranger, &header, &claims), "InvalidProviderToken"),
        (
            es256(
                key,
                &json!({ "alg": "ES256", "kid": "NOSUCHKEY0" }),
                &claims,
            ),
            "InvalidProviderToken",
        ),
        (
            es256(key, &json!({ "alg": "ES256" }), &claims),
            "InvalidProviderToken",
        ),
        (
            es256(key, &json!({ "alg": "none", "kid": "FGHIJ67890" }), &claims),
            "InvalidProviderToken",
        ),
        (
            es256(key, &header, &json!({ "iss": "ZZZZZ12345", "iat": now })),
            "InvalidProviderToken",
        ),
        (
            es256(key, &header, &json!({ "iss": "ABCDE12345" })),
            "InvalidProviderToken",
        ),
        (
            es256(
                key,
                &header,
                &json!({ "iss": "ABCDE12345", "iat": now + 120 }),
            ),
            "InvalidProviderToken",
        ),
        (
            es256(
                key,
                &header,
                &json!({ "iss": "ABCDE12345", "iat": now - 3_700 }),
            ),
            "ExpiredProviderToken",
        ),
        (good.replace('.', "=."), "InvalidProviderToken"),
        (
            format!("{}x", &good[..good.len() - 1]),
            "InvalidProviderToken",
        ),
        ("nonsense".to_owned(), "InvalidProviderToken"),
    ];
    for (number, (token, reason)) in cases.into_iter().enumerate() {
        let client = Client::connect(&url, &simulator).await;
        assert_eq!(
            client.reason(Push::voip(&token)).await,
            refused(reason),
            "case {number}"
        );
    }
    let client = Client::connect(&url, &simulator).await;
    let missing = Push::voip("").with("authorization", "");
    assert_eq!(
        client.reason(missing).await,
        refused("MissingProviderToken")
    );
    assert_eq!(
        client.reason(Push::voip(&good)).await.0,
        200,
        "a refusal does not spoil a connection"
    );
    let almost = Client::connect(&url, &simulator).await;
    assert_eq!(
        almost.reason(Push::voip(&jwt(&simulator, 3_500))).await.0,
        200
    );
}

/// A renewal sooner than Apple allows is refused; the token before it stays
/// good, and so is the new one on a connection of its own.
#[tokio::test]
async fn a_second_token_must_wait() {
    let window = Duration::from_millis(400);
    let options = Options {
        provider_token_window: window,
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let url = simulator.apns_production_url();
    let client = Client::connect(&url, &simulator).await;
    let (first, second) = (jwt(&simulator, 10), jwt(&simulator, 0));
    let began = tokio::time::Instant::now();
    assert_eq!(client.reason(Push::voip(&first)).await.0, 200);
    let early = client.reason(Push::voip(&second)).await;
    if began.elapsed() < window {
        assert_eq!(early, (429, "TooManyProviderTokenUpdates".to_owned()));
    }
    assert_eq!(client.reason(Push::voip(&first)).await.0, 200);
    let other = Client::connect(&url, &simulator).await;
    assert_eq!(other.reason(Push::voip(&second)).await.0, 200);
    tokio::time::sleep_until(began + window + Duration::from_millis(600)).await;
    assert_eq!(client.reason(Push::voip(&second)).await.0, 200);
}

/// A connection belongs to the team and the key of its first push.
#[tokio::test]
async fn a_connection_keeps_its_team_and_key() {
    let options = Options {
        provider_token_window: Duration::ZERO,
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    simulator.add_bundle_id("OTHERTEAM1", "com.example.calls");
    let url = simulator.apns_production_url();
    let token = |team: &str, kid: &str, key: &str| {
        let claims = json!({ "iss": team, "iat": Utc::now().timestamp() });
        es256(key, &json!({ "alg": "ES256", "kid": kid }), &claims)
    };
    let second = simulator
        .add_auth_key("ABCDE12345", "SECONDKEY1", None)
        .unwrap();
    let foreign = simulator
        .add_auth_key("OTHERTEAM1", "OTHERKEY01", None)
        .unwrap();
    let sandbox = simulator
        .add_auth_key("ABCDE12345", "SANDBOXKEY", Some(Environment::Sandbox))
        .unwrap();
    let client = Client::connect(&url, &simulator).await;
    assert_eq!(client.reason(Push::voip(&jwt(&simulator, 0))).await.0, 200);
    let unrelated = Push::voip(&token("ABCDE12345", "SECONDKEY1", &second));
    assert_eq!(
        client.reason(unrelated.clone()).await,
        refused("UnrelatedKeyIdInToken")
    );
    let other_team = Push::voip(&token("OTHERTEAM1", "OTHERKEY01", &foreign));
    assert_eq!(
        client.reason(other_team.clone()).await,
        refused("InvalidProviderToken")
    );
    for push in [unrelated, other_team] {
        let fresh = Client::connect(&url, &simulator).await;
        assert_eq!(
            fresh.reason(push).await.0,
            200,
            "good on a connection of its own"
        );
    }
    let fresh = Client::connect(&url, &simulator).await;
    let wrong_place = Push::voip(&token("ABCDE12345", "SANDBOXKEY", &sandbox));
    assert_eq!(
        fresh.reason(wrong_place).await,
        refused("BadEnvironmentKeyIdInToken")
    );
}

/// Verdicts are remembered per connection, but not beyond a revocation.
#[tokio::test]
async fn a_revoked_key_is_refused_on_a_warm_connection() {
    let simulator = simulator().await;
    let client = Client::connect(&simulator.apns_production_url(), &simulator).await;
    let push = Push::voip(&jwt(&simulator, 0));
    assert_eq!(client.reason(push.clone()).await.0, 200);
    simulator.remove_auth_key("FGHIJ67890");
    assert_eq!(client.reason(push).await, refused("InvalidProviderToken"));
}

/// With a certificate no token is needed, and its topics are the limit.
#[tokio::test]
async fn a_client_certificate_stands_for_its_topics() {
    let simulator = simulator().await;
    let url = simulator.apns_production_url();
    let client = Client::with_identity(&url, &simulator, Some(simulator.client_pem())).await;
    let push = Push::voip("").with("authorization", "");
    assert_eq!(client.reason(push.clone()).await.0, 200);
    assert_eq!(client.allowed_streams(), 1_000, "no token to wait for");
    let other = push.with("apns-topic", "com.example.other.voip");
    assert_eq!(
        client.reason(other).await,
        (400, "TopicDisallowed".to_owned())
    );
}
