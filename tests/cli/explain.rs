//! `ringpush explain`.

use serde_json::Value;

use crate::rig::run;

#[tokio::test]
async fn a_reason_is_explained_and_an_unknown_word_finds_its_neighbours() {
    let ran = run(&["explain", "baddevicetoken"]).await;
    assert_eq!(ran.code, 0);
    for word in ["BadDeviceToken", "HTTP 400", "--environment auto"] {
        assert!(ran.out.contains(word), "{word}: {}", ran.out);
    }
    let ran = run(&["explain", "lane_paused", "--json"]).await;
    assert_eq!(ran.json()["from"], "ringpush");
    let ran = run(&["explain", "BadDeviceTokn"]).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.out.contains("Did you mean BadDeviceToken"),
        "{}",
        ran.out
    );
    assert_eq!(run(&["explain"]).await.code, 2);
}

/// Whoever reads an outcome may ask for its result as well as for its reason.
#[tokio::test]
async fn results_are_explained_too() {
    for result in ringpush::call::outcome::PushResult::ALL {
        let ran = run(&["explain", result.name()]).await;
        assert_eq!(ran.code, 0, "{}", ran.out);
        assert!(ran.out.starts_with(result.name()), "{}", ran.out);
    }
}

/// The words that the documentation promises.
#[tokio::test]
async fn every_reason_of_our_own_is_listed() {
    let ran = run(&["explain", "--list", "--json"]).await;
    let listed: Value = ran.json();
    let words: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["word"].as_str().unwrap())
        .collect();
    for own in [
        "deadline",
        "caller_cancelled",
        "unknown_app",
        "unknown_platform",
        "unknown_profile",
        "invalid_token",
        "duplicate_device",
        "duplicate_token",
        "payload_too_large",
        "lane_paused",
        "oauth_unavailable",
        "timeout",
        "connection",
    ] {
        assert!(words.contains(&own), "{own}");
    }
}
