//! A stand-in for the two requests to the Amazon Chime SDK that the Lambda
//! makes. Nothing else stands in for it: moto, for one, does not know them.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::routing::{delete, post};
use serde_json::{Value, json};

/// What nobody but the one whom it was made for may get to see.
pub(crate) const JOIN_TOKEN: &str = "c2VjcmV0LWpvaW4tdG9rZW4";

pub(crate) const MEETING: &str = "3f0c9d52-77a1-4c0e-8f3b-52d5e1a82713";

/// The requests that came, as `(what, body)`.
type Seen = Arc<Mutex<Vec<(String, Value)>>>;

pub(crate) struct Chime {
    pub(crate) url: String,
    seen: Seen,
    server: tokio::task::JoinHandle<()>,
}

impl Chime {
    pub(crate) async fn start() -> Self {
        let seen = Seen::default();
        let router = Router::new()
            .route("/meetings", post(create_meeting))
            .route("/meetings/{id}/attendees", post(create_attendee))
            .route("/meetings/{id}", delete(delete_meeting))
            .with_state(Arc::clone(&seen));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        Self { url, seen, server }
    }

    pub(crate) fn seen(&self) -> Vec<(String, Value)> {
        self.seen.lock().expect("no panic holding it").clone()
    }
}

impl Drop for Chime {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Notes a request, which has to be signed.
async fn note(seen: &Seen, request: Request) -> Value {
    let signature = request.headers()["authorization"]
        .to_str()
        .expect("text")
        .to_owned();
    assert!(signature.starts_with("AWS4-HMAC-SHA256 "), "not signed");
    assert!(signature.contains("/us-east-1/chime/aws4_request"));
    let what = format!("{} {}", request.method(), request.uri());
    let body = axum::body::to_bytes(request.into_body(), 64 * 1024)
        .await
        .expect("a body");
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    seen.lock()
        .expect("no panic holding it")
        .push((what, Value::clone(&body)));
    body
}

async fn create_meeting(State(seen): State<Seen>, request: Request) -> (StatusCode, String) {
    assert_eq!(request.uri().query(), Some("operation=create-attendees"));
    let asked = note(&seen, request).await;
    let host = "x.k.m1.ue1.app.chime.aws";
    let meeting = json!({
        "MeetingId": MEETING,
        "ExternalMeetingId": asked["ExternalMeetingId"],
        "MediaRegion": asked["MediaRegion"],
        "MediaPlacement": {"AudioHostUrl": format!("{host}:3478"), "SignalingUrl": format!("wss://{host}/control")},
    });
    let attendees = [attendee(&asked["Attendees"][0]["ExternalUserId"])];
    let answer = json!({"Meeting": meeting, "Attendees": attendees, "Errors": []});
    (StatusCode::CREATED, answer.to_string())
}

async fn create_attendee(
    State(seen): State<Seen>,
    Path(id): Path<String>,
    request: Request,
) -> (StatusCode, String) {
    assert_eq!(id, MEETING);
    let asked = note(&seen, request).await;
    let answer = json!({"Attendee": attendee(&asked["ExternalUserId"])});
    (StatusCode::CREATED, answer.to_string())
}

async fn delete_meeting(State(seen): State<Seen>, request: Request) -> StatusCode {
    note(&seen, request).await;
    StatusCode::NO_CONTENT
}

fn attendee(user: &Value) -> Value {
    json!({
        "ExternalUserId": user,
        "AttendeeId": "b4f5c7d2-0000-4000-8000-00000000a77e",
        "JoinToken": JOIN_TOKEN,
    })
}
