//! Payloads that only the phone can read: sealed in Python with `PyNaCl`, opened
//! in JavaScript with libsodium, and by nobody in between.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use super::payload;
use super::support::events::{android, android_token, ios, ios_token, ring};
use super::support::stage::Stage;
use super::tools::{Installed, node, python};

const EXAMPLE: &str = "examples/sealed";

/// Runs a program of the example with a JSON object as its input.
async fn run(
    example: &Installed,
    program: &str,
    arguments: &[&str],
    job: &Value,
) -> Result<Value, String> {
    let mut command = example.command(program, &[]);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let job = job.to_string();
    let output = tokio::task::spawn_blocking(move || {
        let mut process = command.spawn().unwrap();
        process
            .stdin
            .take()
            .unwrap()
            .write_all(job.as_bytes())
            .unwrap();
        process.wait_with_output().unwrap()
    });
    let output = output.await.unwrap();
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Who seals, who opens, and their keys.
struct Parties {
    service: Installed,
    phone: Installed,
    keys: Value,
}

impl Parties {
    async fn new() -> Option<Self> {
        let (Some(phone), Some(service)) = (node(EXAMPLE), python(EXAMPLE)) else {
            return None;
        };
        std::fs::write(phone.folder.join("keys.mjs"), include_str!("keys.mjs")).unwrap();
        let keys = run(&phone, "node", &["keys.mjs", "3"], &Value::Null)
            .await
            .unwrap();
        Some(Self {
            service,
            phone,
            keys,
        })
    }

    async fn seal(&self, call: &Value, platform: &str) -> Result<Value, String> {
        let job = json!({
            "service_key": self.keys[0]["secret"], "device_key": self.keys[1]["public"],
            "kid": "2026-09a", "call": call, "platform": platform,
        });
        run(&self.service, "python", &["seal.py"], &job).await
    }

    async fn open(&self, payload: &Value, key: usize) -> Result<Value, String> {
        let job = json!({
            "payload": payload, "keys": {"2026-09a": self.keys[key]["secret"]},
            "service_key": self.keys[0]["public"],
        });
        run(&self.phone, "node", &["open.mjs"], &job).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_is_read_by_its_phone_and_by_nobody_else() {
    let Some(parties) = Parties::new().await else {
        return;
    };
    let stage = Stage::new().await;
    let mut outcomes = stage.client.outcomes().await;
    let worker = stage.worker().await;
    let (apple, google) = (ios_token(), android_token());
    let mut devices = [ios("iphone", &apple), android("pixel", &google)];
    let call_uuid = "f6376dea-1e76-514e-b020-5eeaad7e8deb";
    let call = json!({"call_uuid": call_uuid, "caller_name": "Zoë 🎉 Martin", "media": "video"});
    for device in &mut devices {
        let platform = device["platform"].as_str().unwrap().to_owned();
        device["sealed"] = parties.seal(&call, &platform).await.unwrap();
    }
    let mut event = ring(&devices);
    event["call_id"] = json!("room-42");
    stage.client.publish("ring", &event).await;
    assert!(
        outcomes
            .pushes(2)
            .await
            .iter()
            .all(|push| push["result"] == "accepted")
    );

    for token in [&apple, &google] {
        let got = payload(&stage, token);
        assert!(
            !got.to_string().contains("Ada Example"),
            "the caller in clear"
        );
        assert_eq!(got["call_uuid"], call_uuid);
        assert_eq!(parties.open(&got, 1).await.unwrap(), call);
        // Another phone's key, or a push that was put together from two.
        assert!(parties.open(&got, 2).await.is_err());
        let mut other = got.clone();
        other["call_uuid"] = json!("00000000-0000-4000-8000-000000000000");
        assert!(
            parties
                .open(&other, 1)
                .await
                .unwrap_err()
                .contains("another call")
        );
    }
    stage.end(worker).await;
}

/// The table in the example's README: the longest text of each platform goes
/// through, a block more is refused by the producer already.
#[tokio::test(flavor = "multi_thread")]
async fn the_size_budget_is_what_the_example_says() {
    let readme = include_str!("../../examples/sealed/README.md");
    let thousands = |n: usize| format!("{} {:03} bytes", n / 1000, n % 1000);
    let Some(parties) = Parties::new().await else {
        return;
    };
    let stage = Stage::new().await;
    let mut outcomes = stage.client.outcomes().await;
    let worker = stage.worker().await;
    for (name, platform, budget) in [("iOS", "ios", 5004), ("Android", "android", 4004)] {
        let text = (budget - "2026-09a".len()) / 4 * 3 - 24 - 16;
        let blocks = text / 256 * 256;
        let row = format!(
            "| {name} | {} | {} | {} |",
            thousands(budget),
            thousands(text),
            thousands(blocks)
        );
        assert!(readme.contains(&row), "{row}");

        let frame = json!({"t": ""}).to_string().len();
        let longest = json!({"t": "x".repeat(blocks - frame)});
        let mut device = match platform {
            "ios" => ios("iphone", &ios_token()),
            _ => android("pixel", &android_token()),
        };
        device["sealed"] = parties.seal(&longest, platform).await.unwrap();
        stage
            .client
            .publish(&format!("ring.{platform}"), &ring(&[device]))
            .await;
        assert_eq!(outcomes.push().await["result"], "accepted", "{platform}");

        let longer = json!({"t": "x".repeat(blocks - frame + 1)});
        let refused = parties.seal(&longer, platform).await.unwrap_err();
        assert!(refused.contains("more than"), "{refused}");
    }
    stage.end(worker).await;
}
