//! The small publishers in Python and Rust.

use serde_json::{Value, json};

use super::producer::{Publisher, cancel, ring, routing_key};
use super::support::client::Outcomes;
use super::support::events::{android, ios};
use super::support::stage::Stage;
use super::tools::{done, python};
use super::{file, payload, phones};

/// A ring to both phones and a cancel, each published by `publish`.
async fn ring_and_cancel(
    stage: &Stage,
    outcomes: &mut Outcomes,
    mut publish: impl AsyncFnMut(&str, Value),
) {
    let (devices, apple, google) = phones();
    publish("ring", devices.clone()).await;
    let pushes = outcomes.pushes(2).await;
    assert!(
        pushes.iter().all(|push| push["result"] == "accepted"),
        "{pushes:?}"
    );
    for token in [&apple, &google] {
        let got = payload(stage, token);
        assert_eq!(
            (&got["event"], &got["call_id"]),
            (&json!("ring"), &json!("room-42"))
        );
        assert_eq!(got["caller_name"], "Alice Martin");
    }
    publish("cancel", devices).await;
    let push = outcomes.push().await;
    assert_eq!(
        (&push["event"], &push["result"]),
        (&json!("cancel"), &json!("accepted"))
    );
    assert_eq!(payload(stage, &google)["reason"], "caller_hangup");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_publisher_rings_and_cancels() {
    let Some(example) = python("examples/producers/python") else {
        return;
    };
    let stage = Stage::new().await;
    let mut outcomes = stage.client.outcomes().await;
    let worker = stage.worker().await;
    ring_and_cancel(&stage, &mut outcomes, async |kind, devices| {
        let devices = file(&stage, "devices.json", &devices);
        let variables = [
            ("AMQP_URL", stage.url.as_str()),
            ("AMQP_PREFIX", stage.client.prefix.as_str()),
        ];
        let mut command = example.command("python", &variables);
        command.args(["ring.py", kind, "room-42"]).arg(devices);
        tokio::task::spawn_blocking(move || done(&mut command))
            .await
            .unwrap();
    })
    .await;
    stage.end(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_publisher_rings_and_cancels() {
    let stage = Stage::new().await;
    let mut outcomes = stage.client.outcomes().await;
    let worker = stage.worker().await;
    let publisher = Publisher::open(&stage.url, &stage.client.prefix)
        .await
        .unwrap();
    let caller = json!({"id": "user-1", "name": "Alice Martin"});
    ring_and_cancel(&stage, &mut outcomes, async |kind, devices| {
        let event = match kind {
            "ring" => ring("room-42", &caller, &devices),
            _ => cancel("room-42", "caller_hangup", &devices),
        };
        publisher.publish(&event).await.unwrap();
    })
    .await;
    publisher.close().await.unwrap();
    stage.end(worker).await;
}

/// A wrong key would end in the dead queue.
#[test]
fn one_platforms_rings_go_straight_to_its_queue() {
    let (apple, google) = (ios("a", "00"), android("b", "t"));
    let key = |devices: Value| routing_key(&ring("c", &json!({"id": "u"}), &devices));
    assert_eq!(key(json!([apple])), "ring.ios");
    assert_eq!(key(json!([google])), "ring.android");
    assert_eq!(key(json!([apple, google])), "ring");
    assert_eq!(routing_key(&cancel("c", "busy", &json!([]))), "cancel");
}
