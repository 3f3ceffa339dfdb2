//! `ringpush trace`: the contract's exit statuses and what it says.

use serde_json::Value;

use super::rig::{IOS_TOKEN, Worker, android, ios, ring};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_told_in_text_and_in_json() {
    let script =
        "[[rule]]\nserver = \"apns\"\nsteps = [{ status = 503, reason = \"ServiceUnavailable\" }]";
    let mut worker = Worker::start(script, "info").await;
    worker.send(
        &ring("room 42", &[ios("bob-iphone"), android("bob-pixel")]),
        2,
    );

    let told = worker.trace(&["room 42"]);
    assert_eq!(told.status.code(), Some(0));
    let told = text(&told.stdout);
    for wanted in [
        "call room 42: 2 pushes",
        "ring to bob-iphone (ios, com.example.calls, …cf21)  accepted",
        "ring to bob-pixel (android, com.example.calls,",
        "ring sent",
        "taken",
        "503 ServiceUnavailable after",
        "from production",
        "waited",
    ] {
        assert!(told.contains(wanted), "{wanted} is not in:\n{told}");
    }
    assert!(!told.contains('\u{1b}'), "no colour into a pipe");
    assert!(!told.contains(&IOS_TOKEN[..10]));

    let json = worker.trace(&["room 42", "--json"]);
    assert_eq!(json.status.code(), Some(0));
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&json["v"], &json["call_id"]),
        (&1.into(), &"room 42".into())
    );
    let pushes = json["pushes"].as_array().unwrap();
    let phone = pushes
        .iter()
        .find(|push| push["platform"] == "ios")
        .unwrap();
    assert_eq!(phone["attempts"][0]["status"], 503);
    assert_eq!(phone["attempts"][0]["reason"], "ServiceUnavailable");
    assert_eq!(phone["attempts"][1]["class"], "accepted");
    assert_eq!(phone["outcome"]["result"], "accepted");
    assert_eq!(phone["outcome"]["attempts"], 2);
    assert!(phone["attempts"][1]["after_ms"].as_u64() >= Some(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_known_while_it_is_still_being_tried() {
    let script =
        "[[rule]]\nserver = \"apns\"\nthen = { status = 503, reason = \"ServiceUnavailable\" }";
    let mut worker = Worker::start(script, "info").await;
    worker.hand_over(&ring("room", &[ios("phone")]));
    let began = std::time::Instant::now();
    let push = loop {
        let answer = worker.ask("GET", "/trace?call_id=room");
        if answer.status == 200 {
            let trace: Value = serde_json::from_str(&answer.body).unwrap();
            let push = trace["pushes"][0].clone();
            if push["attempts"].as_array().unwrap().len() > 1 {
                break push;
            }
        }
        assert!(began.elapsed().as_secs() < 30, "{}", answer.body);
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert_eq!(
        (&push["state"], &push["outcome"]),
        (&"under_way".into(), &Value::Null)
    );
    let page = worker.page("/?call_id=room");
    assert!(page.contains("under way"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_call_and_a_missing_worker_are_told_apart() {
    let mut worker = Worker::start("", "info").await;
    let unknown = worker.trace(&["nobody", "--json"]);
    assert_eq!(unknown.status.code(), Some(1));
    let said = text(&unknown.stderr);
    assert!(said.contains("unknown call nobody"), "{said}");
    let json: Value = serde_json::from_slice(&unknown.stdout).unwrap();
    assert_eq!(json["error"], "unknown_call");

    worker.end();
    let gone = worker.trace(&["nobody"]);
    assert_eq!(gone.status.code(), Some(1));
    let said = text(&gone.stderr);
    assert!(said.contains("no worker answers at admin.listen"), "{said}");
    assert!(!said.contains("unknown call"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_without_a_call_is_refused() {
    let worker = Worker::start("", "info").await;
    for path in ["/trace", "/trace?call_id=", "/trace?call_id=%20"] {
        let answer = worker.ask("GET", path);
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.body.contains("no_call_id"), "{}", answer.body);
    }
}
