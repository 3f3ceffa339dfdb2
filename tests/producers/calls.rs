//! A call backend on the Amazon Chime SDK and one of CometChat.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ringpush::simulator::Options;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::chime::{Chime, JOIN_TOKEN, MEETING};
use super::support::client::Outcomes;
use super::support::stage::Stage;
use super::tools::{Installed, done, node};
use super::{file, payload, phones};

#[tokio::test(flavor = "multi_thread")]
async fn a_chime_call_and_a_cometchat_call_ring_on_both_platforms() {
    let (Some(lambda), Some(webhook)) = (
        node("examples/producers/chime-lambda"),
        node("examples/producers/cometchat-webhook"),
    ) else {
        return;
    };
    // As with Amazon MQ, the Lambda's broker.
    let stage = Stage::with("[amqp]\ncancels = \"queue\"", Options::default()).await;
    let mut outcomes = stage.client.outcomes().await;
    let worker = stage.worker().await;
    chime_call(&stage, &lambda, &mut outcomes).await;
    cometchat_call(&stage, &webhook, &mut outcomes).await;
    stage.end(worker).await;
}

async fn chime_call(stage: &Stage, lambda: &Installed, outcomes: &mut Outcomes) {
    let chime = Chime::start().await;
    let (devices, apple, google) = phones();
    let users = json!({
        "user-1": {"name": "Alice Martin", "avatar_url": "https://cdn.example.com/a.jpg", "devices": []},
        "user-2": {"name": "Bob", "devices": devices},
    });
    let backend = Backend {
        stage,
        lambda,
        chime: &chime,
        directory: file(stage, "users.json", &users)
            .to_str()
            .unwrap()
            .to_owned(),
    };
    let call = "7d0f4a58-6f0b-4f2e-9a55-2c1b8f1e0a11";
    let ring = json!({"action": "ring", "call_id": call, "callee_id": "user-2", "media": "video"});
    let answer = backend.invoke("user-1", &ring).await;
    assert_eq!(answer["statusCode"], 201, "{answer}");
    let joining: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert_eq!(joining["attendee"]["JoinToken"], JOIN_TOKEN);
    assert_eq!(joining["meeting"]["MeetingId"], MEETING);

    let pushes = outcomes.pushes(2).await;
    assert!(
        pushes.iter().all(|push| push["result"] == "accepted"),
        "{pushes:?}"
    );
    rings_for_the_meeting(stage, call, &apple, &google);

    // The app lost the answer and asks again: same meeting, no second ring.
    assert_eq!(backend.invoke("user-1", &ring).await["statusCode"], 201);
    let tokens: Vec<_> = chime
        .seen()
        .iter()
        .map(|(_, b)| b["ClientRequestToken"].clone())
        .collect();
    assert_eq!(tokens, [call, call]);

    // Bob answers on his iPhone, the other phone stops.
    let join = json!({"action": "join", "call_id": call, "meeting_id": MEETING, "device_id": "bob-iphone"});
    assert_eq!(backend.invoke("user-2", &join).await["statusCode"], 201);
    let push = outcomes.push().await;
    assert_eq!(
        (&push["event"], &push["device_id"]),
        (&json!("cancel"), &json!("bob-pixel"))
    );
    assert_eq!(payload(stage, &google)["reason"], "answered_elsewhere");
    let pushes = stage.simulator.record().pushes();
    assert_eq!(
        pushes.iter().filter(|push| push.token.is_some()).count(),
        3,
        "rung twice"
    );

    let cancel =
        json!({"action": "cancel", "call_id": call, "meeting_id": MEETING, "callee_id": "user-2"});
    assert_eq!(backend.invoke("user-1", &cancel).await["statusCode"], 204);
    assert_eq!(outcomes.push().await["event"], "cancel");
    let (last, _) = chime.seen().pop().unwrap();
    assert_eq!(last, format!("DELETE /meetings/{MEETING}"));
}

/// Both phones know whose meeting it is, and neither how to get in.
fn rings_for_the_meeting(stage: &Stage, call: &str, apple: &str, google: &str) {
    let on_iphone = payload(stage, apple);
    assert_eq!(on_iphone["id"], call);
    assert_eq!(on_iphone["nameCaller"], "Alice Martin");
    assert_eq!(on_iphone["isVideo"], true);
    assert_eq!(on_iphone["extra"]["meeting_id"], MEETING);
    assert_eq!(on_iphone["extra"]["media_region"], "us-east-1");
    let on_android = payload(stage, google);
    assert_eq!(on_android["isVideo"], "true");
    let extra: Value = serde_json::from_str(on_android["extra"].as_str().unwrap()).unwrap();
    assert_eq!(extra["meeting_id"], MEETING);
    for push in stage.simulator.record().pushes() {
        let text = String::from_utf8_lossy(&push.body);
        assert!(!text.contains(JOIN_TOKEN), "a join token in a push");
    }
}

/// The Lambda and what it is given.
struct Backend<'a> {
    stage: &'a Stage,
    lambda: &'a Installed,
    chime: &'a Chime,
    directory: String,
}

impl Backend<'_> {
    async fn invoke(&self, user: &str, body: &Value) -> Value {
        let script = include_str!("invoke.mjs");
        std::fs::write(self.lambda.folder.join("invoke.mjs"), script).unwrap();
        let variables = [
            ("AMQP_URL", self.stage.url.as_str()),
            ("AMQP_PREFIX", &self.stage.client.prefix),
            ("AWS_ENDPOINT_URL_CHIME_SDK_MEETINGS", &self.chime.url),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "an example, not a secret"),
            ("DIRECTORY_FILE", &self.directory),
        ];
        let mut command = self.lambda.command("node", &variables);
        command.arg("invoke.mjs").arg(user).arg(body.to_string());
        let output = tokio::task::spawn_blocking(move || done(&mut command));
        serde_json::from_slice(&output.await.unwrap().stdout).unwrap()
    }
}

async fn cometchat_call(stage: &Stage, webhook: &Installed, outcomes: &mut Outcomes) {
    let (devices, apple, google) = phones();
    let directory = json!({"users": {"uid-bob": {"devices": devices}}, "groups": {}});
    let directory = file(stage, "directory.json", &directory);
    let server = Server::start(webhook.command(
        "node",
        &[
            ("AMQP_URL", stage.url.as_str()),
            ("AMQP_PREFIX", &stage.client.prefix),
            ("DIRECTORY_FILE", directory.to_str().unwrap()),
            ("WEBHOOK_USER", "cometchat"),
            ("WEBHOOK_PASSWORD", "a password"),
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
        ],
    ));
    let session = "v1.us.2359b0c7d1.17900000001a2b3c4d";
    let ring = hook("call_initiated", session, 1);
    assert_eq!(server.post(&ring, "cometchat:wrong").await.0, 401);
    let (status, first) = server.post(&ring, GOOD).await;
    assert_eq!(status, 200, "{first}");

    let pushes = outcomes.pushes(2).await;
    assert!(
        pushes.iter().all(|push| push["result"] == "accepted"),
        "{pushes:?}"
    );
    for token in [&apple, &google] {
        rings_for_the_session(stage, session, token);
    }
    let sent_at = &ring["data"]["call"]["sentAt"];
    let name = format!("w-1/call_initiated/1/{sent_at}");
    assert_eq!(first, Uuid::new_v5(&EVENTS, name.as_bytes()).to_string());
    // Delivered twice, as webhooks are: one event.
    assert_eq!(server.post(&ring, GOOD).await, (200, first));

    let cancel = hook("call_cancelled", session, 2);
    assert_eq!(server.post(&cancel, GOOD).await.0, 200);
    let push = outcomes.push().await;
    assert_eq!(
        (&push["event"], &push["device_id"]),
        (&json!("cancel"), &json!("bob-pixel"))
    );
    assert_eq!(payload(stage, &google)["type"], "call_cancelled");

    let started = json!({
        "trigger": "call_started", "webhook": "w-1", "appId": "a", "region": "us", "type": "call",
        "data": {"sessionId": session, "created_at": now()},
    });
    assert_eq!(server.post(&started, GOOD).await.0, 200);
    ignores_what_is_no_ring(&server).await;
}

async fn ignores_what_is_no_ring(server: &Server) {
    let message = json!({"trigger": "message_sent", "data": {}, "webhook": "w-1"});
    let (status, text) = server.post(&message, GOOD).await;
    assert_eq!((status, text.trim()), (200, "nothing to ring"));
    let strange = json!({"trigger": "call_initiated", "data": {}, "webhook": "w-1"});
    assert_eq!(server.post(&strange, GOOD).await.0, 400);
    assert_eq!(server.send("{", GOOD).await.0, 400);
    let nowhere = hook("call_initiated", "v1.us.other", 3)
        .to_string()
        .replace("uid-bob", "uid-nobody");
    let nowhere: Value = serde_json::from_str(&nowhere).unwrap();
    let (status, text) = server.post(&nowhere, GOOD).await;
    assert_eq!((status, text.trim()), (200, "nothing to ring"));
}

fn rings_for_the_session(stage: &Stage, session: &str, token: &str) {
    let got = payload(stage, token);
    assert_eq!(got["type"], "incoming_call");
    assert_eq!(got["sessionId"], session);
    assert_eq!(got["callerName"], "Alice Martin");
    assert_eq!(got["callerUid"], "uid-alice");
    assert_eq!(got["callType"], "audio");
}

/// The namespace of the example's event ids.
const EVENTS: Uuid = uuid::uuid!("5e1c7d0e-63a8-4f0c-8a9b-0d9b5f7c2f11");

const GOOD: &str = "cometchat:a password";

fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// A webhook in the form of CometChat's documentation ("Ringing Events").
fn hook(trigger: &str, session: &str, id: u32) -> Value {
    let status = trigger.trim_start_matches("call_");
    json!({
        "trigger": trigger, "appId": "2359b0c7d1", "region": "us", "webhook": "w-1",
        "data": {"call": {
            "id": id.to_string(), "conversationId": "uid-alice_user_uid-bob",
            "sender": "uid-alice", "receiverType": "user", "receiver": "uid-bob",
            "category": "call", "type": "audio", "sentAt": now(), "updatedAt": now(),
            "data": {"action": status, "entities": {
                "by": {"entityType": "user", "entity": {"uid": "uid-alice", "name": "Alice Martin", "status": "available"}},
                "on": {"entityType": "call", "entity": {"sessionid": session, "status": status, "type": "audio", "initiatedAt": now()}},
            }},
        }},
    })
}

/// The receiver of webhooks. Ends with the test.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(mut command: Command) -> Self {
        let mut process = command
            .arg("server.mjs")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let port = line.trim().strip_prefix("listening on ").unwrap();
        Self {
            address: format!("127.0.0.1:{port}"),
            process,
        }
    }

    /// Status and text of the answer.
    async fn post(&self, body: &Value, credentials: &str) -> (u16, String) {
        self.send(&body.to_string(), credentials).await
    }

    async fn send(&self, body: &str, credentials: &str) -> (u16, String) {
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\nauthorization: Basic {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.address,
            STANDARD.encode(credentials),
            body.len()
        );
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        // In one chunk: length, text, and a chunk of nothing.
        let text = text.lines().nth(1).unwrap_or(text);
        (status, text.to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whoever copies one folder gets all of it; the part that both share must not
/// drift apart.
#[test]
fn both_node_examples_publish_with_the_same_code() {
    let lambda = include_str!("../../examples/producers/chime-lambda/publish.mjs");
    let webhook = include_str!("../../examples/producers/cometchat-webhook/publish.mjs");
    assert_eq!(lambda, webhook);
}
