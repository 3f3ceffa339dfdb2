//! A ring reaches the right phone's service, exactly as it should.

use crate::support::events::{android, android_token, ios, ios_token, ring};
use crate::support::stage::Stage;

/// The main job.
#[tokio::test]
async fn a_ring_for_each_platform_reaches_its_service() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let mut outcomes = stage.client.outcomes().await;
    let (iphone, pixel) = (ios_token(), android_token());
    let event = ring(&[ios("i", &iphone), android("a", &pixel)]);
    stage.client.publish("ring", &event).await;
    let reports = outcomes.pushes(2).await;
    assert_eq!(
        (&reports[0]["result"], &reports[1]["result"]),
        (&"accepted".into(), &"accepted".into())
    );
    stage.end(worker).await;
}
