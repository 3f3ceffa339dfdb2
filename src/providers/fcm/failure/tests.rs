//! Real connections that end in every way there is.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::metrics::Metrics;
use crate::providers::fcm::pool::Pool;
use crate::providers::fcm::testing::{Fcm, Reply};
use crate::providers::tls;

const AMPLE: Duration = Duration::from_secs(30);

/// One connection, as the client has them.
fn pool(fcm: &Fcm) -> Pool {
    let roots = tls::roots_from(Some(fcm.ca.path())).unwrap();
    let config = tls::client_config(roots, None, &[b"h2"]).unwrap();
    let metrics = Metrics::default();
    let limit = Duration::from_secs(1);
    Pool::new(1, config, String::new(), limit, metrics.connections).unwrap()
}

async fn post(pool: &Pool, url: &str) -> Answer {
    let seat = pool.pick().unwrap();
    let request = seat.http().post(url).body("x").send();
    let error = tokio::time::timeout(AMPLE, request)
        .await
        .unwrap()
        .unwrap_err();
    let answer = classify(&error);
    let detail = answer.detail.as_deref().unwrap();
    assert!(!detail.contains(url), "the address is quoted: {detail}");
    answer
}

fn summary(answer: &Answer) -> (Class, &str, bool) {
    (
        answer.class,
        answer.reason.as_deref().unwrap(),
        answer.started,
    )
}

/// How a request ends that this FCM treats so.
async fn ends(reply: Reply) -> Answer {
    let fcm = Fcm::start(move |_| reply.clone()).await;
    post(&pool(&fcm), &format!("https://{}/", fcm.addr)).await
}

const NOT_CONNECTED: (Class, &str, bool) = (Class::NotProcessed, "connection", false);
const REFUSED: (Class, &str, bool) = (Class::NotProcessed, "connection", true);
const UNCLEAR: (Class, &str, bool) = (Class::Unclear, "connection", true);

#[tokio::test]
async fn nothing_was_sent_where_nobody_listens() {
    let fcm = Fcm::start(|_| Reply::Hang).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let answer = post(&pool(&fcm), &format!("https://{addr}/")).await;
    assert_eq!(summary(&answer), NOT_CONNECTED);
}

#[tokio::test]
async fn nothing_was_sent_to_a_server_that_is_not_trusted() {
    let (fcm, other) = (
        Fcm::start(|_| Reply::Hang).await,
        Fcm::start(|_| Reply::Hang).await,
    );
    let answer = post(&pool(&other), &format!("https://{}/", fcm.addr)).await;
    assert_eq!(summary(&answer), NOT_CONNECTED);
    assert!(answer.detail.unwrap().contains("certificate"));
}

#[tokio::test]
async fn nothing_was_sent_where_the_handshake_never_ends() {
    let fcm = Fcm::start(|_| Reply::Hang).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", silent.local_addr().unwrap());
    assert_eq!(summary(&post(&pool(&fcm), &url).await), NOT_CONNECTED);
}

#[tokio::test]
async fn a_refused_stream_was_not_processed_and_any_other_reset_may_have_been() {
    assert_eq!(
        summary(&ends(Reply::Reset(h2::Reason::REFUSED_STREAM)).await),
        REFUSED
    );
    for reason in [
        h2::Reason::INTERNAL_ERROR,
        h2::Reason::CANCEL,
        h2::Reason::ENHANCE_YOUR_CALM,
    ] {
        assert_eq!(
            summary(&ends(Reply::Reset(reason)).await),
            UNCLEAR,
            "{reason:?}"
        );
    }
}

#[tokio::test]
async fn a_request_that_was_under_way_when_its_connection_broke_is_unclear() {
    assert_eq!(summary(&ends(Reply::Cut).await), UNCLEAR);
}

/// HTTP/2 by hand, without TLS: after this many requests it says GOAWAY with
/// this last stream, then closes if asked to.
async fn goaway(streams: u32, requests: usize, last: u32, close: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // A connection that replaces this one shall fail.
        drop(listener);
        stream.read_exact(&mut [0; 24]).await.unwrap();
        let mut settings = vec![0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3];
        settings.extend(streams.to_be_bytes());
        stream.write_all(&settings).await.unwrap();
        for _ in 0..requests {
            while read_frame(&mut stream).await != 1 {}
        }
        // Time for requests that wait for a stream to begin to.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
        frame.extend(last.to_be_bytes());
        frame.extend(u32::from(h2::Reason::ENHANCE_YOUR_CALM).to_be_bytes());
        stream.write_all(&frame).await.unwrap();
        if !close {
            while stream.read_u8().await.is_ok() {}
        }
    });
    url
}

/// Reads a frame and gives its type.
async fn read_frame(stream: &mut TcpStream) -> u8 {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    head[3]
}

#[tokio::test]
async fn above_the_last_stream_of_a_goaway_nothing_was_processed() {
    let fcm = Fcm::start(|_| Reply::Hang).await;
    let url = goaway(100, 1, 0, false).await;
    assert_eq!(summary(&post(&pool(&fcm), &url).await), REFUSED);
}

#[tokio::test]
async fn below_it_a_request_may_have_been_when_the_connection_ends() {
    let fcm = Fcm::start(|_| Reply::Hang).await;
    let url = goaway(100, 1, 1, true).await;
    assert_eq!(summary(&post(&pool(&fcm), &url).await), UNCLEAR);
}

#[tokio::test]
async fn what_still_waited_for_a_stream_was_never_sent() {
    let fcm = Fcm::start(|_| Reply::Hang).await;
    let url = goaway(1, 1, 1, true).await;
    let pool = pool(&fcm);
    // The first learns the limit of one stream; the others wait behind it.
    let answers = futures_util::future::join_all((0..6).map(|n| {
        let (pool, url) = (&pool, &url);
        async move {
            tokio::time::sleep(Duration::from_millis(n * 10)).await;
            post(pool, url).await
        }
    }))
    .await;
    assert_eq!(summary(&answers[0]), UNCLEAR);
    for answer in &answers[1..] {
        assert_eq!(answer.class, Class::NotProcessed, "{answer:?}");
    }
}
