//! What one request and its answer cost over a pool of so many connections:
//! picking the connection, HTTP/2 and the way over loopback to a server that
//! does next to nothing. `cargo bench --bench exchange`.
//!
//! Picking alone is a few atomic loads per connection. It is what grows with
//! their number, along with what the processor's caches no longer hold.

#![allow(clippy::unwrap_used, reason = "the server is ours")]

use std::time::Duration;

use bytes::Bytes;
use divan::Bencher;
use http::{Request, StatusCode};
use ringpush::call::push::Gate;
use ringpush::metrics::Metrics;
use ringpush::providers::endpoint::Endpoint;
use ringpush::providers::http2::proxy::Proxy;
use ringpush::providers::http2::{Options, Pool, Tuning};
use ringpush::providers::tls;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

#[allow(dead_code, reason = "what is sent is counted for tests/budget.rs")]
mod gateway;

use gateway::Gateway;

const AMPLE: Duration = Duration::from_secs(10);

fn main() {
    divan::main();
}

/// One at a time.
#[divan::bench(args = [1, 2, 8, 32])]
fn one(bencher: Bencher<'_, '_>, connections: usize) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let gateway = Gateway::start("").unwrap();
    let pool = pool(&runtime, &gateway, connections);
    let uri: http::Uri = format!("{}/3/device/0af9", gateway.url).parse().unwrap();
    let body = Bytes::from_static(&[b' '; 400]);
    bencher.bench_local(|| {
        let request = || {
            let request = Request::post(uri.clone()).body(()).unwrap();
            (request, body.clone())
        };
        runtime.block_on(async {
            let gate = Gate::default();
            let reply = pool.exchange(&gate, Instant::now() + AMPLE, request).await;
            assert!(reply.is_ok_and(|reply| reply.head.status == StatusCode::OK));
        });
    });
}

fn pool(runtime: &Runtime, gateway: &Gateway, connections: usize) -> Pool {
    let options = Options {
        provider: "the bench",
        platform: "ios",
        connections,
        attempt_timeout: AMPLE,
        streams_at_most: usize::MAX,
        head_is_enough: Some(StatusCode::OK),
        body_limit: 4096,
        tuning: Tuning::default(),
    };
    // Not used over plain HTTP, but a client without roots cannot be made.
    let trusted = rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert;
    let roots = tls::roots(Some(trusted.pem().as_bytes())).unwrap();
    let tls = tls::client_config(roots, None, &[b"h2"]).unwrap();
    let endpoint = Endpoint::parse(&gateway.url).unwrap();
    runtime.block_on(async {
        let pool = Pool::new(
            endpoint,
            tls,
            &Proxy::default(),
            options,
            &Metrics::default(),
        )
        .unwrap();
        assert_eq!(pool.warm(AMPLE).await.ready, connections);
        pool
    })
}
