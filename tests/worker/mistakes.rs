//! What a new user gets wrong: the exit status, and an error that names file,
//! key and cure.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use ringpush::simulator::{Effect, Options, Rule, Script, Step, Target};

use crate::support::events::{ios, ios_token, ring};
use crate::support::stage::{Offline, Stage, configure, edit};
use crate::support::worker::{Worker, ringpush};

/// Runs the worker to its end, which must be that of a wrong configuration,
/// and checks that its only line names all this.
async fn is_refused(config: &std::path::Path, names: &[&str]) {
    let file = config.to_str().expect("a readable path");
    let (code, output, error) = ringpush(&["run", "--config", file]).await;
    assert_eq!(code, 2, "{error}");
    assert_eq!(output, "", "nothing on standard output");
    let last = error.lines().last().unwrap_or_default();
    assert!(last.starts_with("ringpush: "), "{error}");
    for name in names {
        assert!(last.contains(name), "{name:?} is not in: {last}");
    }
}

#[tokio::test]
async fn a_missing_configuration_says_where_it_was_looked_for() {
    let names = ["/no/such/ringpush.toml", "--config", "config/ringpush.toml"];
    is_refused("/no/such/ringpush.toml".as_ref(), &names).await;
}

#[tokio::test]
async fn a_wrong_key_or_value_is_named() {
    for (wrong, names) in [
        ("[amqp]\nprefech = 5", ["amqp.prefech", "unknown field"]),
        (
            "[retry]\ninitial = \"soon\"",
            ["retry.initial", "such as \"30s\""],
        ),
        (
            "[amqp]\nurl = \"http://localhost\"",
            ["amqp.url", "amqp://"],
        ),
        (
            "[apns]\nproduction_url = \"http://x\"",
            ["apns.production_url", "https://"],
        ),
        ("[log]\nlevel = \"loud\"", ["log.level", "loud"]),
    ] {
        let site = Offline::new().await;
        configure(&site.config, wrong);
        let file = site.config.to_str().unwrap();
        is_refused(&site.config, &[file, names[0], names[1]]).await;
    }
}

/// A mistake in a variable is not looked for in the file.
#[tokio::test]
async fn a_wrong_variable_is_named() {
    for (variable, value, names) in [
        (
            "RINGPUSH__RING__TTL",
            "soon",
            ["ring.ttl", "such as \"30s\""],
        ),
        ("RINGPUSH__AMQP__URL", "h:5672", ["amqp.url", "amqp://user"]),
        (
            "RINGPUSH__AMQP__PREFETCH",
            "65536",
            ["amqp.prefetch", "65535"],
        ),
        ("RINGPUSH__LOG__LEVEL", "loud", ["log.level", "`warn`"]),
        (
            "RINGPUSH__APNS__EXPIRATION",
            "0",
            ["apns.expiration", "`deadline`"],
        ),
        (
            "RINGPUSH__AMQP",
            "amqp://u:hunter2@h/%2f",
            ["amqp: invalid type: a text", "expected a table"],
        ),
        (
            "RINGPUSH__AMQP__PREFETCH",
            "amqp://u:hunter2@h/%2f",
            ["amqp.prefetch", "65535"],
        ),
        (
            "RINGPUSH__AMQP__CANCELS",
            "amqp://u:hunter2@h/%2f",
            ["amqp.cancels", "`stream`"],
        ),
        (
            "RINGPUSH__ADMIN__LISTEN",
            "9464",
            ["admin.listen", "127.0.0.1:9464"],
        ),
        (
            "RINGPUSH__APNS__CA_FILE",
            "no.pem",
            ["apns.ca_file", "no.pem"],
        ),
        ("RINGPUSH__NONSENSE__X", "1", ["nonsense", "unknown field"]),
    ] {
        let site = Offline::new().await;
        let config = site.config.to_str().unwrap();
        let arguments = ["run", "--config", config];
        let mut worker = Worker::command_with(&arguments, &[(variable, value)]);
        assert_eq!(worker.exit_code().await, 2, "{variable}");
        let log = worker.log.text();
        for name in [config, names[0], names[1], &format!("set by {variable}")] {
            assert!(log.contains(name), "{name:?} is not in: {log}");
        }
        assert!(!log.contains("hunter2"), "{log}");
    }
}

/// A key file that is not there, or is another kind of file.
#[tokio::test]
async fn a_key_file_that_cannot_be_used_is_named_with_its_key() {
    let site = Offline::new().await;
    let file = |name: &str| site.folder.path().join(name);
    let config = site.config.to_str().unwrap();
    let key = file("AuthKey_FGHIJ67890.p8");
    let good = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    is_refused(&site.config, &[config, "key_file", key.to_str().unwrap()]).await;
    for wrong in ["", "no key", include_str!("main.rs")] {
        std::fs::write(&key, wrong).unwrap();
        is_refused(
            &site.config,
            &[config, "key_file", key.to_str().unwrap(), ".p8"],
        )
        .await;
    }
    std::fs::write(&key, good).unwrap();
    let account = file("service-account.json");
    std::fs::write(&account, "{}").unwrap();
    let names = [config, "service_account_file", account.to_str().unwrap()];
    is_refused(&site.config, &names).await;
    std::fs::remove_file(&account).unwrap();
    is_refused(&site.config, &names).await;
}

#[tokio::test]
async fn a_certificate_with_the_wrong_password_is_named() {
    let site = Offline::new().await;
    certificate(&site, "client.p12");
    let password = "certificate_password_file = \"client.p12.password\"";
    configure(
        &site.config,
        &format!("[apps.\"com.example.calls\".ios]\n{password}"),
    );
    let file = site.folder.path().join("client.p12.password");
    std::fs::write(&file, "not-the-password\n").unwrap();
    is_refused(&site.config, &["client.p12", "password"]).await;
    let file = site.config.to_str().unwrap();
    let (_, _, error) = ringpush(&["run", "--config", file]).await;
    assert!(!error.contains("not-the-password"), "{error}");
}

fn certificate(site: &Offline, file: &str) {
    edit(&site.config, |all| {
        let ios = all["apps"]["com.example.calls"]["ios"]
            .as_table_mut()
            .unwrap();
        for key in ["team_id", "key_id", "key_file"] {
            ios.remove(key);
        }
        ios.insert("certificate_file".to_owned(), file.into());
    });
}

/// The password is wrong, and the log does not tell which one was tried.
#[tokio::test]
async fn a_wrong_broker_password_ends_the_worker() {
    let stage = Stage::new().await;
    let wrong = stage.url.replacen("guest:guest@", "guest:hunter2@", 1);
    assert_ne!(wrong, stage.url, "the test broker's user is guest");
    stage.configure(&format!("[amqp]\nurl = \"{wrong}\""));
    let file = stage.config.to_str().unwrap();
    is_refused(&stage.config, &[file, "refuses the login", "amqp.url"]).await;
    let (_, _, error) = ringpush(&["run", "--config", file]).await;
    assert!(!error.contains("hunter2"), "{error}");
}

/// A queue of somebody else's making is not fought with.
#[tokio::test]
async fn a_queue_with_other_arguments_ends_the_worker_and_is_named() {
    let stage = Stage::new().await;
    let queue = stage.client.name("ios");
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let channel = &stage.client.channel;
    let declared = channel.queue_declare(queue.as_str().into(), options, FieldTable::default());
    declared.await.unwrap();
    let file = stage.config.to_str().unwrap();
    is_refused(
        &stage.config,
        &[file, &queue, "x-dead-letter-exchange", "amqp.prefix"],
    )
    .await;
    stage.client.clean().await;
}

/// A broker that is away is waited for: not ready, and says why.
#[tokio::test]
async fn a_broker_that_is_away_is_waited_for() {
    let site = Offline::new().await;
    // A port that was free a moment ago, and that nobody else gets while it
    // is bound here without listening.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
    configure(&site.config, &format!("[amqp]\nurl = \"{url}\""));
    let mut worker = Worker::run(&site.config, &[]);
    worker.logs("no session with the broker").await;
    let why = worker.readiness(503).await;
    assert!(
        why.contains("broker: ") && why.contains(&port.to_string()),
        "{why}"
    );
    assert!(!why.contains("guest"), "{why}");
    assert_eq!(worker.page("/healthz").await.0, 200);
    assert_eq!(worker.stop().await, 0);
}

/// Two workers with one admin address are a mistake that shows at once.
#[tokio::test]
async fn an_admin_address_that_is_taken_ends_the_worker() {
    let site = Offline::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    configure(&site.config, &format!("[admin]\nlisten = \"{address}\""));
    let file = site.config.to_str().unwrap();
    is_refused(&site.config, &[file, "admin.listen", &address, "free"]).await;
}

/// A worker whose ring is stuck at the provider.
async fn with_a_stuck_ring(grace: &str) -> (Stage, Worker) {
    let hang = Rule::every(Target::Apns, Vec::new()).then(Step::new(Effect::Hang));
    let options = Options {
        script: Script { rules: vec![hang] },
        ..Options::default()
    };
    let stage = Stage::with("[apns]\nattempt_timeout = \"60s\"", options).await;
    let mut worker = Worker::run(&stage.config, &["--grace", grace]);
    worker.ready().await;
    let mut event = ring(&[ios("i", &ios_token())]);
    event["expires_at"] = crate::support::events::at(90).into();
    stage.client.publish("ring.ios", &event).await;
    stage.pushes(0).await;
    while worker
        .metric("ringpush_in_flight", &["platform=\"ios\""])
        .await
        < 1.0
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (stage, worker)
}

/// Who asks twice does not wait.
#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (stage, mut worker) = with_a_stuck_ring("60s").await;
    worker.signal("TERM");
    worker.logs("stopping").await;
    worker.signal("INT");
    assert_eq!(worker.exit_code().await, 1);
    stage.client.holds("ios", 1).await;
    stage.client.clean().await;
}

/// What is not finished within the grace goes back to the broker.
#[tokio::test]
async fn what_is_left_after_the_grace_is_the_brokers_again() {
    let (stage, mut worker) = with_a_stuck_ring("300ms").await;
    assert_eq!(worker.stop().await, 0);
    stage.client.holds("ios", 1).await;
    stage.client.clean().await;
}

/// Wrong usage is told from failure.
#[tokio::test]
async fn wrong_usage_is_status_2_and_help_is_0() {
    for arguments in [&["rin"][..], &[], &["run", "--grace", "soon"]] {
        let (code, _, error) = ringpush(arguments).await;
        assert_eq!(code, 2, "{error}");
        assert!(
            error.contains("Usage") || error.contains("--help"),
            "{error}"
        );
    }
    for arguments in [&["--help"][..], &["run", "--help"], &["--version"]] {
        assert_eq!(ringpush(arguments).await.0, 0);
    }
}

/// The other build is in `tests/traces`.
#[cfg(not(feature = "otlp"))]
#[tokio::test(flavor = "multi_thread")]
async fn a_binary_that_cannot_export_traces_says_so_and_works() {
    let offline = Offline::new().await;
    let config = offline.config.to_str().unwrap();
    let mut worker = Worker::command_with(
        &["run", "--stdin", "--config", config],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")],
    );
    worker.logs("--features otlp").await;
    worker.ready().await;
    drop(worker.input.take());
    assert_eq!(worker.exit_code().await, 0);
}
