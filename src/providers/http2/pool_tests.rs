use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::*;
use crate::providers::http2::testing::{
    Command, INTERNAL_ERROR, REFUSED_STREAM, Server, accept, answer, eventually, reset,
    stream_limit, tuning,
};
use crate::providers::tls;

const AMPLE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

fn options() -> Options {
    Options {
        provider: "the test",
        platform: "ios",
        connections: 1,
        attempt_timeout: AMPLE,
        streams_at_most: usize::MAX,
        head_is_enough: None,
        body_limit: 16,
        tuning: tuning(),
    }
}

async fn pool(server: &Server, options: Options) -> Pool {
    let url = format!("https://localhost:{}", server.address.port());
    let roots = tls::roots(Some(server.ca.as_bytes())).unwrap();
    let tls = tls::client_config(roots, None, &[b"h2"]).unwrap();
    let endpoint = Endpoint::parse(&url).unwrap();
    let pool = Pool::new(
        endpoint,
        tls,
        &Proxy::default(),
        options,
        &Metrics::default(),
    )
    .unwrap();
    assert_eq!(pool.warm(AMPLE).await.ready, options.connections);
    pool
}

/// A request, and what its connection is told of the answer.
async fn send_within(pool: &Pool, limit: Duration) -> Result<Bytes, Class> {
    let request = || {
        let request = Request::post("https://localhost/").body(()).unwrap();
        (request, Bytes::from_static(b"{}"))
    };
    let gate = Gate::default();
    let reply = pool.exchange(&gate, Instant::now() + limit, request).await;
    reply.map_err(|answer| answer.class).map(|reply| {
        reply.answered(reply.head.status.is_server_error());
        reply.body.clone()
    })
}

async fn send(pool: &Pool) -> Result<Bytes, Class> {
    send_within(pool, AMPLE).await
}

/// It is always idle, which must not make it the one that is picked.
#[tokio::test]
async fn a_connection_that_resets_every_stream_is_avoided() {
    for code in [INTERNAL_ERROR, REFUSED_STREAM] {
        let server = Server::start(100, move |seen| match seen.connection {
            0 => Some(reset(seen.stream, code)),
            _ => accept(seen),
        })
        .await;
        let two = Options {
            connections: 2,
            ..options()
        };
        let pool = pool(&server, two).await;
        let failed = join_all((0..50).map(|n| {
            let pool = &pool;
            async move {
                sleep(Duration::from_millis(n * 4)).await;
                send(pool).await.is_err()
            }
        }))
        .await;
        let failed = failed.into_iter().filter(|failed| *failed).count();
        assert!((1..=2).contains(&failed), "{failed} of 50 were reset");
    }
}

#[tokio::test]
async fn a_connection_that_only_resets_is_replaced_and_goes_when_the_new_one_has_answered() {
    let server = Server::start(100, |seen| match seen.connection {
        0 => Some(reset(seen.stream, INTERNAL_ERROR)),
        _ => accept(seen),
    })
    .await;
    let pool = pool(&server, options()).await;
    for _ in 0..3 {
        assert_eq!(send(&pool).await.unwrap_err(), Class::Unclear);
    }
    eventually("a replacement", || pool.status().ready == 2).await;
    assert!(send(&pool).await.is_ok());
    eventually("the worn one goes", || pool.status().ready == 1).await;
    assert!(send(&pool).await.is_ok());
    assert_eq!(server.accepted(), 2);
}

/// A slow server: what takes many streams wears out, and on what replaces it
/// there is one stream until the first answer, which does not come.
#[tokio::test]
async fn a_worn_connection_is_kept_until_its_replacement_has_answered() {
    let server = Server::start(1, |seen| match (seen.connection, seen.nth) {
        (0, 3..) => accept(seen),
        (_, _) => Some(Vec::new()),
    })
    .await;
    let quick = Options {
        attempt_timeout: SHORT,
        ..options()
    };
    let pool = pool(&server, quick).await;
    server.tell(0, Command::Send(stream_limit(100)));
    sleep(SHORT).await;
    for late in join_all((0..3).map(|_| send_within(&pool, SHORT * 2))).await {
        assert_eq!(late.unwrap_err(), Class::Unclear);
    }
    eventually("a replacement", || pool.status().ready == 2).await;
    sleep(SHORT).await;
    let sent = join_all((0..20).map(|_| send_within(&pool, SHORT * 2))).await;
    let taken = sent.iter().filter(|sent| sent.is_ok()).count();
    assert_eq!(taken, 19, "all but the one that the replacement holds");
}

/// Where all that can be opened is worn and useless, some of it makes room.
#[tokio::test]
async fn connections_that_never_answer_do_not_fill_the_pool_for_good() {
    let server = Server::start(100, |seen| match seen.connection {
        0..5 => Some(Vec::new()),
        _ => accept(seen),
    })
    .await;
    let quick = Options {
        attempt_timeout: Duration::from_millis(20),
        ..options()
    };
    let pool = pool(&server, quick).await;
    let mut late = 0;
    while send_within(&pool, Duration::from_millis(20)).await.is_err() {
        late += 1;
        assert!(late < 200, "stuck with {:?}", pool.status());
    }
}

/// The path is gone, and with it every connection, in the midst of traffic.
#[tokio::test]
async fn the_attempt_after_the_first_silence_finds_a_connection_that_is_alive() {
    let server = Server::start(100, accept).await;
    let mut two = Options {
        connections: 2,
        attempt_timeout: 3 * DOUBT,
        ..options()
    };
    two.tuning.liveness.silence = DOUBT;
    let pool = pool(&server, two).await;
    assert!(send(&pool).await.is_ok());
    server.tell(0, Command::Freeze);
    server.tell(1, Command::Freeze);
    let silent = send_within(&pool, 3 * DOUBT).await;
    assert_eq!(silent.unwrap_err(), Class::Unclear);
    assert!(send_within(&pool, SHORT).await.is_ok());
}

#[tokio::test]
async fn no_more_streams_than_our_own_limit_are_opened() {
    let server = Server::start(100, |_| Some(Vec::new())).await;
    let few = Options {
        streams_at_most: 3,
        ..options()
    };
    let pool = pool(&server, few).await;
    join_all((0..10).map(|_| send_within(&pool, SHORT))).await;
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_body_is_cut_off_at_its_limit() {
    let server = Server::start(100, |seen| {
        let body = ["0123456789abcdef", "0123456789abcdefX"][seen.nth % 2];
        Some(answer(seen.stream, 400, body))
    })
    .await;
    let pool = pool(&server, options()).await;
    for _ in 0..4 {
        assert_eq!(send(&pool).await.unwrap(), "0123456789abcdef");
    }
}

/// HTTP/2 without TLS, as on this machine.
#[tokio::test]
async fn plain_http_is_http2_by_prior_knowledge() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond
                .send_response(http::Response::new(()), true)
                .unwrap();
        }
    });
    let roots = tls::roots(Some(
        crate::providers::http2::testing::server_tls().1.as_bytes(),
    ));
    let tls = tls::client_config(roots.unwrap(), None, &[b"h2"]).unwrap();
    let endpoint = Endpoint::parse(&url).unwrap();
    let pool = Pool::new(
        endpoint,
        tls,
        &Proxy::default(),
        options(),
        &Metrics::default(),
    )
    .unwrap();
    assert!(send(&pool).await.is_ok());
    assert_eq!(pool.status().phases.unwrap().tls, None);
}
