//! Life and death of the worker.

use std::time::Duration;

use crate::ledger::Ring;
use crate::scene::{Scene, folder};
use crate::support::worker::{PATIENCE, Worker};
use ringpush::simulator::Script;

/// kill -9 at any point: the other worker finishes every ring that is alive.
/// What was pushed and not yet acknowledged is pushed again, and nothing else.
#[tokio::test]
async fn a_killed_worker_is_replaced_by_the_other_one() {
    let mut scene = Scene::playing("slow").await;
    let mut second = scene.stage.worker().await;
    scene
        .ledger
        .load(60, Duration::from_millis(1_500), 20)
        .await;
    scene.worker.kill().await;
    scene
        .ledger
        .load(60, Duration::from_millis(1_500), 20)
        .await;
    let books = scene.books().await;
    books.balance(true);
    let twice = books.all_accepted(&scene.stage.simulator);
    // 60 a second and 400 ms each: so many are under way, on both workers.
    assert!(twice <= 60, "{twice} pushes beyond one for each ring");
    std::mem::swap(&mut scene.worker, &mut second);
    scene.end().await;
}

/// SIGTERM: what is under way is finished, the rest is left to the broker, and
/// nothing is pushed twice.
#[tokio::test]
async fn sigterm_in_mid_load_finishes_what_is_under_way() {
    let mut scene = Scene::playing("slow").await;
    scene.ledger.load(60, Duration::from_secs(1), 20).await;
    scene.worker.signal("TERM");
    scene.ledger.load(60, Duration::from_secs(1), 20).await;
    assert_eq!(scene.worker.exit_code().await, 0);
    scene.worker = scene.stage.worker().await;
    let books = scene.books().await;
    books.balance(false);
    assert_eq!(books.all_accepted(&scene.stage.simulator), 0);
    scene.end().await;
}

/// What outlasts the grace is neither acknowledged nor reported: the broker has
/// all of it again, and the next worker finishes it.
#[tokio::test]
async fn what_outlasts_the_grace_goes_back_to_the_broker() {
    let mut scene = Scene::playing("hangs").await;
    assert_eq!(scene.worker.stop().await, 0);
    scene.worker = Worker::run(&scene.stage.config, &["--grace", "1s"]);
    scene.worker.ready().await;
    let mut outcomes = scene.stage.client.outcomes().await;
    scene.ledger.ring("ios", 5, 60).await;
    scene.stage.pushes(5).await;
    assert_eq!(scene.worker.stop().await, 0);
    let log = scene.worker.log.text();
    assert!(
        log.contains("what is left goes back to the broker"),
        "{log}"
    );
    scene.stage.client.holds("ios", 5).await;
    assert!(outcomes.within(Duration::from_millis(300)).await.is_none());
    scene.play("slow");
    scene.worker = scene.stage.worker().await;
    let books = scene.books().await;
    books.balance(false);
    let twice = books.all_accepted(&scene.stage.simulator);
    assert_eq!(twice, 0, "the first attempts were never accepted");
    scene.end().await;
}

/// A second signal does not wait for anything.
#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut scene = Scene::playing("hangs").await;
    scene.ledger.ring("ios", 5, 20).await;
    assert!(scene.stage.simulator.record().wait_for(5, PATIENCE).await);
    scene.worker.signal("TERM");
    scene.worker.logs("no more messages are taken").await;
    let begun = std::time::Instant::now();
    assert_eq!(scene.worker.stop().await, 1);
    assert!(begun.elapsed() < Duration::from_secs(3));
    scene.play("slow");
    scene.worker = scene.stage.worker().await;
    let books = scene.books().await;
    books.balance(false);
    books.all_accepted(&scene.stage.simulator);
    scene.end().await;
}

/// Every dead token is reported, to the queue where token events wait, and
/// nobody else's token.
#[tokio::test]
async fn dead_tokens_are_reported_and_no_others() {
    let mut scene = Scene::playing("dead-some").await;
    let ring = |platform, prefix| Ring::new(platform, Duration::from_secs(15), prefix);
    // Few enough to leave the brake off.
    let all: Vec<_> = (0..60)
        .map(|n| match n % 20 {
            0 => ring("ios", "dead"),
            1 => ring("android", "dead"),
            n if n % 2 == 0 => ring("ios", ""),
            _ => ring("android", ""),
        })
        .collect();
    scene.ledger.publish(all).await;
    let books = scene.books().await;
    books.balance(false);
    let expected = [("accepted".to_owned(), 54), ("dead_token".to_owned(), 6)];
    assert_eq!(books.results(), expected.into(), "{:#?}", books.trouble());
    for event in books.of("token") {
        assert_eq!(event["verdict"], "dead");
        assert!(
            event["token"]
                .as_str()
                .expect("a token")
                .starts_with("dead")
        );
    }
    assert_eq!(books.of("token").count(), 6);
    scene.stage.client.holds("tokens", 6).await;
    scene.end().await;
}

/// What `ringpush simulate --script` reads is what these tests play.
#[test]
fn every_script_can_be_played() {
    let files = std::fs::read_dir(folder()).expect("the folder");
    let mut count = 0;
    for file in files {
        let path = file.expect("an entry").path();
        let script = Script::from_file(&path).unwrap_or_else(|error| panic!("{error}"));
        assert!(!script.rules.is_empty(), "{}", path.display());
        count += 1;
    }
    assert!(count >= 15, "{count}");
}
