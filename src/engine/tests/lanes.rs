//! A lane pauses, resumes and counts without harm to others.

use std::time::Duration;

use serde_json::json;
use tokio::time::{advance, sleep};

use super::pair;
use crate::call::event::Platform::{Android, Ios};
use crate::call::payload::CancelMode;
use crate::call::push::Class;
use crate::engine::settings::TokenSettings;
use crate::engine::testing::*;

#[tokio::test(start_paused = true)]
async fn five_credential_faults_pause_the_lane_and_cost_the_other_lanes_nothing() {
    let bench = Bench::new();
    for n in 0..6 {
        let token = format!("{n:02x}");
        bench.ios.script(
            &token,
            [step(Class::CredentialFault, "InvalidProviderToken")],
        );
        bench.handle(Ios, &ring(30_000, &[ios(&token)])).await;
    }
    assert_eq!(bench.ios.count(), 5);
    assert_eq!(bench.results()[5], pair("credential_fault", "lane_paused"));
    bench.handle(Android, &ring(30_000, &[android("t")])).await;
    assert_eq!(bench.results()[6], pair("accepted", "-"));
    advance(Duration::from_millis(1_001)).await;
    bench.handle(Ios, &ring(30_000, &[ios("aa")])).await;
    bench.handle(Ios, &ring(30_000, &[ios("bb")])).await;
    assert_eq!(
        bench.results()[7..],
        [pair("accepted", "-"), pair("accepted", "-")]
    );
}

#[tokio::test(start_paused = true)]
async fn the_probe_of_a_paused_lane_may_use_what_was_renewed_for_it() {
    let bench = Bench::new();
    for n in 0..5 {
        let token = format!("{n:02x}");
        let fault = step(Class::CredentialFault, "InvalidProviderToken");
        bench.ios.script(&token, [fault]);
        bench.handle(Ios, &ring(30_000, &[ios(&token)])).await;
    }
    advance(Duration::from_millis(1_001)).await;
    bench
        .ios
        .script("aa", [step(Class::StaleCredential, "ExpiredProviderToken")]);
    bench.handle(Ios, &ring(30_000, &[ios("aa")])).await;
    bench.handle(Ios, &ring(30_000, &[ios("bb")])).await;
    assert_eq!(
        bench.results()[5..],
        [pair("accepted", "-"), pair("accepted", "-")]
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_background_push_does_not_pause_the_rings() {
    let bench = Bench::cancelling(CancelMode::Background);
    for n in 0..6 {
        let (token, alert) = (format!("a{n}"), format!("b{n}"));
        bench
            .ios
            .script(&alert, [step(Class::CredentialFault, "TopicDisallowed")]);
        let mut device = ios(&token);
        device["alert_token"] = json!(alert);
        let mut stop = cancel(&[device.clone()]);
        stop["call_id"] = json!(format!("call-{n}"));
        bench.handle(Ios, &stop).await;
    }
    bench.handle(Ios, &ring(30_000, &[ios("aa")])).await;
    assert_eq!(bench.results()[6], pair("accepted", "-"));
}

/// A lane says for how long it is paused and which answer did it.
#[tokio::test(start_paused = true)]
async fn a_paused_lane_names_the_answer_that_paused_it() {
    let bench = Bench::new();
    let refusals = vec![step(Class::CredentialFault, "InvalidProviderToken"); 5];
    bench.ios.script("aa", refusals);
    for _ in 0..5 {
        bench.handle(Ios, &ring(30_000, &[ios("aa")])).await;
    }
    advance(Duration::from_secs(7)).await;
    let routes = bench.dispatcher.routes();
    let lane = |environment| {
        let mut all = routes.lanes();
        let lane = all.find(|lane| lane.labels().environment == environment);
        lane.unwrap().status()
    };
    let (since, reason) = lane("production").paused.unwrap();
    assert_eq!(since.as_secs(), 7);
    assert_eq!(reason.as_deref(), Some("InvalidProviderToken"));
    assert_eq!(lane("sandbox").paused, None);
}

#[tokio::test(start_paused = true)]
async fn no_permit_is_held_while_a_retry_sleeps() {
    let bench = Bench::with(TokenSettings::default(), 1);
    let mut busy = step(Class::Throttled, "TooManyRequests");
    busy.answer.retry_after = Some(Duration::from_secs(10));
    bench.ios.script("aa", [busy]);
    let (first, second) = (ring(30_000, &[ios("aa")]), ring(2_000, &[ios("bb")]));
    tokio::join!(bench.handle(Ios, &first), bench.handle(Ios, &second));
    assert_eq!(
        bench.results(),
        [pair("accepted", "-"), pair("accepted", "-")]
    );
}

/// Work in hand is told from requests on their way, and both end at zero.
#[tokio::test(start_paused = true)]
async fn a_lane_counts_what_is_on_its_way_and_what_waits() {
    let bench = Bench::with(TokenSettings::default(), 1);
    let event = ring(30_000, &[ios("aa"), ios("bb"), ios("cc")]);
    let routes = bench.dispatcher.routes();
    let status = || {
        let mut all = routes.lanes();
        let lane = all.find(|lane| lane.labels().environment == "production");
        let status = lane.unwrap().status();
        (status.in_flight, status.waiting)
    };
    let watch = async {
        sleep(Duration::from_millis(2)).await;
        status()
    };
    let (_, during) = tokio::join!(bench.handle(Ios, &event), watch);
    assert_eq!(during, (1, 2));
    assert_eq!(status(), (0, 0));
}
