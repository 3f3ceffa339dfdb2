//! What is said of a token, and in which environment it lives.

use serde_json::json;

use super::pair;
use crate::call::event::Platform::{Android, Ios};
use crate::call::event::TargetKind;
use crate::call::push::Class;
use crate::engine::settings::TokenSettings;
use crate::engine::testing::*;

#[tokio::test(start_paused = true)]
async fn a_dead_token_is_dead_unless_the_app_registered_since() {
    let bench = Bench::new();
    let dead = |at: &str| {
        let mut dead = step(Class::DeadToken, "Unregistered");
        dead.answer.provider_timestamp = crate::call::time::Timestamp::parse(at);
        dead
    };
    bench.ios.script("aa", [dead("2026-01-02T00:00:00Z")]);
    bench.ios.script("bb", [dead("2026-01-01T00:00:00Z")]);
    let with = |token: &str| {
        let mut device = ios(token);
        device["registered_at"] = json!("2026-01-01T00:00:00Z");
        device
    };
    bench.handle(Ios, &ring(30_000, &[with("aa")])).await;
    bench.handle(Ios, &ring(30_000, &[with("bb")])).await;
    assert_eq!(
        bench.results(),
        [
            pair("dead_token", "Unregistered"),
            pair("rejected", "Unregistered")
        ]
    );
    let tokens = bench.of("token");
    assert_eq!(tokens.len(), 1);
    assert_eq!(
        (tokens[0]["verdict"].as_str(), tokens[0]["token"].as_str()),
        (Some("dead"), Some("aa"))
    );
    assert_eq!(tokens[0]["provider_timestamp"], "2026-01-02T00:00:00.000Z");
}

#[tokio::test(start_paused = true)]
async fn a_token_event_says_whether_it_is_about_an_installation_id() {
    let bench = Bench::new();
    for token in ["old", "fid"] {
        let dead = step(Class::DeadToken, "UNREGISTERED");
        bench.android.script(token, [dead]);
    }
    let mut fid = android("fid");
    fid["fid"] = fid["token"].take();
    bench
        .handle(Android, &ring(30_000, &[android("old"), fid]))
        .await;
    let said: Vec<_> = bench
        .of("token")
        .iter()
        .map(|said| (said["token"].clone(), said.get("target").cloned()))
        .collect();
    assert_eq!(
        said,
        [(json!("old"), None), (json!("fid"), Some(json!("fid")))]
    );
    let kinds: Vec<_> = bench
        .android
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|s| s.target)
        .collect();
    assert_eq!(kinds, [TargetKind::Token, TargetKind::Fid]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_token_is_dead_only_while_others_get_through() {
    let bench = Bench::new();
    for token in ["aa", "cc"] {
        bench
            .ios
            .script(token, [step(Class::BadToken, "BadDeviceToken")]);
    }
    for token in ["aa", "bb", "cc"] {
        bench.handle(Ios, &ring(30_000, &[ios(token)])).await;
    }
    assert_eq!(
        bench.results(),
        [
            pair("suspect_token", "BadDeviceToken"),
            pair("accepted", "-"),
            pair("dead_token", "BadDeviceToken")
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_brake_turns_every_verdict_into_suspect() {
    let bench = Bench::with(
        TokenSettings {
            brake_min_samples: 5,
            ..TokenSettings::default()
        },
        9,
    );
    for n in 0..8 {
        let token = format!("{n:02x}");
        bench
            .ios
            .script(&token, [step(Class::DeadToken, "Unregistered")]);
        bench.handle(Ios, &ring(30_000, &[ios(&token)])).await;
    }
    let verdicts: Vec<_> = bench
        .of("token")
        .iter()
        .map(|t| t["verdict"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(verdicts[..4], ["dead", "dead", "dead", "dead"]);
    assert_eq!(verdicts[4..], ["suspect", "suspect", "suspect", "suspect"]);
    let routes = bench.dispatcher.routes();
    let ios = routes.apps["app"].ios.as_ref().unwrap();
    assert!(ios.production.brake.is_on() && !ios.sandbox.brake.is_on());
}

#[tokio::test(start_paused = true)]
async fn auto_tries_the_other_environment_and_remembers_which_one_worked() {
    let bench = Bench::new();
    let mut device = ios("aa");
    device["environment"] = json!("auto");
    bench
        .ios
        .script("aa", [step(Class::BadToken, "BadDeviceToken")]);
    bench.handle(Ios, &ring(30_000, &[device.clone()])).await;
    bench.handle(Ios, &ring(30_000, &[device])).await;
    let pushes = bench.of("push");
    assert_eq!(
        (&pushes[0]["environment"], &pushes[0]["attempts"]),
        (&json!("sandbox"), &json!(2))
    );
    assert_eq!(
        (&pushes[1]["environment"], &pushes[1]["attempts"]),
        (&json!("sandbox"), &json!(1))
    );
    assert_eq!((bench.ios.count(), bench.sandbox.count()), (1, 2));
    assert!(bench.of("token").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_credential_fault_of_the_second_environment_blames_nobody() {
    let bench = Bench::new();
    for n in 0..7 {
        let token = format!("{n:02x}");
        bench
            .ios
            .script(&token, [step(Class::BadToken, "BadDeviceToken")]);
        bench.sandbox.script(
            &token,
            [step(Class::CredentialFault, "BadEnvironmentKeyInToken")],
        );
        let mut device = ios(&token);
        device["environment"] = json!("auto");
        bench.handle(Ios, &ring(30_000, &[device])).await;
    }
    assert_eq!(bench.sandbox.count(), 7, "the lane was paused");
    let suspect = pair("suspect_token", "BadEnvironmentKeyInToken");
    assert_eq!(bench.results(), vec![suspect; 7]);
}
