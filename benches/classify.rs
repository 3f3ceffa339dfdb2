//! What reading a provider's answer costs: `cargo bench --bench classify`.

#![allow(clippy::unwrap_used, reason = "the answers are ours")]

use divan::{Bencher, black_box};
use http::Response;
use http::response::Parts;
use ringpush::call::push::Answer;
use ringpush::providers::{apns, fcm};
use uuid::{Uuid, uuid};

const ID: Uuid = uuid!("f6bca434-7e76-53e0-8ad2-888dcdd909be");

/// A token that FCM does not know any more.
const UNREGISTERED: &str = r#"{"error":{"code":404,"message":"Requested entity was not found.",
    "status":"NOT_FOUND","details":[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError",
    "errorCode":"UNREGISTERED"}]}}"#;

fn main() {
    divan::main();
}

#[divan::bench]
fn apns_accepted(bencher: Bencher<'_, '_>) {
    let head = Response::builder().header("apns-id", ID.to_string());
    read(bencher, head, "", apns);
}

#[divan::bench]
fn apns_dead_token(bencher: Bencher<'_, '_>) {
    let body = r#"{"reason":"Unregistered","timestamp":1789999999123}"#;
    read(bencher, Response::builder().status(410), body, apns);
}

#[divan::bench]
fn fcm_accepted(bencher: Bencher<'_, '_>) {
    let body = r#"{"name":"projects/calls/messages/0:1790000000000000%e609af1cf9fd7ecd"}"#;
    read(bencher, Response::builder(), body, fcm::classify);
}

#[divan::bench]
fn fcm_dead_token(bencher: Bencher<'_, '_>) {
    let head = Response::builder().status(404);
    read(bencher, head, UNREGISTERED, fcm::classify);
}

fn apns(head: &Parts, body: &[u8]) -> Answer {
    apns::answer::read(head, body, ID)
}

fn read(
    bencher: Bencher<'_, '_>,
    head: http::response::Builder,
    body: &str,
    classify: fn(&Parts, &[u8]) -> Answer,
) {
    let (head, ()) = head.body(()).unwrap().into_parts();
    bencher.bench(|| classify(black_box(&head), black_box(body.as_bytes())));
}
