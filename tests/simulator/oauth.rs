//! The token server, by a client on plain HTTP/1.1.

use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use ringpush::simulator::{Options, Script, ServerKind, Simulator};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::{Client, Push, rs256, simulator};

pub const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";

/// Posts a form; `None` if the connection broke.
pub async fn post(simulator: &Simulator, path: &str, form: &str) -> Option<(u16, Value)> {
    let address = simulator.server(ServerKind::Oauth).address();
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .ok()?;
    tokio::spawn(connection);
    let request = Request::post(path)
        .header("host", address.to_string())
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form.to_owned())))
        .unwrap();
    let (head, body) = send.send_request(request).await.ok()?.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    Some((
        head.status.as_u16(),
        serde_json::from_slice(&body).unwrap_or(Value::Null),
    ))
}

/// Claims Google would take, for the simulator's own account.
pub fn claims(simulator: &Simulator) -> Value {
    let account: Value = serde_json::from_str(simulator.service_account_json()).unwrap();
    let now = Utc::now().timestamp();
    json!({ "iss": account["client_email"], "aud": account["token_uri"], "scope": SCOPE,
            "iat": now, "exp": now + 3_595 })
}

pub fn key(account: &str) -> String {
    let account: Value = serde_json::from_str(account).unwrap();
    account["private_key"].as_str().unwrap().to_owned()
}

pub async fn ask(simulator: &Simulator, assertion: &str) -> Option<(u16, Value)> {
    post(
        simulator,
        "/token",
        &format!("grant_type={GRANT}&assertion={assertion}"),
    )
    .await
}

/// An access token for the simulator's own account.
pub async fn bearer(simulator: &Simulator) -> String {
    let assertion = rs256(&key(simulator.service_account_json()), &claims(simulator));
    let (status, body) = ask(simulator, &assertion).await.unwrap();
    assert_eq!(status, 200, "{body}");
    body["access_token"].as_str().unwrap().to_owned()
}

/// The answer that Google's libraries read.
#[tokio::test]
async fn a_good_assertion_gets_a_token() {
    let options = Options {
        access_token_life: Duration::from_secs(120),
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let assertion = rs256(&key(simulator.service_account_json()), &claims(&simulator));
    let (status, body) = ask(&simulator, &assertion).await.unwrap();
    assert_eq!(
        (status, &body["token_type"], &body["expires_in"]),
        (200, &json!("Bearer"), &json!(120))
    );
    assert!(body["access_token"].as_str().unwrap().starts_with("ya29."));
    let record = simulator.record().of(ServerKind::Oauth).remove(0);
    assert!(record.body.is_empty(), "an assertion is a credential");
    assert_eq!(
        record.claims.clone().unwrap().iss.as_deref(),
        claims(&simulator)["iss"].as_str()
    );
}

/// Every way in which an assertion can be wrong, with the OAuth error of it.
#[tokio::test]
async fn each_wrong_assertion_has_its_error() {
    let simulator = simulator().await;
    let own = key(simulator.service_account_json());
    let other = simulator
        .add_service_account("other@x.iam.gserviceaccount.com", "x")
        .await
        .unwrap();
    let now = Utc::now().timestamp();
    let with = |name: &str, value: Value| {
        let mut claims = claims(&simulator);
        claims[name] = value;
        rs256(&own, &claims)
    };
    let cases = [
        (
            rs256(&key(&other), &claims(&simulator)),
            "invalid_grant",
            "Signature",
        ),
        (
            with("iss", json!("nobody@x.iam.gserviceaccount.com")),
            "invalid_grant",
            "account not found",
        ),
        (
            with("aud", json!("https://example.com/token")),
            "invalid_grant",
            "audience",
        ),
        (
            with("exp", json!(now + 7_200)),
            "invalid_grant",
            "short-lived",
        ),
        (
            with("exp", json!(now - 600)),
            "invalid_grant",
            "short-lived",
        ),
        (
            with("iat", json!(now + 1_000)),
            "invalid_grant",
            "short-lived",
        ),
        (with("iat", Value::Null), "invalid_grant", "short-lived"),
        (with("scope", json!("")), "invalid_scope", "scope"),
        ("nonsense".to_owned(), "invalid_grant", "JWT"),
    ];
    for (number, (assertion, error, word)) in cases.into_iter().enumerate() {
        let (status, body) = ask(&simulator, &assertion).await.unwrap();
        assert_eq!(
            (status, body["error"].as_str()),
            (400, Some(error)),
            "case {number}: {body}"
        );
        assert!(
            body["error_description"].as_str().unwrap().contains(word),
            "case {number}: {body}"
        );
    }
    let good = rs256(&own, &claims(&simulator));
    for (form, error) in [
        (format!("assertion={good}"), "invalid_request"),
        (format!("grant_type={GRANT}"), "invalid_request"),
        (
            format!("grant_type=password&assertion={good}"),
            "unsupported_grant_type",
        ),
    ] {
        let (status, body) = post(&simulator, "/token", &form).await.unwrap();
        assert_eq!((status, body["error"].as_str()), (400, Some(error)));
    }
    assert_eq!(post(&simulator, "/other", "").await.unwrap().0, 404);
    simulator.remove_service_account(claims(&simulator)["iss"].as_str().unwrap());
    assert_eq!(
        ask(&simulator, &good).await.unwrap().1["error"],
        "invalid_grant"
    );
}

/// The faults that a token server can have.
#[tokio::test]
async fn a_script_plays_here_too() {
    let simulator = simulator().await;
    let text = r#"[[rule]]
        server = "oauth"
        steps = [{ status = 503 }, { status = 400, reason = "invalid_grant" }, { tcp_reset = true },
                 { hang = true }, { headers_then_hang = true }, { delay = "200ms" }]"#;
    simulator.script(Script::from_toml(text).unwrap()).unwrap();
    let good = rs256(&key(simulator.service_account_json()), &claims(&simulator));
    assert_eq!(ask(&simulator, &good).await.unwrap().0, 503);
    assert_eq!(
        ask(&simulator, &good).await.unwrap().1["error"],
        "invalid_grant"
    );
    assert!(ask(&simulator, &good).await.is_none(), "reset");
    for _ in 0..2 {
        let hanging = ask(&simulator, &good);
        assert!(timeout(Duration::from_millis(300), hanging).await.is_err());
    }
    let began = tokio::time::Instant::now();
    assert_eq!(ask(&simulator, &good).await.unwrap().0, 200);
    assert!(began.elapsed() >= Duration::from_millis(200));
}

/// Somebody else's client: `gcp_auth` pads its base64url, and Google takes it.
#[tokio::test]
async fn gcp_auth_gets_a_token_that_fcm_takes() {
    use gcp_auth::TokenProvider as _;
    let simulator = simulator().await;
    let account =
        gcp_auth::CustomServiceAccount::from_json(simulator.service_account_json()).unwrap();
    let token = account.token(&[SCOPE]).await.unwrap();
    let client = Client::connect(&simulator.fcm_url(), &simulator).await;
    let message = json!({ "message": { "token": "device:one", "data": { "v": "1" } } });
    let answer = client
        .send(Push::message(token.as_str(), &message))
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{:?}", answer.json());
}
