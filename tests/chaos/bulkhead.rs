//! FCM takes ten seconds for every answer, for twenty seconds. What does that
//! cost iOS?

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ringpush::simulator::{Script, ServerKind};

use crate::Options;
use crate::ledger::{Books, Ledger};
use crate::support::broker::Broker;
use crate::support::stage::Stage;

/// The promise, in milliseconds from publish to Apple's gateway.
const P99: f64 = 50.0;

pub(crate) async fn run(options: &Options) -> bool {
    let rate = u32::try_from(options.number("--rate", 200)).expect("small");
    let seconds = options.number("--seconds", 22);
    let broker = tokio::task::spawn_blocking(Broker::private).await;
    let broker = broker.expect("a broker");
    let sim = ringpush::simulator::Options::default();
    let stage = Stage::on(&broker.url, "", sim).await;
    let mut ledger = Ledger::open(&broker.url, &stage.client.prefix).await;
    let mut worker = stage.worker().await;
    // Warm, as a worker in service is.
    ledger.load(rate, Duration::from_secs(2), 45).await;
    ledger.rings.clear();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/faults/fcm-hangs.toml");
    let script = Script::from_file(&file).expect("a script");
    stage.simulator.script(script).expect("valid");
    ledger.load(rate, Duration::from_secs(seconds), 45).await;
    let rings = ledger.rings.len();
    let books = ledger.collect(Duration::from_secs(60)).await;
    assert_eq!(worker.stop().await, 0);
    let late = to_gateway(&books, &stage);
    let quantile = |q: f64| {
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        #[allow(clippy::cast_sign_loss)]
        let at = ((late.len() - 1) as f64 * q).round() as usize;
        late[at]
    };
    let p99 = quantile(0.99);
    println!(
        "FCM hangs 10 s a call for 20 s, {rate} rings/s, half each, {seconds} s: {rings} rings"
    );
    println!(
        "iOS publish to gateway: p50 {:.1} ms, p99 {p99:.1} ms, longest {:.1} ms, {} rings",
        quantile(0.5),
        quantile(1.0),
        late.len()
    );
    let android = books.latencies("android");
    println!("Android publish to outcome: longest {} ms", android[0]);
    println!("results: {:?}", books.results());
    let lost = rings - books.results().get("accepted").copied().unwrap_or(0);
    println!("lost: {lost}");
    let kept = lost == 0 && p99 < P99;
    println!("{}", if kept { "kept" } else { "BROKEN" });
    kept
}

/// From the moment before publishing to the simulator's judgement, sorted.
fn to_gateway(books: &Books, stage: &Stage) -> Vec<f64> {
    let mut first: HashMap<String, DateTime<Utc>> = HashMap::new();
    for record in stage.simulator.record().of(ServerKind::ApnsProduction) {
        if let Some(token) = &record.token {
            first.entry(token.clone()).or_insert(record.at);
        }
    }
    let mut late: Vec<f64> = books
        .rings
        .iter()
        .filter(|ring| ring.platform == "ios")
        .filter_map(|ring| Some((ring.sent, first.get(&ring.token)?)))
        .map(|(sent, at)| {
            let late = (*at - sent).num_microseconds().unwrap_or(i64::MAX);
            #[allow(clippy::cast_precision_loss)]
            let late = late as f64 / 1_000.0;
            late
        })
        .collect();
    late.sort_unstable_by(f64::total_cmp);
    late
}
