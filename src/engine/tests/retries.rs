//! What is tried again, when, and for how long.

use std::time::Duration;

use tokio::time::Instant;

use super::pair;
use crate::call::event::Platform::{Android, Ios};
use crate::call::push::Class;
use crate::engine::testing::*;

#[tokio::test(start_paused = true)]
async fn trouble_is_retried_with_the_same_id_until_it_is_accepted() {
    let bench = Bench::new();
    let trouble = || step(Class::Unavailable, "ServiceUnavailable");
    bench.ios.script("aa", [trouble(), trouble(), trouble()]);
    bench.handle(Ios, &ring(30_000, &[ios("aa")])).await;
    assert_eq!(bench.of("push")[0]["attempts"], 4);
    let seen = bench.ios.seen.lock().unwrap().clone();
    assert!(seen.iter().all(|attempt| attempt.id == seen[0].id));
    assert!(
        seen.windows(2).all(|w| w[1].time_left < w[0].time_left),
        "recomputed per attempt"
    );
    assert!(seen[1].at - seen[0].at >= Duration::from_millis(200));
}

#[tokio::test(start_paused = true)]
async fn what_was_provably_not_processed_is_repeated_at_once_and_then_with_a_pause() {
    let bench = Bench::new();
    let refused = || step(Class::NotProcessed, "connection");
    bench.ios.script("aa", [refused(), refused()]);
    bench.handle(Ios, &ring(30_000, &[ios("aa")])).await;
    let times = bench.ios.times();
    assert!(
        times[1] - times[0] < Duration::from_millis(10),
        "{:?}",
        times[1] - times[0]
    );
    assert!(times[2] - times[1] >= Duration::from_millis(200));
}

#[tokio::test(start_paused = true)]
async fn a_wait_asked_for_is_never_cut_short() {
    let bench = Bench::new();
    let mut busy = step(Class::Throttled, "TooManyRequests");
    busy.answer.retry_after = Some(Duration::from_secs(7));
    bench.ios.script("aa", [busy]);
    bench.handle(Ios, &ring(30_000, &[ios("aa")])).await;
    let times = bench.ios.times();
    assert!(times[1] - times[0] >= Duration::from_secs(7));
    assert_eq!(bench.results(), [pair("accepted", "-")]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_ends_after_the_deadline_expires_the_ring_at_once() {
    let bench = Bench::new();
    let mut busy = step(Class::Throttled, "QUOTA_EXCEEDED");
    busy.answer.retry_after = Some(Duration::from_secs(60));
    bench.android.script("t", [busy]);
    let start = Instant::now();
    bench.handle(Android, &ring(30_000, &[android("t")])).await;
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(bench.results(), [pair("expired", "QUOTA_EXCEEDED")]);
}

#[tokio::test(start_paused = true)]
async fn waits_grow_to_the_longest_and_not_beyond() {
    let bench = Bench::new();
    let trouble = || step(Class::Unavailable, "ServiceUnavailable");
    bench.ios.script("aa", (0..40).map(|_| trouble()));
    bench.handle(Ios, &ring(40_000, &[ios("aa")])).await;
    let times = bench.ios.times();
    let waits: Vec<_> = times.windows(2).map(|w| w[1] - w[0]).collect();
    let longest = Duration::from_millis(2_010);
    assert!(waits.iter().all(|wait| *wait <= longest), "{waits:?}");
    assert!(
        waits[8..]
            .iter()
            .all(|wait| *wait >= Duration::from_millis(995))
    );
}
