//! `ringpush check` on wrong set-ups: each names the cause and the cure.

use chrono::TimeDelta;
use ringpush::simulator::{Environment, ServerKind, Stop};
use serde_json::Value;

use crate::rig::{Ran, Rig, run_with};

/// The proofs in this state.
fn proofs(ran: &Ran, state: &str) -> Vec<Value> {
    let report = ran.json();
    let all = report["proofs"].as_array().unwrap().clone();
    all.into_iter().filter(|p| p["state"] == state).collect()
}

/// Runs `check` without a broker, expects `code`, and one proof in that state
/// that has all words.
async fn finds(rig: &Rig, code: i32, state: &str, words: &[&str]) {
    let ran = rig.run("check", &["--no-broker", "--json"]).await;
    assert_eq!(ran.code, code, "{ran:#?}");
    let found = proofs(&ran, state);
    let matches = |proof: &&Value| {
        let text = proof.to_string();
        words.iter().all(|word| text.contains(word))
    };
    let proof = found.iter().find(matches);
    let proof = proof.unwrap_or_else(|| panic!("no {state} proof has {words:?}: {found:#?}"));
    let cure = proof["do"].as_str().unwrap_or_default();
    assert!(cure.len() > 10, "no cure: {proof:#}");
}

async fn fails(rig: &Rig, words: &[&str]) {
    finds(rig, 1, "failed", words).await;
}

const KEY: &str = "AuthKey_FGHIJ67890.p8";

#[tokio::test]
async fn a_set_up_that_works_passes_and_rings_nobody() {
    let rig = Rig::start().await;
    let ran = rig.run("check", &["--no-broker"]).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(ran.out.contains("Everything is in order."), "{}", ran.out);
    assert!(!ran.out.contains('\x1b'), "colour without a terminal");
    for push in rig.simulator.record().pushes() {
        assert!(
            push.token
                .as_deref()
                .is_none_or(|t| t.starts_with("ringpush"))
        );
    }
    // Offline nobody is asked.
    let before = rig.simulator.record().pushes().len();
    let ran = rig.run("check", &["--offline", "--json"]).await;
    assert_eq!((ran.code, ran.json()["ok"].as_bool()), (0, Some(true)));
    assert_eq!(rig.simulator.record().pushes().len(), before);
}

#[tokio::test]
async fn key_files_that_are_none() {
    let rig = Rig::start().await;
    rig.remove(KEY);
    fails(&rig, &[KEY, "No such file", "check the path"]).await;
    rig.write(KEY, "");
    fails(&rig, &[KEY, "this is empty", "download the .p8"]).await;
    rig.write(KEY, rig.simulator.ca_pem());
    fails(&rig, &["a certificate", "download the .p8"]).await;
    let account: Value = serde_json::from_str(rig.simulator.service_account_json()).unwrap();
    rig.write(KEY, account["private_key"].as_str().unwrap());
    fails(&rig, &["not a P-256", "APNs keys are"]).await;
}

#[tokio::test]
async fn keys_that_apple_does_not_take() {
    let rig = Rig::start().await;
    rig.edit("team_id = \"ABCDE12345\"", "team_id = \"ZZZZZ99999\"");
    fails(&rig, &["InvalidProviderToken", "Membership details"]).await;
    rig.edit("team_id = \"ZZZZZ99999\"", "team_id = \"ABCDE12345\"");

    rig.edit("key_id = \"FGHIJ67890\"", "key_id = \"KKKKK11111\"");
    fails(&rig, &["InvalidProviderToken", "Compare key_id"]).await;
    finds(&rig, 1, "warning", &["key_id is KKKKK11111", "FGHIJ67890"]).await;
    rig.edit("key_id = \"KKKKK11111\"", "key_id = \"FGHIJ67890\"");

    rig.simulator.remove_auth_key("FGHIJ67890");
    fails(&rig, &["InvalidProviderToken", "revoked", "make a new one"]).await;
    let only = Some(Environment::Sandbox);
    let pem = rig
        .simulator
        .add_auth_key("ABCDE12345", "FGHIJ67890", only)
        .unwrap();
    rig.write(KEY, pem);
    fails(&rig, &["BadEnvironmentKey", "key for both environments"]).await;
    // An environment with a key of its own is proven with that.
    let other = rig
        .simulator
        .add_auth_key("ABCDE12345", "PRODKEY001", Some(Environment::Production))
        .unwrap();
    rig.write("prod.p8", other);
    let own = "[apps.\"com.example.calls\".ios.production]\nkey_id = \"PRODKEY001\"\nkey_file = \"prod.p8\"\n";
    rig.edit(
        "[apps.\"com.example.calls\".android]",
        &format!("{own}[apps.\"com.example.calls\".android]"),
    );
    let ran = rig.run("check", &["--no-broker", "--json"]).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    for word in [
        "iOS credential production",
        "iOS credential sandbox",
        "PRODKEY001",
    ] {
        assert!(ran.out.contains(word), "{}", ran.out);
    }
    rig.edit(own, "");
    // The app's own environment is what counts.
    rig.edit("environment = \"production\"", "environment = \"sandbox\"");
    finds(
        &rig,
        0,
        "warning",
        &["BadEnvironmentKey", "only for devices"],
    )
    .await;
}

#[tokio::test]
async fn a_bundle_id_of_somebody_else() {
    let rig = Rig::start().await;
    rig.edit(
        "bundle_id = \"com.example.calls\"",
        "bundle_id = \"com.example.other\"",
    );
    fails(&rig, &["production", "bundle_id"]).await;
}

#[tokio::test]
async fn a_certificate_of_somebody_else() {
    let rig = Rig::start().await;
    for line in ["team_id = ", "key_id = ", "key_file = "] {
        rig.edit(line, &format!("# {line}"));
    }
    rig.edit("# certificate_", "certificate_");
    let ran = rig.run("check", &["--offline", "--json"]).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    rig.edit(
        "bundle_id = \"com.example.calls\"",
        "bundle_id = \"com.example.other\"",
    );
    let words = [
        "for com.example.calls",
        "not for com.example.other.voip",
        "mend bundle_id",
    ];
    fails(&rig, &words).await;
}

#[tokio::test]
async fn one_key_of_two_teams() {
    let rig = Rig::start().await;
    let more = "\n[apps.\"b\".ios]\nbundle_id = \"b.c\"\nteam_id = \"ZZZZZ99999\"\n\
                key_id = \"FGHIJ67890\"\nkey_file = \"AuthKey_FGHIJ67890.p8\"\n";
    rig.write("ringpush.toml", rig.read("ringpush.toml") + more);
    let ran = rig.run("check", &["--offline", "--json"]).await;
    assert_eq!(ran.code, 1);
    let found = proofs(&ran, "failed");
    assert!(
        found[0].to_string().contains("said to belong to team"),
        "{found:#?}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_key_that_everybody_can_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let rig = Rig::start().await;
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(rig.path(KEY), mode).unwrap();
    finds(&rig, 0, "warning", &[KEY, "read by everybody", "chmod 600"]).await;
}

#[tokio::test]
async fn certificates_instead_of_keys() {
    let rig = Rig::start().await;
    rig.edit(
        "team_id = \"ABCDE12345\"\nkey_id = \"FGHIJ67890\"\nkey_file = \"AuthKey_FGHIJ67890.p8\"",
        "certificate_file = \"client.p12\" # mine",
    );
    fails(
        &rig,
        &[
            "client.p12",
            "needs a password",
            "certificate_password_file",
        ],
    )
    .await;
    rig.edit(
        "\"client.p12\" # mine",
        "\"client.p12\"\ncertificate_password_file = \"wrong\"",
    );
    rig.write("wrong", "not this\n");
    fails(&rig, &["certificate_password_file", "is wrong"]).await;
    rig.edit("\"wrong\"", "\"client.p12.password\"");
    let ran = rig.run("check", &["--no-broker", "--json"]).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(ran.out.contains("certificate, expires"), "{}", ran.out);
    let expired = expired_certificate();
    rig.write("client.p12", expired);
    fails(&rig, &["expired at 2020", "make a new one"]).await;
}

#[tokio::test]
async fn a_certificate_with_the_key_of_another() {
    let rig = Rig::start().await;
    rig.edit(
        "team_id = \"ABCDE12345\"\nkey_id = \"FGHIJ67890\"\nkey_file = \"AuthKey_FGHIJ67890.p8\"",
        "certificate_file = \"mixed.pem\"",
    );
    let simple = || rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
    let (one, other) = (simple(), simple());
    let mixed = one.cert.pem() + &other.signing_key.serialize_pem();
    rig.write("mixed.pem", mixed);
    fails(
        &rig,
        &["mixed.pem", "not that of its certificate", "export both"],
    )
    .await;
}

/// Certificate and key, PEM.
fn expired_certificate() -> String {
    let mut params = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    certificate.pem() + &key.serialize_pem()
}

#[tokio::test]
async fn authorities_that_are_missing_or_others() {
    let rig = Rig::start().await;
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    rig.write("ca.pem", other.cert.pem());
    fails(&rig, &["APNs production", "TLS with", "apns.ca_file"]).await;
    fails(&rig, &["FCM", "TLS with", "fcm.ca_file"]).await;
    rig.write("ca.pem", "nothing");
    fails(&rig, &["apns.ca_file", "ca.pem: ", "must be PEM"]).await;
    rig.remove("ca.pem");
    fails(
        &rig,
        &["apns: trusted roots", "ca.pem", "readable PEM file"],
    )
    .await;
}

#[tokio::test]
async fn providers_that_are_away() {
    let rig = Rig::start().await;
    rig.simulator
        .server(ServerKind::ApnsSandbox)
        .stop(Stop::Abrupt)
        .await;
    finds(
        &rig,
        0,
        "warning",
        &["APNs sandbox", "connecting to", "port 443"],
    )
    .await;
    rig.simulator
        .server(ServerKind::ApnsProduction)
        .stop(Stop::Abrupt)
        .await;
    fails(&rig, &["APNs production", "connecting to", "firewall"]).await;
    rig.simulator
        .server(ServerKind::Fcm)
        .stop(Stop::Abrupt)
        .await;
    fails(&rig, &["FCM", "connecting to", "fcm.url"]).await;
    rig.simulator
        .server(ServerKind::Oauth)
        .stop(Stop::Abrupt)
        .await;
    fails(&rig, &["OAuth", "connecting to", "token_uri"]).await;
    let ran = rig
        .run("check", &["--no-broker", "--json", "--timeout", "1s"])
        .await;
    assert!(ran.out.contains("oauth_unavailable"), "{}", ran.out);
}

#[tokio::test]
async fn service_accounts_that_are_none() {
    const FILE: &str = "service-account.json";
    let rig = Rig::start().await;
    let good = rig.read(FILE);
    rig.edit_file(FILE, "\"service_account\"", "\"authorized_user\"");
    fails(&rig, &["authorized_user", "create a key"]).await;
    rig.write(FILE, good.replace("BEGIN PRIVATE KEY", "BEGIN SECRET KEY"));
    fails(&rig, &["private_key", "download the key file again"]).await;
    rig.write(FILE, "{\"project_info\": {}, \"client\": []}");
    fails(&rig, &["google-services.json", "create one"]).await;
    rig.write(FILE, good.replace("http://127.0.0.1", "http://example.com"));
    fails(
        &rig,
        &["token_uri", "https://", "download the key file again"],
    )
    .await;
    rig.write(FILE, "not json");
    fails(&rig, &[FILE, "not a JSON object", "Firebase console"]).await;
    rig.remove(FILE);
    fails(&rig, &[FILE, "cannot be read", "check the path"]).await;
}

#[tokio::test]
async fn accounts_that_google_does_not_take() {
    let rig = Rig::start().await;
    rig.edit(
        "service_account_file = \"service-account.json\"",
        "service_account_file = \"service-account.json\"\nproject_id = \"no-such-project\"",
    );
    fails(&rig, &["right to send", "project_id"]).await;
    rig.edit(
        "project_id = \"no-such-project\"",
        "project_id = \"not-ours\"",
    );
    rig.simulator.add_project("not-ours");
    fails(
        &rig,
        &["right to send", "PERMISSION_DENIED", "Cloud Messaging"],
    )
    .await;
    rig.edit("project_id = \"not-ours\"", "");
    rig.simulator
        .remove_service_account("sender@ringpush-sim.iam.gserviceaccount.com");
    fails(&rig, &["access token", "invalid_grant", "make a new key"]).await;
}

#[tokio::test]
async fn a_clock_that_is_wrong() {
    let rig = Rig::start().await;
    rig.simulator.set_clock(TimeDelta::seconds(20));
    finds(&rig, 0, "warning", &["clock", "behind", "NTP"]).await;
    rig.simulator.set_clock(TimeDelta::hours(2));
    fails(&rig, &["clock", "behind", "NTP"]).await;
    fails(&rig, &["ExpiredProviderToken", "clock"]).await;
    fails(&rig, &["invalid_grant", "clock"]).await;
}

#[tokio::test]
async fn an_address_of_the_broker_that_is_none() {
    let rig = Rig::start().await;
    rig.edit("url = \"amqp://", "url = \"http://");
    let ran = rig.run("check", &["--offline", "--json"]).await;
    assert_eq!(ran.code, 1);
    let found = proofs(&ran, "failed");
    assert!(
        found[0]["found"].as_str().unwrap().contains("amqp.url"),
        "{found:#?}"
    );
    assert!(
        found[0]["do"].as_str().unwrap().contains("amqp://user"),
        "{found:#?}"
    );
}

#[tokio::test]
async fn profiles_that_cannot_be_used() {
    let rig = Rig::start().await;
    rig.edit("profile = \"plain\"", "profile = \"fancy\"");
    fails(&rig, &["no profile fancy", "plain", "profiles.dir"]).await;
    rig.edit("[amqp]", "[profiles]\ndir = \"mine\"\n\n[amqp]");
    fails(&rig, &["profiles.dir", "mine", "name a folder"]).await;
    std::fs::create_dir(rig.path("mine")).unwrap();
    rig.write("mine/fancy.json", "{\"ring\": 7}");
    let ran = rig.run("check", &["--offline", "--json"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("fancy"), "{}", ran.out);
    rig.write("mine/fancy.json", "{}");
    fails(&rig, &["fancy.json", "missing field", "docs/profiles.md"]).await;
}

#[tokio::test]
async fn an_unreadable_configuration_is_another_status() {
    for (from, to, words) in [
        ("[amqp]", "[ampq]", ["ampq", "unknown field"]),
        ("[amqp]", "[amqp", ["ringpush.toml", "TOML"]),
        (
            "bundle_id = \"com.example.calls\"",
            "bundle_id = \"com.example.calls.voip\"",
            ["bundle_id", "leave .voip off"],
        ),
        (
            "key_file = \"AuthKey_FGHIJ67890.p8\"",
            "",
            ["key_file", "missing"],
        ),
        ("team_id = \"ABCDE12345\"", "", ["team_id", "Membership"]),
        (
            "[fcm]",
            "[fcm]\nin_flight = 900",
            ["fcm.in_flight", "raise"],
        ),
        (
            "sandbox_url = \"https://",
            "sandbox_url = \"http://",
            ["sandbox_url", "https://"],
        ),
    ] {
        let rig = Rig::start().await;
        rig.edit(from, to);
        let ran = rig.run("check", &["--no-broker"]).await;
        assert_eq!(ran.code, 2, "{to}: {ran:#?}");
        assert!(
            words.iter().all(|word| ran.err.contains(word)),
            "{words:?}: {ran:#?}"
        );
    }
    let ran = crate::rig::run(&["check", "--config", "/no/such/file.toml"]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("name an existing file"), "{}", ran.err);
}

/// `rustls-native-certs` alone would take the file in place of the system's.
#[tokio::test]
async fn a_ca_in_the_environment_is_trusted_beside_the_systems() {
    let rig = Rig::start().await;
    let config: Vec<String> = rig
        .read("ringpush.toml")
        .lines()
        .filter(|line| !line.starts_with("ca_file"))
        .map(ToOwned::to_owned)
        .collect();
    rig.write("ringpush.toml", config.join("\n"));
    let (config, ca) = (rig.path("ringpush.toml"), rig.path("ca.pem"));
    let arguments = [
        "check",
        "--offline",
        "--json",
        "--config",
        config.to_str().unwrap(),
    ];
    let trusted = async |environment: &[(&str, &str)]| {
        let ran = run_with(&arguments, environment).await;
        let proof = ran.json()["proofs"]
            .as_array()
            .unwrap()
            .iter()
            .find(|proof| proof["what"] == "fcm: trusted roots")
            .cloned()
            .unwrap();
        let found = proof["found"].as_str().unwrap_or_default();
        let count = found.split(' ').next().unwrap_or_default();
        // A machine without roots says so instead.
        (count.parse::<usize>().unwrap_or(0), proof.to_string())
    };
    let (before, _) = trusted(&[]).await;
    let (with_file, _) = trusted(&[("SSL_CERT_FILE", ca.to_str().unwrap())]).await;
    assert_eq!(with_file, before + 1);
    let (with_nothing, _) = trusted(&[("SSL_CERT_FILE", "")]).await;
    assert_eq!(with_nothing, before);
    let (none, text) = trusted(&[("SSL_CERT_FILE", config.to_str().unwrap())]).await;
    assert_eq!(none, 0, "{text}");
    assert!(text.contains("SSL_CERT_FILE names"), "{text}");
}

/// Token requests trust the system's roots also where a `ca_file` takes their
/// place for everything else.
#[tokio::test]
async fn a_useless_file_of_the_environment_is_named_though_there_is_a_ca_file() {
    let rig = Rig::start().await;
    let config = rig.path("ringpush.toml");
    let useless = [("SSL_CERT_FILE", config.to_str().unwrap())];
    let check = ["check", "--offline", "--config", config.to_str().unwrap()];
    let ran = run_with(&check, &useless).await;
    assert!(ran.out.contains("SSL_CERT_FILE names"), "{}", ran.out);
    assert_eq!(ran.code, 1);
    let run = ["run", "--stdin", "--config", config.to_str().unwrap()];
    let ran = run_with(&run, &useless).await;
    assert!(ran.err.contains("SSL_CERT_FILE names"), "{}", ran.err);
    assert_eq!(ran.code, 2);
}
