//! Lanes that cannot send, are not used yet, or are gone after a reload.

use std::time::{Duration, Instant};

use ringpush::simulator::{Environment, Options, Script, ServerKind};

use crate::support::client::Outcomes;
use crate::support::events::{APP, android, android_token, ios, ios_token, ring};
use crate::support::stage::{Stage, edit};
use crate::support::worker::Worker;

/// Everything that `/metrics` says of an app or a platform.
async fn series(worker: &mut Worker, wanted: &str) -> Vec<String> {
    let (_, text) = worker.page("/metrics").await;
    let lines = text.lines().filter(|line| line.contains(wanted));
    lines.map(str::to_owned).collect()
}

/// Waits until a condition on the metrics holds.
async fn until_gone(worker: &mut Worker, wanted: &str) {
    let begun = Instant::now();
    loop {
        let left = series(worker, wanted).await;
        if left.is_empty() {
            return;
        }
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(30), "still there: {left:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn without_android(stage: &Stage) {
    edit(&stage.config, |all| {
        let app = all["apps"][APP].as_table_mut().expect("a table");
        app.remove("android");
    });
}

fn with_certificate(stage: &Stage, file: &str) {
    edit(&stage.config, |all| {
        let ios = all["apps"][APP]["ios"].as_table_mut().expect("a table");
        ios.remove("team_id");
        ios.remove("key_id");
        ios.remove("key_file");
        ios.insert("certificate_file".to_owned(), file.into());
        if let Some(password) = file.strip_suffix("p12").map(|_| "client.p12.password") {
            ios.insert("certificate_password_file".to_owned(), password.into());
        }
    });
}

fn expired() -> String {
    let mut params = rcgen::CertificateParams::new(vec!["x".to_owned()]).expect("valid");
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("signed");
    certificate.pem() + &key.serialize_pem()
}

/// iPhones must not wait for Google's token server.
#[tokio::test]
async fn a_worker_takes_rings_at_once_while_oauth_hangs() {
    let hang = "[[rule]]\nserver = \"oauth\"\nsteps = [{ hang = true, for = \"60s\" }]";
    let options = Options {
        script: Script::from_toml(hang).expect("a script"),
        ..Options::default()
    };
    let stage = Stage::with("", options).await;
    let mut outcomes = stage.client.outcomes().await;
    let begun = Instant::now();
    let mut worker = stage.starting();
    worker.ready().await;
    // It waited three seconds for the token once; a second is promised.
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(2_500), "took {took:?}");
    let (_, says) = worker.page("/readyz").await;
    assert!(says.contains("no access token yet"), "{says}");
    let event = ring(&[ios("d1", &ios_token())]);
    stage.client.publish("ring.ios", &event).await;
    assert_eq!(outcomes.push().await["result"], "accepted");
    stage.end(worker).await;
}

/// An environment that nobody uses keeps no connection, and does not make a
/// worker ready that cannot ring anybody.
#[tokio::test]
async fn an_environment_connects_when_it_is_used_and_counts_only_then() {
    let stage = Stage::new().await;
    without_android(&stage);
    let mut outcomes = stage.client.outcomes().await;
    let mut worker = stage.worker().await;
    let up = [r#"platform="ios""#, r#"state="ready""#];
    let connections = async |worker: &mut Worker| worker.metric("ringpush_connections", &up).await;
    let begun = Instant::now();
    while connections(&mut worker).await < 1.9 {
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    assert!(connections(&mut worker).await < 2.1, "production alone");
    stage.simulator.remove_auth_key("FGHIJ67890");
    for _ in 0..5 {
        let event = ring(&[ios("d1", &ios_token())]);
        stage.client.publish("ring.ios", &event).await;
        assert_eq!(outcomes.push().await["result"], "credential_fault");
    }
    let says = worker.readiness(503).await;
    assert!(says.contains("production: paused"), "{says}");
    assert!(!says.contains("sandbox"), "{says}");
    let mut device = ios("d1", &ios_token());
    device["environment"] = "sandbox".into();
    stage.client.publish("ring.ios", &ring(&[device])).await;
    outcomes.push().await;
    assert!(connections(&mut worker).await > 2.1, "the sandbox as well");
    stage.end(worker).await;
}

/// A reload removes the series of what is gone, and of what has no expiry.
#[tokio::test]
async fn no_series_outlives_its_app_or_its_certificate() {
    let stage = Stage::new().await;
    let key = std::fs::read_to_string(&stage.config).expect("the configuration");
    with_certificate(&stage, "client.p12");
    edit(&stage.config, |all| {
        let app = all["apps"][APP].clone();
        let apps = all["apps"].as_table_mut().expect("a table");
        apps.insert("com.example.other".to_owned(), app);
    });
    let mut outcomes = stage.client.outcomes().await;
    let mut worker = stage.worker().await;
    for app in [APP, "com.example.other"] {
        let mut device = android("d1", &android_token());
        device["app"] = app.into();
        stage.client.publish("ring.android", &ring(&[device])).await;
        assert_eq!(outcomes.push().await["result"], "accepted");
    }
    let expiry = r#"ringpush_credential_expiry_seconds{app="com.example.calls",platform="ios"}"#;
    assert_eq!(series(&mut worker, expiry).await.len(), 1);
    assert!(!series(&mut worker, "com.example.other").await.is_empty());
    std::fs::write(&stage.config, key).expect("the configuration");
    worker.signal("HUP");
    until_gone(&mut worker, expiry).await;
    until_gone(&mut worker, "com.example.other").await;
    let paused = r#"ringpush_lane_paused{app="com.example.calls""#;
    assert_eq!(series(&mut worker, paused).await.len(), 3);
    stage.end(worker).await;
}

/// What an app asks of Android counts from the next reload on.
#[tokio::test]
async fn an_apps_android_options_take_effect_with_a_reload() {
    let stage = Stage::new().await;
    let mut outcomes = stage.client.outcomes().await;
    let mut worker = stage.worker().await;
    let mut sent = Vec::new();
    for _ in 0..2 {
        let event = ring(&[android("d1", &android_token())]);
        stage.client.publish("ring.android", &event).await;
        assert_eq!(outcomes.push().await["result"], "accepted");
        let push = stage.pushes(sent.len() + 1).await.pop().expect("a push");
        let message = push.json().expect("a message");
        sent.push(message["message"]["android"].get("direct_boot_ok").cloned());
        edit(&stage.config, |all| {
            let android = all["apps"][APP]["android"].as_table_mut().expect("a table");
            android.insert("direct_boot_ok".to_owned(), true.into());
        });
        worker.signal("HUP");
        worker.logs("were read again").await;
    }
    assert_eq!(sent, [None, Some(true.into())]);
    stage.end(worker).await;
}

/// One app's certificate is that app's trouble.
#[tokio::test]
async fn an_expired_certificate_stops_its_own_rings_only() {
    let stage = Stage::new().await;
    std::fs::write(stage.file("old.pem"), expired()).expect("written");
    with_certificate(&stage, "old.pem");
    let mut outcomes = stage.client.outcomes().await;
    let mut worker = stage.worker().await;
    worker.logs("its certificate expired at 2020").await;
    let (_, says) = worker.page("/readyz").await;
    assert!(says.contains("its certificate expired at 2020"), "{says}");
    let event = ring(&[ios("d1", &ios_token()), android("d2", &android_token())]);
    stage.client.publish("ring", &event).await;
    let pushes = outcomes.pushes(2).await;
    let of = |platform: &str| {
        let push = pushes.iter().find(|push| push["platform"] == platform);
        push.expect("an outcome")
    };
    assert_eq!(of("android")["result"], "accepted");
    assert_eq!(of("ios")["result"], "credential_fault");
    assert_eq!(of("ios")["reason"], "certificate_expired");
    assert_eq!(of("ios")["attempts"], 0);
    // A reload goes on as well, and one with a good certificate mends it.
    worker.signal("HUP");
    worker.logs("were read again").await;
    with_certificate(&stage, "client.p12");
    worker.signal("HUP");
    let begun = Instant::now();
    loop {
        let event = ring(&[ios("d1", &ios_token())]);
        stage.client.publish("ring.ios", &event).await;
        if outcomes.push().await["result"] == "accepted" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    let sandbox = stage.simulator.record().of(ServerKind::ApnsSandbox);
    assert!(sandbox.is_empty());
    stage.end(worker).await;
}

/// What a file holds decides, not where it is: connections stay.
#[tokio::test]
async fn a_reload_with_the_same_key_keeps_the_connections() {
    let stage = Stage::new().await;
    let mut outcomes = stage.client.outcomes().await;
    let mut worker = stage.worker().await;
    let ring_once = async |outcomes: &mut Outcomes| {
        let event = ring(&[ios("d1", &ios_token())]);
        stage.client.publish("ring.ios", &event).await;
        assert_eq!(outcomes.push().await["result"], "accepted");
    };
    ring_once(&mut outcomes).await;
    let up = [r#"platform="ios""#, r#"result="up""#];
    let connects = async |worker: &mut Worker| worker.metric("ringpush_connects_total", &up).await;
    let begun = Instant::now();
    while connects(&mut worker).await < 1.9 {
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    std::fs::copy(stage.file("AuthKey_FGHIJ67890.p8"), stage.file("same.p8")).expect("copied");
    stage.configure("[apps.\"com.example.calls\".ios]\nkey_file = \"same.p8\"\n");
    worker.signal("HUP");
    worker.logs("were read again").await;
    ring_once(&mut outcomes).await;
    assert!(connects(&mut worker).await < 2.1, "no connection is new");
    stage.end(worker).await;
}

/// A key of one environment is that environment's fault.
#[tokio::test]
async fn a_key_of_one_environment_blames_that_environment_only() {
    let stage = Stage::new().await;
    let key = |id: &str, environment| {
        let pem = stage
            .simulator
            .add_auth_key("ABCDE12345", id, Some(environment));
        std::fs::write(stage.file(&format!("{id}.p8")), pem.expect("a key")).expect("written");
    };
    key("PRODKEY001", Environment::Production);
    key("SANDKEY001", Environment::Sandbox);
    stage.configure(
        "[apps.\"com.example.calls\".ios]\nkey_id = \"PRODKEY001\"\nkey_file = \"PRODKEY001.p8\"\n",
    );
    let mut outcomes = stage.client.outcomes().await;
    let mut worker = stage.worker().await;
    let ring_in = async |outcomes: &mut Outcomes, environment: &str| {
        let mut device = ios("d1", &ios_token());
        device["environment"] = environment.into();
        stage.client.publish("ring.ios", &ring(&[device])).await;
        outcomes.push().await
    };
    for _ in 0..6 {
        let push = ring_in(&mut outcomes, "sandbox").await;
        assert_eq!(push["result"], "credential_fault", "{push}");
    }
    assert_eq!(
        ring_in(&mut outcomes, "production").await["result"],
        "accepted"
    );
    let paused = async |worker: &mut Worker, environment: &str| {
        let labels = [
            r#"platform="ios""#,
            &format!("environment=\"{environment}\""),
        ];
        worker.metric("ringpush_lane_paused", &labels).await > 0.5
    };
    assert!(paused(&mut worker, "sandbox").await);
    assert!(!paused(&mut worker, "production").await);
    stage.configure(
        "[apps.\"com.example.calls\".ios.sandbox]\nkey_id = \"SANDKEY001\"\nkey_file = \"SANDKEY001.p8\"\n",
    );
    worker.signal("HUP");
    worker.logs("were read again").await;
    for environment in ["sandbox", "production"] {
        let push = ring_in(&mut outcomes, environment).await;
        assert_eq!(push["result"], "accepted", "{push}");
    }
    stage.end(worker).await;
}

/// What was revoked or bound elsewhere is known without a call, and no number
/// about rings knows of it.
#[tokio::test]
async fn the_canary_tells_of_a_credential_that_is_refused_and_counts_for_nothing() {
    let stage = Stage::with("[canary]\nevery = \"10m\"\n", Options::default()).await;
    let mut worker = stage.worker().await;
    let ok = async |worker: &mut Worker, platform: &str, wanted: f64| {
        let labels = [&*format!("platform=\"{platform}\"")];
        let begun = Instant::now();
        loop {
            let lines = series(worker, "ringpush_credential_ok{").await;
            let there = lines.iter().any(|line| line.contains(labels[0]));
            let value = worker.metric("ringpush_credential_ok", &labels).await;
            if there && (value - wanted).abs() < 0.1 {
                return;
            }
            let waited = begun.elapsed();
            assert!(waited < Duration::from_secs(30), "{platform}: {value}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    ok(&mut worker, "ios", 1.0).await;
    ok(&mut worker, "android", 1.0).await;
    assert_eq!(
        series(&mut worker, "ringpush_credential_ok{").await.len(),
        2
    );
    stage
        .simulator
        .bind_auth_key("FGHIJ67890", &["com.example.other"]);
    worker.signal("HUP");
    ok(&mut worker, "ios", 0.0).await;
    ok(&mut worker, "android", 1.0).await;
    worker.logs("the canary was refused").await;
    let (status, says) = worker.page("/readyz").await;
    assert_eq!(status, 200, "{says}");
    assert!(
        says.contains("the canary was refused: TopicDisallowed"),
        "{says}"
    );
    for name in [
        "ringpush_pushes_total",
        "ringpush_attempts_total",
        "ringpush_lane_paused",
    ] {
        assert!(worker.metric(name, &[]).await < 0.1, "{name}");
    }
    stage.end(worker).await;
}
