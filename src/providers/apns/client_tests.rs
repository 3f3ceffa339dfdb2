use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use http::header::AUTHORIZATION;
use http::{Method, Request};
use rustls::server::WebPkiClientVerifier;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use super::super::certificate;
use super::super::signer::{self, Signers};
use super::*;
use crate::call::event::TargetKind;
use crate::call::push::{Gate, PushKind};
use crate::call::secret::Secret;
use crate::call::time::Timestamp;
use crate::metrics::ConnectionLabels;
use crate::providers::http2::testing::{
    Command, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, Server, accept, answer, eventually, goaway,
    head, reset, server_tls, stream_limit, tuning,
};

const TOKEN: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";
const LONG: Duration = Duration::from_secs(10);

fn key() -> Credentials {
    let pkcs8 = rcgen::KeyPair::generate().unwrap().serialize_der();
    let signer = Signers::default().get("ABCDE12345", "FGHIJ67890", &pkcs8);
    Credentials::Key(signer.unwrap())
}

struct Setup {
    connections: usize,
    timeout: &'static str,
    tuning: Tuning,
    credentials: Credentials,
    metrics: Metrics,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            connections: 1,
            timeout: "10s",
            tuning: tuning(),
            credentials: key(),
            metrics: Metrics::default(),
        }
    }
}

impl Setup {
    fn client(&self, port: u16, ca: &str) -> Client {
        let settings: Settings = serde_json::from_value(json!({
            "production_url": format!("https://localhost:{port}"),
            "connections": self.connections,
            "attempt_timeout": self.timeout,
        }))
        .unwrap();
        Client::new(Options {
            proxy: &Proxy::default(),
            settings: &settings,
            environment: Environment::Production,
            bundle_id: "com.example.calls",
            credentials: &self.credentials,
            roots: tls::roots(Some(ca.as_bytes())).unwrap(),
            metrics: &self.metrics,
            tuning: self.tuning,
        })
        .unwrap()
    }

    async fn warm(&self, server: &Server) -> Client {
        let client = self.client(server.address.port(), &server.ca);
        let status = client.warm(LONG).await;
        assert_eq!(status.ready, self.connections, "{status:?}");
        client
    }
}

async fn push_within(client: &Client, time_left: Duration) -> Answer {
    let payload = Payload::Ios(Bytes::from_static(b"{\"call\":1}"));
    let token = Secret::from(TOKEN);
    let attempt = Attempt {
        id: Uuid::from_u128(0xABCD_EF00),
        kind: PushKind::Call,
        token: &token,
        target: TargetKind::Token,
        payload: &payload,
        deadline: Timestamp::from_millis(1_790_000_000_999),
        time_left,
        gate: &Gate::default(),
    };
    client.send(attempt).await
}

async fn push(client: &Client) -> Answer {
    push_within(client, LONG).await
}

#[tokio::test]
async fn a_cold_connection_has_one_stream_until_its_first_answer() {
    let server = Server::start(1, |seen| {
        // The first request of each connection is answered by the test.
        if seen.nth == 0 {
            Some(Vec::new())
        } else {
            accept(seen)
        }
    })
    .await;
    let setup = Setup {
        connections: 2,
        ..Setup::default()
    };
    let client = Arc::new(setup.warm(&server).await);
    let pushes: Vec<_> = (0..20)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { push(&client).await })
        })
        .collect();
    eventually("one request on each", || server.seen().len() == 2).await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!(server.seen().len(), 2, "more than the limit allows");
    // One of them answers and lifts its limit: it takes all that wait, and
    // the one that is stuck holds up nobody.
    let opened = [stream_limit(100), answer(1, 200, "")].concat();
    server.tell(0, Command::Send(opened));
    eventually("the others", || server.seen().len() == 20).await;
    server.tell(1, Command::Send(answer(1, 200, "")));
    for answered in join_all(pushes).await {
        assert_eq!(answered.unwrap().class, Class::Accepted);
    }
}

#[tokio::test]
async fn a_wait_for_a_stream_ends_with_the_ring_and_nothing_was_sent() {
    let server = Server::start(1, |_| Some(Vec::new())).await;
    let client = Setup::default().warm(&server).await;
    let first = push(&client);
    let second = async {
        eventually("the first", || server.seen().len() == 1).await;
        push_within(&client, Duration::from_millis(100)).await
    };
    tokio::select! {
        _ = first => panic!("nobody answered it"),
        answer = second => {
            assert_eq!(answer.class, Class::NotProcessed);
            assert_eq!(answer.reason.as_deref(), Some("connection"));
            assert!(!answer.started);
            assert_eq!(answer.detail.as_deref(), Some("no stream was free in time"));
        }
    }
}

#[tokio::test]
async fn an_idle_connection_that_goes_away_is_replaced_without_a_push() {
    let server = Server::start(100, accept).await;
    let client = Setup::default().warm(&server).await;
    server.tell(0, Command::Send(goaway(0, NO_ERROR)));
    eventually("a new one", || {
        server.accepted() == 2 && client.status().ready == 1
    })
    .await;
    assert_eq!(push(&client).await.class, Class::Accepted);
    assert_eq!(server.seen()[0].connection, 1);
}

#[tokio::test]
async fn after_a_goaway_what_was_processed_finishes_and_the_rest_is_repeatable() {
    let server = Server::start(100, |seen| match (seen.connection, seen.nth) {
        // The first waits; the second makes the server go away, above it.
        (0, 0) => Some(Vec::new()),
        (0, _) => Some(goaway(1, NO_ERROR)),
        _ => accept(seen),
    })
    .await;
    let client = Setup::default().warm(&server).await;
    let second = async {
        eventually("the first", || server.seen().len() == 1).await;
        let refused = push(&client).await;
        assert_eq!(refused.class, Class::NotProcessed);
        assert!(refused.started);
        assert_eq!(
            push(&client).await.class,
            Class::Accepted,
            "not on the new one"
        );
        server.tell(0, Command::Send(answer(1, 200, "")));
    };
    let (first, ()) = tokio::join!(push(&client), second);
    assert_eq!(first.class, Class::Accepted);
}

/// Real threads, because this is where the pool and its drivers could race.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_push_is_lost_while_one_connection_after_the_other_goes_away() {
    const EACH: usize = 50;
    let server = Server::start(100, |seen| {
        Some(match seen.nth + 1 {
            EACH => [answer(seen.stream, 200, ""), goaway(seen.stream, NO_ERROR)].concat(),
            // Above the last stream of the GOAWAY: not looked at.
            after if after > EACH => Vec::new(),
            _ => answer(seen.stream, 200, ""),
        })
    })
    .await;
    let setup = Setup {
        connections: 2,
        ..Setup::default()
    };
    let client = Arc::new(setup.warm(&server).await);
    let pushes: Vec<_> = (0..1000)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move {
                for _ in 0..100 {
                    let class = push(&client).await.class;
                    if class != Class::NotProcessed {
                        return class;
                    }
                }
                Class::NotProcessed
            })
        })
        .collect();
    for class in join_all(pushes).await {
        assert_eq!(class.unwrap(), Class::Accepted);
    }
    assert!(server.accepted() >= 1000 / EACH);
}

#[tokio::test]
async fn refused_is_repeatable_and_reset_is_unclear() {
    let server = Server::start(100, |seen| {
        Some(match seen.nth {
            0 => reset(seen.stream, REFUSED_STREAM),
            1 => reset(seen.stream, INTERNAL_ERROR),
            _ => answer(seen.stream, 200, ""),
        })
    })
    .await;
    let client = Setup::default().warm(&server).await;
    let (refused, broken) = (push(&client).await, push(&client).await);
    assert_eq!(refused.class, Class::NotProcessed);
    assert_eq!(broken.class, Class::Unclear);
    for answer in [refused, broken] {
        assert_eq!(answer.reason.as_deref(), Some("connection"));
        assert!(answer.started);
    }
    assert_eq!(push(&client).await.class, Class::Accepted);
    assert_eq!(server.accepted(), 1, "the connection is fine");
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_its_push_unclear() {
    let server = Server::start(100, |seen| {
        if seen.connection == 0 {
            None
        } else {
            accept(seen)
        }
    })
    .await;
    let client = Setup::default().warm(&server).await;
    let broken = push(&client).await;
    assert_eq!(broken.class, Class::Unclear);
    assert_eq!(broken.reason.as_deref(), Some("connection"));
    assert_eq!(push(&client).await.class, Class::Accepted);
}

#[tokio::test]
async fn a_timeout_makes_a_connection_suspect_until_it_speaks() {
    let server = Server::start(100, accept).await;
    let mut setup = Setup {
        timeout: "100ms",
        ..Setup::default()
    };
    setup.tuning.surplus = Duration::from_millis(200);
    let client = setup.warm(&server).await;
    server.tell(0, Command::Freeze);
    let late = push(&client).await;
    assert_eq!(late.class, Class::Unclear);
    assert_eq!(late.reason.as_deref(), Some("timeout"));
    assert!(late.started);
    eventually("a spare", || {
        let status = client.status();
        (status.ready, status.suspect) == (1, 1)
    })
    .await;
    let gauge = |state| {
        let platform = "ios";
        let labels = ConnectionLabels { platform, state };
        setup.metrics.connections.get_or_create(&labels).get()
    };
    assert_eq!((gauge("ready"), gauge("suspect")), (1, 1));
    assert_eq!(push_within(&client, LONG).await.class, Class::Accepted);
    assert_eq!(
        server.seen().last().unwrap().connection,
        1,
        "went to the suspect"
    );
    server.tell(0, Command::Thaw);
    eventually("the suspect speaks", || client.status().suspect == 0).await;
    eventually("one too many is closed", || gauge("ready") == 1).await;
    assert_eq!(push(&client).await.class, Class::Accepted);
}

#[tokio::test]
async fn a_dead_connection_is_found_by_ping_and_not_by_a_ring() {
    let server = Server::start(100, accept).await;
    let mut setup = Setup::default();
    setup.tuning.liveness = http2::Liveness {
        interval: Duration::from_millis(100),
        stale: Duration::from_secs(60),
        silence: Duration::from_millis(200),
        timeout: Duration::from_secs(1),
    };
    let client = setup.warm(&server).await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(server.accepted(), 1, "PINGs that are answered keep it");
    server.tell(0, Command::Freeze);
    eventually("a spare", || {
        server.accepted() == 2 && client.status().ready == 1
    })
    .await;
    eventually("the dead one is given up", || client.status().suspect == 0).await;
    assert_eq!(push(&client).await.class, Class::Accepted);
    assert_eq!(server.seen()[0].connection, 1);
}

#[tokio::test]
async fn a_push_after_a_silence_takes_a_ping_along_and_doubt_comes_before_its_timeout() {
    let server = Server::start(100, accept).await;
    let mut setup = Setup::default();
    setup.tuning.liveness.stale = Duration::from_millis(50);
    setup.tuning.liveness.silence = Duration::from_millis(100);
    let client = setup.warm(&server).await;
    sleep(Duration::from_millis(100)).await;
    server.tell(0, Command::Freeze);
    let spare = async {
        eventually("a spare", || {
            let status = client.status();
            (status.ready, status.suspect) == (1, 1)
        })
        .await;
        let answer = push(&client).await;
        server.tell(0, Command::Thaw);
        answer
    };
    let (late, swift) = tokio::join!(push(&client), spare);
    assert_eq!(swift.class, Class::Accepted);
    assert_eq!(late.class, Class::Accepted, "it is waited for all the same");
}

#[tokio::test]
async fn a_connection_that_only_answers_pings_is_replaced() {
    let server = Server::start(100, |seen| {
        if seen.connection == 0 {
            Some(Vec::new())
        } else {
            accept(seen)
        }
    })
    .await;
    let setup = Setup {
        timeout: "100ms",
        ..Setup::default()
    };
    let client = setup.warm(&server).await;
    let mut unclear = 0;
    while push(&client).await.class != Class::Accepted {
        unclear += 1;
        assert!(unclear <= 10, "it is still used");
    }
    assert!(server.accepted() > 1);
}

#[tokio::test]
async fn without_a_connection_a_push_waits_and_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let (_, ca) = server_tls();
    let client = Setup::default().client(port, &ca);
    let status = client.warm(LONG).await;
    assert_eq!(status.ready, 0);
    assert!(status.error.unwrap().contains("refused"));
    let answer = push_within(&client, Duration::from_millis(300)).await;
    assert_eq!(answer.class, Class::NotProcessed);
    assert_eq!(answer.reason.as_deref(), Some("connection"));
    assert!(!answer.started);
    assert!(answer.detail.unwrap().contains("refused"));
    // 20 ms, 40 ms, 80 ms and so on, each at most doubled by jitter.
    assert!(client.status().failures < 20, "{:?}", client.status());
}

#[tokio::test]
async fn a_server_that_drops_every_connection_is_not_hammered() {
    let server = Server::start(100, |_| None).await;
    let client = Setup::default().warm(&server).await;
    let until = Instant::now() + Duration::from_millis(500);
    while Instant::now() < until {
        let left = until - Instant::now();
        let class = push_within(&client, left).await.class;
        assert!(
            matches!(class, Class::Unclear | Class::NotProcessed),
            "{class:?}"
        );
    }
    assert!(server.accepted() < 20, "{} connections", server.accepted());
}

#[tokio::test]
async fn a_body_that_never_ends_is_a_timeout() {
    let server = Server::start(100, |seen| Some(head(seen.stream, 400))).await;
    let setup = Setup {
        timeout: "100ms",
        ..Setup::default()
    };
    let client = setup.warm(&server).await;
    let answer = push(&client).await;
    assert_eq!(answer.class, Class::Unclear);
    assert_eq!(answer.reason.as_deref(), Some("timeout"));
}

#[tokio::test]
async fn refusals_are_read_with_their_bodies() {
    let server = Server::start(100, |seen| {
        let body = r#"{"reason":"Unregistered","timestamp":1789999999123}"#;
        Some(answer(seen.stream, 410, body))
    })
    .await;
    let client = Setup::default().warm(&server).await;
    let gone = push(&client).await;
    assert_eq!(gone.class, Class::DeadToken);
    assert_eq!(gone.reason.as_deref(), Some("Unregistered"));
    assert_eq!(
        gone.provider_timestamp,
        Some(Timestamp::from_millis(1_789_999_999_123))
    );
}

#[tokio::test]
async fn a_stale_credential_is_never_tried_twice_on_one_connection() {
    for reason in ["ExpiredProviderToken", "UnrelatedKeyIdInToken"] {
        let body = json!({ "reason": reason }).to_string();
        let server = Server::start(100, move |seen| {
            if seen.connection < 2 && reason == "UnrelatedKeyIdInToken" || seen.connection == 0 {
                Some(answer(seen.stream, 403, &body))
            } else {
                accept(seen)
            }
        })
        .await;
        let connections = if reason == "UnrelatedKeyIdInToken" {
            2
        } else {
            1
        };
        let setup = Setup {
            connections,
            ..Setup::default()
        };
        let client = setup.warm(&server).await;
        let refused = push(&client).await;
        assert_eq!(refused.class, Class::StaleCredential);
        assert_eq!(refused.reason.as_deref(), Some(reason));
        assert_eq!(push(&client).await.class, Class::Accepted, "{reason}");
        assert_eq!(server.accepted(), 2 * connections.min(2), "{reason}");
    }
}

#[tokio::test]
async fn a_token_that_apple_takes_for_expired_is_renewed_once_and_on_fresh_connections() {
    let server = Server::start(100, |seen| {
        if seen.connection < 2 {
            Some(answer(
                seen.stream,
                403,
                r#"{"reason":"ExpiredProviderToken"}"#,
            ))
        } else {
            accept(seen)
        }
    })
    .await;
    let old = signer::tests::signed_ago(Duration::from_secs(30 * 60));
    let setup = Setup {
        connections: 2,
        credentials: Credentials::Key(Arc::new(old)),
        ..Setup::default()
    };
    let client = setup.warm(&server).await;
    let signer = client.credentials().signer().unwrap();
    let refused = signer.header();
    let (one, two) = tokio::join!(push(&client), push(&client));
    assert_eq!(one.class, Class::StaleCredential);
    assert_eq!(two.class, Class::StaleCredential);
    let renewed = signer.header();
    assert_ne!(renewed, refused);
    // The other connection had carried the old token as well.
    assert_eq!(push(&client).await.class, Class::Accepted);
    assert_eq!(push(&client).await.class, Class::Accepted);
    assert_eq!(signer.header(), renewed, "signed more than once");
}

/// A wrong clock or key is refused on every connection: replacing them one
/// after the other would leave none for the pushes that wait.
#[tokio::test]
async fn a_credential_that_is_refused_everywhere_costs_the_connections_once() {
    for reason in ["ExpiredProviderToken", "UnrelatedKeyIdInToken"] {
        let body = json!({ "reason": reason }).to_string();
        let server = Server::start(100, move |seen| Some(answer(seen.stream, 403, &body))).await;
        let setup = Setup {
            connections: 2,
            ..Setup::default()
        };
        let client = setup.warm(&server).await;
        for n in 0..30 {
            let class = push(&client).await.class;
            assert_eq!(class, Class::StaleCredential, "{reason}, push {n}");
        }
        assert_eq!(server.accepted(), 4, "{reason}");
    }
}

#[tokio::test]
async fn five_hundreds_send_the_next_push_elsewhere() {
    let server = Server::start(100, |seen| {
        let status = if seen.nth == 0 { 503 } else { 200 };
        Some(answer(seen.stream, status, ""))
    })
    .await;
    let setup = Setup {
        connections: 2,
        ..Setup::default()
    };
    let client = setup.warm(&server).await;
    assert_eq!(push(&client).await.class, Class::Unavailable);
    push(&client).await;
    let seen = server.seen();
    assert_ne!(seen[0].connection, seen[1].connection);
}

#[tokio::test]
async fn a_closed_client_leaves_nothing_behind() {
    let server = Server::start(100, accept).await;
    let setup = Setup {
        connections: 2,
        ..Setup::default()
    };
    let client = setup.warm(&server).await;
    assert_eq!(push(&client).await.class, Class::Accepted);
    tokio::time::timeout(LONG, client.close()).await.unwrap();
    for state in ["ready", "suspect", "connecting"] {
        let platform = "ios";
        let labels = ConnectionLabels { platform, state };
        let gauge = setup.metrics.connections.get_or_create(&labels).get();
        assert_eq!(gauge, 0, "{state}");
    }
    let after = push_within(&client, Duration::from_millis(50)).await;
    assert_eq!(after.class, Class::NotProcessed);
}

#[tokio::test]
async fn no_time_left_is_no_attempt() {
    let server = Server::start(100, accept).await;
    let client = Setup::default().warm(&server).await;
    let answer = push_within(&client, Duration::ZERO).await;
    assert!(!answer.started);
    assert_eq!(answer.class, Class::NotProcessed);
    assert!(server.seen().is_empty());
}

/// Answers the first request with 200 and gives it back.
async fn first_request(
    listener: TcpListener,
    config: rustls::ServerConfig,
) -> (Request<()>, Bytes) {
    let (tcp, _) = listener.accept().await.unwrap();
    let stream = TlsAcceptor::from(Arc::new(config))
        .accept(tcp)
        .await
        .unwrap();
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let (request, mut respond) = connection.accept().await.unwrap().unwrap();
    let (head, mut body) = request.into_parts();
    let reading = async {
        let mut all = BytesMut::new();
        while let Some(chunk) = body.data().await {
            all.extend_from_slice(&chunk.unwrap());
        }
        let response = http::Response::builder()
            .header("apns-id", "ECHO")
            .body(())
            .unwrap();
        respond.send_response(response, true).unwrap();
        all.freeze()
    };
    let mut reading = std::pin::pin!(reading);
    let body = loop {
        tokio::select! {
            body = &mut reading => break body,
            _ = connection.accept() => {}
        }
    };
    tokio::spawn(async move { while connection.accept().await.is_some() {} });
    (Request::from_parts(head, ()), body)
}

#[tokio::test]
async fn the_request_is_what_apple_asks_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (config, ca) = server_tls();
    let client = Setup::default().client(port, &ca);
    let (answer, (request, body)) = tokio::join!(push(&client), first_request(listener, config));
    assert_eq!(answer.class, Class::Accepted);
    assert_eq!(answer.provider_id.as_deref(), Some("ECHO"));
    assert_eq!(request.method(), Method::POST);
    let expected = format!("https://localhost:{port}/3/device/{TOKEN}");
    assert_eq!(request.uri().to_string(), expected);
    let mut headers: Vec<_> = request.headers().iter().collect();
    headers.sort_by_key(|(name, _)| name.as_str());
    let (authorization, rest): (Vec<_>, Vec<_>) = headers
        .into_iter()
        .partition(|(name, _)| *name == AUTHORIZATION);
    let rest: Vec<_> = rest
        .iter()
        .map(|(n, v)| (n.as_str(), v.to_str().unwrap()))
        .collect();
    assert_eq!(
        rest,
        [
            ("apns-expiration", "1790000000"),
            ("apns-id", "00000000-0000-0000-0000-0000abcdef00"),
            ("apns-priority", "10"),
            ("apns-push-type", "voip"),
            ("apns-topic", "com.example.calls.voip"),
            ("content-length", "10"),
        ]
    );
    let bearer = client.credentials().signer().unwrap().header();
    assert_eq!(authorization[0].1, bearer);
    assert_eq!(body, "{\"call\":1}");
}

#[tokio::test]
async fn a_certificate_is_shown_in_tls_and_no_token_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let pair = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
    let pem = pair.cert.pem() + &pair.signing_key.serialize_pem();
    let certificate = certificate::read(pem.as_bytes(), None).unwrap();
    let trusted = Arc::new(tls::roots(Some(pem.as_bytes())).unwrap());
    let verifier = WebPkiClientVerifier::builder_with_provider(trusted, tls::provider());
    let server = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = server.signing_key.serialize_der().try_into().unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![server.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let setup = Setup {
        credentials: Credentials::Certificate(Arc::new(certificate)),
        ..Setup::default()
    };
    let client = setup.client(port, &server.cert.pem());
    let (answer, (request, _)) = tokio::join!(push(&client), first_request(listener, config));
    assert_eq!(answer.class, Class::Accepted);
    assert!(!request.headers().contains_key(AUTHORIZATION));
}
