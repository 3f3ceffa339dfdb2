//! What is wrong with a credential is mended in time or called a fault.

use std::time::Duration;

use tokio::time::sleep;

use super::pair;
use crate::call::event::Platform::{Android, Ios};
use crate::call::push::{Answer, Class};
use crate::engine::settings::TokenSettings;
use crate::engine::testing::*;

#[tokio::test(start_paused = true)]
async fn a_renewed_credential_is_tried_once_and_then_it_is_a_fault() {
    let bench = Bench::new();
    let stale = || step(Class::StaleCredential, "ExpiredProviderToken");
    bench.ios.script("aa", [stale()]);
    bench.ios.script("bb", [stale(), stale()]);
    bench.handle(Ios, &ring(30_000, &[ios("aa")])).await;
    bench.handle(Ios, &ring(30_000, &[ios("bb")])).await;
    assert_eq!(
        bench.results(),
        [
            pair("accepted", "-"),
            pair("credential_fault", "ExpiredProviderToken")
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn too_many_signatures_back_off_from_a_second_and_end_as_a_credential_fault() {
    let bench = Bench::new();
    let throttled = || step(Class::SigningThrottled, "TooManyProviderTokenUpdates");
    bench.ios.script("aa", (0..50).map(|_| throttled()));
    bench.handle(Ios, &ring(5_000, &[ios("aa")])).await;
    let times = bench.ios.times();
    assert!(
        times[1] - times[0] >= Duration::from_secs(1)
            && times
                .windows(2)
                .skip(1)
                .all(|w| w[1] - w[0] >= Duration::from_secs(2)),
        "{times:?}"
    );
    assert_eq!(
        bench.results(),
        [pair("credential_fault", "TooManyProviderTokenUpdates")]
    );
}

#[tokio::test(start_paused = true)]
async fn it_is_a_credential_fault_too_if_the_deadline_comes_while_a_permit_is_waited_for() {
    let bench = Bench::with(TokenSettings::default(), 1);
    bench.ios.script(
        "aa",
        [step(Class::SigningThrottled, "TooManyProviderTokenUpdates")],
    );
    let hang = Step {
        delay: Duration::from_secs(3600),
        ..accepted()
    };
    bench.ios.script("bb", [hang]);
    let (first, second) = (ring(3_000, &[ios("aa")]), ring(20_000, &[ios("bb")]));
    tokio::join!(bench.handle(Ios, &first), async {
        sleep(Duration::from_millis(500)).await;
        bench.handle(Ios, &second).await
    });
    assert_eq!(
        bench.results()[0],
        pair("credential_fault", "TooManyProviderTokenUpdates")
    );
}

/// A client whose access token never comes.
struct NoToken;
impl crate::call::push::PushClient for NoToken {
    fn send<'a>(
        &'a self,
        _: crate::call::push::Attempt<'a>,
    ) -> futures_util::future::BoxFuture<'a, Answer> {
        Box::pin(async {
            sleep(Duration::from_secs(1)).await;
            Answer::new(Class::NoCredential)
                .because("oauth_unavailable")
                .unstarted()
        })
    }
    fn why_not_ready(&self) -> Option<String> {
        Some("no access token".into())
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_access_token_a_ring_waits_for_one_to_its_deadline_and_counts_no_attempt() {
    let bench = Bench::new();
    let routes = bench.dispatcher.routes();
    let old = routes.apps["app"].android.as_ref().unwrap();
    let lane = crate::engine::lane::Lane::new(
        old.labels().clone(),
        std::sync::Arc::new(NoToken),
        std::sync::Arc::new(tokio::sync::Semaphore::new(1)),
        old.brake.clone(),
        crate::engine::settings::RetrySettings::default(),
        &bench.metrics,
    );
    let app = crate::engine::routes::App {
        profile: "plain".into(),
        ios: None,
        android: Some(std::sync::Arc::new(lane)),
    };
    bench.dispatcher.set_routes(crate::engine::routes::Routes {
        apps: [("app".into(), app)].into(),
        profiles: crate::call::payload::Profiles::built_in().unwrap(),
    });
    bench.handle(Android, &ring(6_000, &[android("t")])).await;
    assert_eq!(bench.results(), [pair("expired", "oauth_unavailable")]);
    assert_eq!(bench.of("push")[0]["attempts"], 0);
}
