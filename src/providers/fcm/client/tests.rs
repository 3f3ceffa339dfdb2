use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::AbortHandle;
use uuid::Uuid;

use super::*;
use crate::call::event::TargetKind;
use crate::call::push::{Gate, PushKind};
use crate::call::secret::Secret;
use crate::metrics::LaneGauges;
use crate::providers::fcm::access::refresh::Timing;
use crate::providers::fcm::testing::{Fcm, Grant, OAuth, Reply, account};

/// Longer than anything here takes, however slow the machine is.
const AMPLE: Duration = Duration::from_secs(30);

fn settings(fcm: &Fcm) -> Settings {
    Settings {
        url: format!("https://{}", fcm.addr),
        ca_file: Some(fcm.ca.path().to_owned()),
        attempt_timeout: AMPLE,
        ..Settings::default()
    }
}

fn timing() -> Timing {
    Timing {
        fetch_timeout: AMPLE,
        backoff: (Duration::from_millis(20), Duration::from_millis(100)),
        asked: Duration::from_millis(50),
        ..Timing::default()
    }
}

fn client(settings: &Settings, oauth: &OAuth) -> Client {
    client_with(settings, oauth, &Metrics::default())
}

fn client_with(settings: &Settings, oauth: &OAuth, metrics: &Metrics) -> Client {
    let account = account(&oauth.uri);
    let tokens =
        TokenSource::start_with(&account, timing(), &Proxy::default(), &Metrics::default());
    let tuning = Tuning {
        backoff: Duration::from_millis(20),
        backoff_max: Duration::from_millis(100),
        ..Tuning::default()
    };
    Client::tuned(
        settings,
        &account,
        tokens,
        &Proxy::default(),
        metrics,
        tuning,
    )
    .unwrap()
}

/// A push to a token with so much time left.
async fn push(client: &Client, token: &str, time_left: Duration) -> Answer {
    let payload = Payload::Android([("event", "ring")].into());
    client
        .send(Attempt {
            id: Uuid::nil(),
            kind: PushKind::Call,
            token: &Secret::from(token),
            target: TargetKind::Token,
            payload: &payload,
            deadline: Timestamp::from_millis(0),
            time_left,
            gate: &Gate::default(),
        })
        .await
}

async fn ring(client: &Client) -> Answer {
    push(client, "token", AMPLE).await
}

fn summary(answer: &Answer) -> (Class, Option<&str>, bool) {
    (answer.class, answer.reason.as_deref(), answer.started)
}

/// Waits for something that happens in the background.
async fn until(what: impl Fn() -> bool) {
    let all = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(AMPLE, all).await.unwrap();
}

async fn accepting() -> Fcm {
    Fcm::start(|_| Reply::accepted()).await
}

#[tokio::test]
async fn a_push_is_one_request_with_a_bearer_and_data_only() {
    let (fcm, oauth) = (accepting().await, OAuth::start([Grant::Token(3600)]).await);
    let client = client(&settings(&fcm), &oauth);
    client.tokens().wait().await.unwrap();
    let answer = push(&client, "dev:ice", Duration::from_millis(25_999)).await;
    assert_eq!(summary(&answer), (Class::Accepted, None, true));
    assert_eq!(
        answer.provider_id.as_deref(),
        Some("projects/calls-test/messages/0:1")
    );
    let [post] = &fcm.posts()[..] else { panic!() };
    assert_eq!(post.path, "/v1/projects/calls-test/messages:send");
    assert_eq!(post.bearer.as_deref(), Some("Bearer token-0"));
    assert_eq!(
        post.body,
        concat!(
            r#"{"message":{"token":"dev:ice","data":{"event":"ring"},"#,
            r#""android":{"priority":"HIGH","ttl":"25s"}}}"#
        )
    );
    let text = format!(
        "{client:?} {:?} {:?}",
        client.tokens(),
        client.tokens().current()
    );
    assert!(!text.contains("token-0"), "{text}");
}

#[tokio::test]
async fn a_checked_push_asks_for_no_delivery() {
    let (fcm, oauth) = (accepting().await, OAuth::start([Grant::Token(3600)]).await);
    let client = client(&settings(&fcm), &oauth);
    let attempt = Attempt {
        id: Uuid::nil(),
        kind: PushKind::Call,
        token: &Secret::from("t"),
        target: TargetKind::Token,
        payload: &Payload::Android([].into()),
        deadline: Timestamp::from_millis(0),
        time_left: AMPLE,
        gate: &Gate::default(),
    };
    assert_eq!(client.validate(attempt).await.class, Class::Accepted);
    assert!(fcm.posts()[0].body.ends_with(r#","validate_only":true}"#));
}

#[tokio::test]
async fn another_platforms_payload_is_our_own_fault_and_sends_nothing() {
    let (fcm, oauth) = (accepting().await, OAuth::start([Grant::Token(3600)]).await);
    let client = client(&settings(&fcm), &oauth);
    let attempt = Attempt {
        id: Uuid::nil(),
        kind: PushKind::Call,
        token: &Secret::from("t"),
        target: TargetKind::Token,
        payload: &Payload::Ios(Bytes::from_static(b"{}")),
        deadline: Timestamp::from_millis(0),
        time_left: AMPLE,
        gate: &Gate::default(),
    };
    let answer = client.send(attempt).await;
    assert_eq!(summary(&answer), (Class::OwnFault, None, false));
    assert!(fcm.posts().is_empty());
}

#[tokio::test]
async fn warming_opens_every_connection_and_sends_no_message() {
    let (fcm, oauth) = (accepting().await, OAuth::start([Grant::Token(3600)]).await);
    let metrics = Metrics::default();
    let client = client_with(&settings(&fcm), &oauth, &metrics);
    assert_eq!(client.warm(AMPLE).await.ready, 2);
    assert_eq!(fcm.connections(), 2);
    assert!(fcm.posts().is_empty());
    let ready = r#"ringpush_connections{platform="android",state="ready"} "#;
    assert!(
        metrics
            .render(&LaneGauges::default())
            .contains(&format!("{ready}2"))
    );
    for _ in 0..10 {
        assert_eq!(ring(&client).await.class, Class::Accepted);
    }
    assert_eq!(
        fcm.connections(),
        2,
        "later pushes use the warm connections"
    );
    client.close().await;
    assert!(
        metrics
            .render(&LaneGauges::default())
            .contains(&format!("{ready}0"))
    );
}

#[tokio::test]
async fn warming_gives_up_in_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (fcm, oauth) = (accepting().await, OAuth::start([Grant::Token(3600)]).await);
    let settings = Settings {
        url: format!("https://{}", silent.local_addr().unwrap()),
        attempt_timeout: Duration::from_millis(100),
        ..settings(&fcm)
    };
    let client = client(&settings, &oauth);
    let warm = client.warm(Duration::from_millis(100));
    let status = tokio::time::timeout(AMPLE, warm).await.unwrap();
    assert_eq!(status.ready, 0);
}

/// Passes connections on, until it is aborted.
async fn door(at: &str, to: std::net::SocketAddr) -> (std::net::SocketAddr, AbortHandle) {
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut passed = tokio::task::JoinSet::new();
        while let Ok((mut outside, _)) = listener.accept().await {
            passed.spawn(async move {
                let mut inside = tokio::net::TcpStream::connect(to).await.unwrap();
                tokio::io::copy_bidirectional(&mut outside, &mut inside).await
            });
        }
    });
    (addr, task.abort_handle())
}

#[tokio::test]
async fn who_asks_learns_that_fcm_cannot_be_reached_and_that_it_can_again() {
    let (fcm, oauth) = (accepting().await, OAuth::start([Grant::Token(3600)]).await);
    let (addr, open) = door("127.0.0.1:0", fcm.addr).await;
    let settings = Settings {
        url: format!("https://{addr}"),
        ..settings(&fcm)
    };
    let client = client(&settings, &oauth);
    client.warm(AMPLE).await;
    open.abort();
    until(|| std::net::TcpStream::connect(addr).is_err()).await;
    until(|| client.why_not_ready().is_some()).await;
    let (_, _open) = door(&addr.to_string(), fcm.addr).await;
    until(|| client.why_not_ready().is_none()).await;
    assert!(fcm.posts().is_empty());
}

#[tokio::test]
async fn that_fcm_is_gone_is_seen_on_all_idle_connections_at_once() {
    let (fcm, oauth) = (accepting().await, OAuth::start([Grant::Token(3600)]).await);
    let (addr, open) = door("127.0.0.1:0", fcm.addr).await;
    let settings = Settings {
        url: format!("https://{addr}"),
        connections: 16,
        ..settings(&fcm)
    };
    let client = client(&settings, &oauth);
    assert_eq!(client.warm(AMPLE).await.ready, 16);
    open.abort();
    until(|| std::net::TcpStream::connect(addr).is_err()).await;
    until(|| client.why_not_ready().is_some()).await;
}

#[tokio::test]
async fn a_push_waits_for_the_first_token_and_its_ttl_shrinks_by_that() {
    let fcm = accepting().await;
    let oauth = OAuth::start([Grant::Late(Duration::from_millis(300), 3600)]).await;
    let client = client(&settings(&fcm), &oauth);
    let answer = push(&client, "t", Duration::from_secs(25)).await;
    assert_eq!(summary(&answer), (Class::Accepted, None, true));
    let body = &fcm.posts()[0].body;
    let ttl: u64 = body
        .split(r#""ttl":""#)
        .nth(1)
        .unwrap()
        .split('s')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(ttl < 25, "{body}");
    assert_eq!(oauth.requests(), 1);
}

#[tokio::test]
async fn without_a_token_from_a_hanging_oauth_nothing_is_started() {
    let (fcm, oauth) = (accepting().await, OAuth::start([Grant::Hang]).await);
    let settings = Settings {
        attempt_timeout: Duration::from_millis(100),
        ..settings(&fcm)
    };
    let client = client(&settings, &oauth);
    let answer = ring(&client).await;
    assert_eq!(
        summary(&answer),
        (Class::NoCredential, Some("oauth_unavailable"), false)
    );
    // The ring's own end counts too.
    let answer = push(&client, "t", Duration::from_millis(10)).await;
    assert_eq!(answer.class, Class::NoCredential);
    assert!(fcm.posts().is_empty());
}

#[tokio::test]
async fn a_push_outlives_a_stumbling_oauth() {
    let fcm = accepting().await;
    // More refusals than one fetch makes requests: five, and one by hand.
    let stumble = vec![Grant::Status(500, "oops"); 7];
    let script = stumble.into_iter().chain([Grant::Token(3600)]);
    let oauth = OAuth::start(script).await;
    let client = client(&settings(&fcm), &oauth);
    let source = Arc::clone(client.tokens());
    let watcher = async { until(|| source.trouble().is_some()).await };
    let (answer, ()) = tokio::join!(ring(&client), watcher);
    assert_eq!(summary(&answer), (Class::Accepted, None, true));
    assert_eq!(client.tokens().trouble(), None);
}

#[tokio::test]
async fn a_refusing_oauth_is_a_credential_fault_at_once_until_it_relents() {
    let fcm = accepting().await;
    let word = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
    let oauth = OAuth::start([Grant::Status(400, word)]).await;
    let client = client(&settings(&fcm), &oauth);
    let answer = ring(&client).await;
    assert_eq!(
        summary(&answer),
        (Class::CredentialFault, Some("invalid_grant"), false)
    );
    assert_eq!(answer.detail.as_deref(), Some("Invalid JWT Signature."));
    // Each fault makes the task ask again, long before its ten seconds.
    oauth.now_says(Grant::Token(3600));
    let recovered = async {
        while ring(&client).await.class != Class::Accepted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(8), recovered)
        .await
        .unwrap();
}

const UNAUTHENTICATED: &str = r#"{"error":{"code":401,"status":"UNAUTHENTICATED"}}"#;

#[tokio::test]
async fn a_401_of_fifty_pushes_makes_one_token_request_and_the_old_token_is_gone() {
    for (body, class) in [
        (UNAUTHENTICATED, Class::StaleCredential),
        ("<html>", Class::Unavailable),
    ] {
        a_401_renews_the_token(body, class).await;
    }
}

async fn a_401_renews_the_token(body: &'static str, class: Class) {
    let fcm = Fcm::start(|seen| match seen.bearer.as_deref() {
        Some("Bearer token-0") => Reply::Say(401, None, body.to_owned()),
        _ => Reply::accepted(),
    })
    .await;
    let oauth = OAuth::start([Grant::Token(3600)]).await;
    let client = client(&settings(&fcm), &oauth);
    client.tokens().wait().await.unwrap();
    let fifty = || futures_util::future::join_all((0..50).map(|_| ring(&client)));
    let first = fifty().await;
    let (stale, rest): (Vec<_>, Vec<_>) = first.iter().partition(|a| a.class == class);
    assert!(!stale.is_empty());
    assert!(rest.iter().all(|a| a.class == Class::Accepted));
    assert!(fifty().await.iter().all(|a| a.class == Class::Accepted));
    assert_eq!(oauth.requests(), 2, "one at the start, one after the 401s");
}

#[tokio::test]
async fn forced_renewals_are_spaced() {
    let fcm = Fcm::start(|_| Reply::Say(401, None, UNAUTHENTICATED.to_owned())).await;
    let oauth = OAuth::start([Grant::Token(3600)]).await;
    let client = client(&settings(&fcm), &oauth);
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(ring(&client).await.class, Class::StaleCredential);
    }
    // Five tokens were used: the first, one at once, three 50 ms apart.
    assert!(begun.elapsed() >= Duration::from_millis(150));
    assert!(oauth.requests() >= 5);
}

#[tokio::test]
async fn answers_are_read_to_their_headers_and_classified() {
    let fcm =
        Fcm::start(|_| Reply::Say(503, Some(("retry-after", "7".into())), "x".repeat(1 << 20)))
            .await;
    let oauth = OAuth::start([Grant::Token(3600)]).await;
    let client = client(&settings(&fcm), &oauth);
    let answer = ring(&client).await;
    assert_eq!(
        summary(&answer),
        (Class::Unavailable, Some("http_503"), true)
    );
    assert_eq!(answer.retry_after, Some(Duration::from_secs(7)));
}

/// A client whose FCM is at this address, and the end of a push to it.
async fn ends_at(url: String, fcm: &Fcm) -> Answer {
    let oauth = OAuth::start([Grant::Token(3600)]).await;
    let settings = Settings {
        url,
        attempt_timeout: Duration::from_millis(500),
        ..settings(fcm)
    };
    let client = client(&settings, &oauth);
    client.tokens().wait().await.unwrap();
    client.warm(settings.attempt_timeout).await;
    ring(&client).await
}

#[tokio::test]
async fn nothing_was_sent_where_there_is_no_connection() {
    let (fcm, other) = (accepting().await, accepting().await);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = closed.local_addr().unwrap();
    drop(closed);
    let silent = silent.local_addr().unwrap();
    for (address, why) in [
        (nobody, "refused"),
        (other.addr, "certificate"),
        (silent, ""),
    ] {
        let answer = ends_at(format!("https://{address}"), &fcm).await;
        let not_connected = (Class::NotProcessed, Some("connection"), false);
        assert_eq!(summary(&answer), not_connected, "{address}");
        let detail = answer.detail.unwrap();
        assert!(detail.contains(why), "{detail}");
    }
}

#[tokio::test]
async fn a_request_that_was_under_way_when_its_connection_broke_is_unclear() {
    let fcm = Fcm::start(|_| Reply::Cut).await;
    let answer = ends_at(format!("https://{}", fcm.addr), &fcm).await;
    assert_eq!(summary(&answer), (Class::Unclear, Some("connection"), true));
}

/// Whoever repeats it counts its attempts, and looks for a cancel first.
#[tokio::test]
async fn a_refused_stream_is_not_repeated_in_here() {
    let fcm = Fcm::start(|_| Reply::Reset(h2::Reason::REFUSED_STREAM)).await;
    let oauth = OAuth::start([Grant::Token(3600)]).await;
    let client = client(&settings(&fcm), &oauth);
    let answer = ring(&client).await;
    assert_eq!(
        summary(&answer),
        (Class::NotProcessed, Some("connection"), true)
    );
    assert_eq!(fcm.posts().len(), 1);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let fcm = Fcm::start(|seen| match seen.path.as_str() {
        "/elsewhere" => Reply::accepted(),
        _ => Reply::Say(307, Some(("location", "/elsewhere".into())), String::new()),
    })
    .await;
    let oauth = OAuth::start([Grant::Token(3600)]).await;
    let answer = ring(&client(&settings(&fcm), &oauth)).await;
    assert_eq!(summary(&answer), (Class::Unknown, Some("http_307"), true));
    assert_eq!(fcm.posts().len(), 1);
}

#[tokio::test]
async fn a_silent_connection_is_replaced() {
    let first = AtomicUsize::new(0);
    let fcm = Fcm::start(move |_| match first.fetch_add(1, Ordering::SeqCst) {
        0..3 => Reply::Hang,
        _ => Reply::accepted(),
    })
    .await;
    let oauth = OAuth::start([Grant::Token(3600)]).await;
    let settings = Settings {
        connections: 1,
        attempt_timeout: Duration::from_secs(1),
        ..settings(&fcm)
    };
    let client = client(&settings, &oauth);
    client.warm(AMPLE).await;
    let answers = futures_util::future::join_all((0..3).map(|_| ring(&client))).await;
    for answer in answers {
        assert_eq!(summary(&answer), (Class::Unclear, Some("timeout"), true));
    }
    until(|| fcm.connections() == 2).await;
    assert_eq!(ring(&client).await.class, Class::Accepted);
    client.close().await;
}

#[tokio::test]
async fn a_ring_that_is_nearly_over_casts_no_suspicion() {
    let fcm = Fcm::start(|_| Reply::Hang).await;
    let oauth = OAuth::start([Grant::Token(3600)]).await;
    let client = client(&settings(&fcm), &oauth);
    client.tokens().wait().await.unwrap();
    client.warm(AMPLE).await;
    let answer = push(&client, "t", Duration::from_millis(50)).await;
    assert_eq!(summary(&answer), (Class::Unclear, Some("timeout"), true));
    assert_eq!(client.status().ready, 2);
    let sent = fcm.posts().len();
    let answer = push(&client, "t", Duration::ZERO).await;
    assert!(!answer.started);
    assert_eq!(fcm.posts().len(), sent);
}

#[tokio::test]
async fn a_body_that_never_ends_is_a_timeout() {
    let fcm = Fcm::start(|_| Reply::Half).await;
    let oauth = OAuth::start([Grant::Token(3600)]).await;
    let client = client(&settings(&fcm), &oauth);
    client.tokens().wait().await.unwrap();
    client.warm(AMPLE).await;
    let answer = push(&client, "t", Duration::from_millis(200)).await;
    assert_eq!(summary(&answer), (Class::Unclear, Some("timeout"), true));
}

#[tokio::test]
async fn a_closed_source_ends_the_wait() {
    let (fcm, oauth) = (accepting().await, OAuth::start([Grant::Hang]).await);
    let client = client(&settings(&fcm), &oauth);
    let close = client.tokens().close();
    let (answer, ()) = tokio::join!(ring(&client), close);
    assert_eq!(answer.class, Class::NoCredential);
}

#[test]
fn a_bad_address_or_ca_file_is_named() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let oauth = OAuth::start([Grant::Token(3600)]).await;
        let account = account(&oauth.uri);
        let tokens =
            TokenSource::start_with(&account, timing(), &Proxy::default(), &Metrics::default());
        let error = |settings: Settings| {
            Client::new(
                &settings,
                &account,
                tokens.clone(),
                &Proxy::default(),
                &Metrics::default(),
            )
            .unwrap_err()
            .to_string()
        };
        let text = error(Settings {
            url: "http://fcm.example".into(),
            ..Settings::default()
        });
        assert!(text.starts_with("fcm.url must"), "{text}");
        let text = error(Settings {
            ca_file: Some("/no/ca.pem".into()),
            ..Settings::default()
        });
        assert!(text.contains("/no/ca.pem"), "{text}");
    });
}

#[derive(Clone, Default)]
struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn even_at_level_trace_nothing_secret_is_logged() {
    let lines = Lines::default();
    let sink = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || sink.clone())
        .finish();
    // With only one subscriber about, tracing asks the current thread whether a
    // line is wanted when it is first met, and remembers a "no" of another test.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    let _guard = tracing::subscriber::set_default(subscriber);
    let fcm = Fcm::start(|_| Reply::Say(401, None, UNAUTHENTICATED.to_owned())).await;
    let failing = vec![Grant::Status(500, ""); 6];
    let oauth = OAuth::start(failing.into_iter().chain([Grant::Token(3600)])).await;
    let client = client(&settings(&fcm), &oauth);
    assert_eq!(
        push(&client, "dev:ice-t0ken", AMPLE).await.status,
        Some(401)
    );
    assert_eq!(fcm.posts().len(), 1);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for name in ["h2::", "hyper_util", "ringpush"] {
        assert!(
            text.contains(name),
            "{name} logged nothing: the test sees too little"
        );
    }
    for secret in ["token-0", "dev:ice-t0ken", "assertion=", "eyJ", "PRIVATE"] {
        if let Some(at) = text.find(secret) {
            panic!("{secret}: {}", &text[at.saturating_sub(300)..at + 100]);
        }
    }
}
