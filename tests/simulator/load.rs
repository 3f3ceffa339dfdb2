//! Many pushes at once: none lost, none counted twice, and fast enough to test
//! a fast worker.

use futures_util::StreamExt as _;
use futures_util::stream;
use ringpush::simulator::{Keep, Options, Simulator};
use tokio::time::Instant;

use super::client::{Client, Push, jwt};

const PUSHES: u32 = 10_000;
const CONNECTIONS: usize = 4;

/// Exactly once at 10 000 pushes, from counts alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_pushes_are_counted_once_each() {
    let options = Options {
        keep: Keep::Counts,
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let jwt = jwt(&simulator, 0);
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = Client::connect(&simulator.apns_production_url(), &simulator).await;
        // Before its first valid request a connection has one stream, and a
        // client that does not know it yet would see streams refused.
        assert_eq!(client.reason(Push::voip(&jwt)).await.0, 200);
        clients.push(client);
    }
    simulator.record().clear();
    let began = Instant::now();
    let answers = stream::iter(0..PUSHES).map(|n| {
        let client = &clients[n as usize % CONNECTIONS];
        let push = Push::voip(&jwt).with("apns-id", &format!("123e4567-e89b-12d3-a456-{n:012}"));
        async move { client.send(push).await.unwrap().status }
    });
    let good = answers
        .buffer_unordered(400)
        .filter(|status| std::future::ready(*status == 200));
    assert_eq!(good.count().await, PUSHES as usize);
    let rate = f64::from(PUSHES) / began.elapsed().as_secs_f64();
    println!("{rate:.0} pushes per second, client and server together");
    let tally = simulator.record().tally();
    let expected = u64::from(PUSHES);
    assert_eq!((tally.requests, tally.delivered), (expected, expected));
    assert_eq!((tally.distinct, tally.repeated), (expected, 0));
    assert!(simulator.record().all().is_empty(), "counts only");
}
