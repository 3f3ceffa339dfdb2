//! `ringpush check` on brokers that a worker could not work on.

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde_json::Value;

use crate::rig::{Ran, Rig};
use crate::support::broker::Broker;

async fn check(rig: &Rig) -> (Ran, Value) {
    let ran = rig.run("check", &["--json"]).await;
    let report = ran.json();
    let proofs = report["proofs"].as_array().unwrap();
    let broker = proofs.iter().find(|proof| proof["what"] == "broker");
    let broker = broker.unwrap_or_else(|| panic!("{ran:#?}")).clone();
    (ran, broker)
}

/// Points the configuration at another address.
fn point(rig: &Rig, url: &str) {
    let text = rig.read("ringpush.toml");
    let line = text
        .lines()
        .find(|line| line.starts_with("url = \"amqp"))
        .unwrap();
    rig.write(
        "ringpush.toml",
        text.replace(line, &format!("url = \"{url}\"")),
    );
}

async fn fails(rig: &Rig, words: &[&str]) {
    let (ran, broker) = check(rig).await;
    assert_eq!(
        (ran.code, &broker["state"]),
        (1, &"failed".into()),
        "{ran:#?}"
    );
    let text = broker.to_string();
    assert!(
        words.iter().all(|word| text.contains(word)),
        "{words:?}: {text}"
    );
    assert!(
        broker["do"].as_str().is_some_and(|cure| cure.len() > 10),
        "{text}"
    );
    assert!(!ran.out.contains("hunter2"), "a password: {}", ran.out);
}

#[tokio::test]
async fn a_broker_that_works_and_four_that_do_not() {
    let broker = Broker::shared();
    let rig = Rig::start().await;
    let prefix = format!("check{}", uuid::Uuid::new_v4().simple());
    rig.edit("[amqp]", &format!("[amqp]\nprefix = \"{prefix}\""));

    point(&rig, "amqp://guest:hunter2@127.0.0.1:1/%2f");
    fails(
        &rig,
        &["cannot reach RabbitMQ at 127.0.0.1:1", "start RabbitMQ"],
    )
    .await;

    let (scheme, rest) = broker.url.split_once("://").unwrap();
    let host = rest.split_once('@').map_or(rest, |(_, host)| host);
    point(&rig, &format!("{scheme}://guest:hunter2@{host}"));
    fails(&rig, &["refuses the login", "user and password"]).await;

    let bare = broker
        .url
        .rsplit_once('/')
        .map_or(&*broker.url, |(bare, _)| bare);
    point(&rig, &format!("{bare}/no-such-host"));
    fails(&rig, &["virtual host", "create it"]).await;

    point(&rig, &broker.url);
    let (ran, proof) = check(&rig).await;
    assert_eq!((ran.code, &proof["state"]), (0, &"ok".into()), "{ran:#?}");

    let other = format!("other{}", uuid::Uuid::new_v4().simple());
    rig.edit(&prefix, &other);
    declare_plainly(&broker.url, &format!("{other}.ios")).await;
    fails(&rig, &["exists already with other arguments", "delete it"]).await;

    let missing = format!("gone{}", uuid::Uuid::new_v4().simple());
    rig.edit(
        &format!("prefix = \"{other}\""),
        &format!("prefix = \"{missing}\"\ndeclare = false"),
    );
    fails(&rig, &["does not exist", "amqp.declare = true"]).await;
}

/// A worker that may not write to the default exchange cannot split an event,
/// which it would learn only from the first one.
#[tokio::test]
async fn a_user_who_may_not_write_to_the_default_exchange() {
    let broker = Broker::private();
    let rig = Rig::start().await;
    broker.ctl(&["add_user", "poor", "hunter2"]);
    broker.ctl(&["set_permissions", "poor", ".*", "^ringpush.*", ".*"]);
    let host = broker.url.split_once('@').unwrap().1;
    point(&rig, &format!("amqp://poor:hunter2@{host}"));
    fails(&rig, &["amq.default", "write and read permissions"]).await;
    broker.ctl(&[
        "set_permissions",
        "poor",
        ".*",
        "^(ringpush|amq.default).*",
        ".*",
    ]);
    let (ran, proof) = check(&rig).await;
    assert_eq!((ran.code, &proof["state"]), (0, &"ok".into()), "{ran:#?}");
}

async fn declare_plainly(url: &str, queue: &str) {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await;
    declared.unwrap();
}
