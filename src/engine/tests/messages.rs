//! A message is done once, whatever queue it comes from and however often.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::json;
use tokio::time::timeout;

use super::pair;
use crate::call::event::Platform::{Android, Ios};
use crate::call::receipt::Receipt;
use crate::engine::delivery::{Source, Verdict};
use crate::engine::testing::*;

#[tokio::test(start_paused = true)]
async fn a_duplicate_in_flight_joins_and_a_later_one_is_not_pushed_again() {
    let bench = Bench::new();
    let event = ring(30_000, &[ios("aa")]);
    let mut other = event.clone();
    other["data"] = json!({"differs": true});
    let all = tokio::join!(
        bench.handle(Ios, &event),
        bench.handle(Ios, &event),
        bench.handle(Ios, &other)
    );
    assert!(matches!(
        all,
        (Verdict::Settled, Verdict::Settled, Verdict::Settled)
    ));
    assert!(matches!(bench.handle(Ios, &event).await, Verdict::Settled));
    assert_eq!((bench.ios.count(), bench.of("push").len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_again_after_it_was_settled_repeats_no_report() {
    let bench = Bench::new();
    let event = ring(30_000, &[ios("aa"), ios("not hex"), android("t")]);
    for _ in 0..2 {
        let verdict = bench
            .dispatcher
            .handle(&delivery(Source::Calls, &event))
            .await;
        assert!(matches!(verdict, Verdict::Split(parts) if parts.len() == 2));
    }
    let bad = ring(30_000, &[ios("not hex")]);
    for _ in 0..2 {
        assert!(matches!(bench.handle(Ios, &bad).await, Verdict::Settled));
    }
    assert_eq!(bench.of("push").len(), 2, "one for each bad device");
    assert_eq!(bench.of("call").len(), 1);
}

/// A broker that is away for hours delivers again what it never saw settled.
#[tokio::test(start_paused = true)]
async fn a_message_that_comes_again_hours_later_is_not_pushed_again() {
    let bench = Bench::new();
    let event = ring(30_000, &[ios("aa")]);
    bench.handle(Ios, &event).await;
    tokio::time::advance(Duration::from_secs(23 * 3600)).await;
    assert!(matches!(bench.handle(Ios, &event).await, Verdict::Settled));
    assert_eq!((bench.ios.count(), bench.of("push").len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_final_before_a_panic_is_not_repeated_and_its_reports_are_waited_for() {
    let bench = Bench::new();
    let broken = Step {
        delay: Duration::from_millis(50),
        panics: true,
        ..accepted()
    };
    bench.ios.script("bb", [broken]);
    let event = ring(30_000, &[ios("aa"), ios("bb")]);
    *bench.sink.1.lock().unwrap() = Some(Vec::new());
    let first = AssertUnwindSafe(bench.handle(Ios, &event));
    assert!(first.catch_unwind().await.is_err());
    let held = bench.sink.1.lock().unwrap().take().unwrap();
    assert_eq!(held.len(), 1, "the first phone's report");
    let mut again = pin!(bench.handle(Ios, &event));
    let waited = timeout(Duration::from_secs(5), &mut again).await;
    assert!(waited.is_err(), "that report is not safe yet");
    held.into_iter().for_each(Receipt::safe);
    assert!(matches!(again.await, Verdict::Settled));
    assert_eq!(bench.ios.count(), 3, "only the second phone's is repeated");
    assert_eq!(
        bench.results(),
        [pair("accepted", "-"), pair("accepted", "-")]
    );
}

#[tokio::test(start_paused = true)]
async fn events_for_any_platform_are_split_and_their_bad_devices_reported() {
    let bench = Bench::new();
    let event = ring(30_000, &[ios("aa"), android("t"), ios("no hex")]);
    let verdict = bench
        .dispatcher
        .handle(&delivery(Source::Calls, &event))
        .await;
    let Verdict::Split(parts) = verdict else {
        panic!("{verdict:?}")
    };
    assert_eq!(parts.len(), 2);
    assert_eq!(bench.results(), [pair("rejected", "invalid_token")]);
    // On the wrong queue it is split again, so that it gets to the right one.
    let verdict = bench.handle(Ios, &ring(30_000, &[android("t")])).await;
    assert!(matches!(verdict, Verdict::Split(parts) if parts[0].platform == Android));
    assert_eq!((bench.ios.count(), bench.android.count()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_understood_is_dead() {
    let bench = Bench::new();
    let verdict = bench.handle(Ios, &json!({"v": 2})).await;
    assert!(matches!(verdict, Verdict::Dead(error) if error.to_string() == "v: must be 1"));
}
