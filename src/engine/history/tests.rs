use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::trail::MAX_ATTEMPTS;
use super::*;
use crate::call::time::Timestamp;

fn subject(call_id: &str) -> Subject {
    Subject {
        event_id: Uuid::nil(),
        kind: EventKind::Ring,
        call_id: call_id.into(),
        device_id: Some("phone".into()),
        app: Some("app".into()),
        platform: Platform::Ios,
        token: Some("…6789".into()),
        sent_at: Timestamp::from_millis(1_000),
        taken_at: Timestamp::from_millis(1_010),
        deadline: Timestamp::from_millis(46_000),
        trace_id: None,
    }
}

fn attempt(reason: &str) -> Attempted {
    Attempted {
        at: Timestamp::from_millis(1_020),
        took: Duration::from_millis(7),
        class: "unavailable",
        reason: Some(reason.into()),
        status: Some(503),
        environment: "production",
        started: true,
        detail: None,
    }
}

fn outcome(result: PushResult) -> PushOutcome {
    PushOutcome {
        at: Timestamp::from_millis(1_100),
        event: EventKind::Ring,
        event_id: Uuid::nil(),
        call_id: "call".into(),
        device_id: None,
        app: None,
        platform: Platform::Ios,
        environment: None,
        result,
        reason: None,
        detail: None,
        provider_id: None,
        attempts: 1,
        queue_ms: 10,
        push_ms: 90,
    }
}

#[test]
fn a_push_is_seen_while_it_is_under_way_and_after_its_end() {
    let history = History::default();
    let trail = history.open(subject("call"));
    trail.attempt(attempt("ServiceUnavailable"));
    let seen = &history.last(10, Filter::Call("call"))[0];
    assert_eq!(seen.stage, Stage::UnderWay);
    assert_eq!(seen.attempts, [attempt("ServiceUnavailable")]);
    trail.end(&outcome(PushResult::Accepted));
    let seen = &history.last(10, Filter::Call("call"))[0];
    assert!(matches!(&seen.stage, Stage::Final(end) if end.push_ms == 90));
    assert_eq!(history.latencies().len(), 1);
    assert_eq!(history.rates(5).1.accepted, 1);
}

#[test]
fn a_push_that_was_dropped_was_left_to_the_broker() {
    let history = History::default();
    drop(history.open(subject("call")));
    assert_eq!(history.last(1, Filter::All)[0].stage, Stage::Left);
    assert_eq!(history.last(1, Filter::Failed).len(), 1);
}

#[test]
fn the_newest_come_first_and_only_the_wanted_ones() {
    let history = History::default();
    for (call, result) in [
        ("a", PushResult::Accepted),
        ("b", PushResult::Expired),
        ("c", PushResult::Cancelled),
        ("b", PushResult::Accepted),
    ] {
        history.open(subject(call)).end(&outcome(result));
    }
    let calls = |wanted| -> Vec<String> {
        let seen = history.last(3, wanted);
        seen.iter().map(|s| s.subject.call_id.to_string()).collect()
    };
    assert_eq!(calls(Filter::All), ["b", "c", "b"]);
    assert_eq!(calls(Filter::Failed), ["b"]);
    assert_eq!(calls(Filter::Call("a")), ["a"]);
    assert!(calls(Filter::Call("A")).is_empty());
}

#[test]
fn it_never_holds_more_pushes_than_its_bound() {
    let history = History::with(Capacity {
        pushes: 100,
        ..Capacity::default()
    });
    for _ in 0..1_000 {
        let trail = history.open(subject("call"));
        trail.attempt(attempt("x"));
        trail.end(&outcome(PushResult::Accepted));
    }
    assert_eq!(history.size(), (100, 1_000));
    assert_eq!(history.latencies().len(), 100);
    assert_eq!(history.last(1_000, Filter::All).len(), 100);
}

/// The bound holds although pushes grow after they came in, and everything is
/// given back: an estimate that drifts would empty the history in a week.
#[test]
fn bytes_stay_below_their_bound_and_do_not_drift() {
    let capacity = Capacity {
        pushes: 1_000,
        bytes: 100_000,
    };
    let history = History::with(capacity);
    let mut open = VecDeque::new();
    for n in 0..5_000 {
        let trail = history.open(subject(&format!("call-{n}")));
        trail.attempt(attempt(&"r".repeat(n % 90)));
        open.push_back(trail);
        if open.len() > 300
            && let Some(trail) = open.pop_front()
        {
            // Most of these have been pushed out by now.
            trail.attempt(attempt("late"));
            trail.end(&outcome(PushResult::Expired));
            assert!(history.bytes() <= capacity.bytes);
        }
    }
    open.clear();
    let held: usize = {
        let kept = history.lock();
        kept.pushes.iter().map(Seen::bytes).sum()
    };
    assert_eq!(history.bytes(), held);
    assert!(history.size().0 > 50, "there is room for some");
}

#[test]
fn of_many_attempts_the_first_and_the_last_are_kept() {
    let history = History::default();
    let trail = history.open(subject("call"));
    for n in 0..100 {
        trail.attempt(attempt(&n.to_string()));
    }
    let seen = &history.last(1, Filter::All)[0];
    let reasons: Vec<&str> = seen
        .attempts
        .iter()
        .filter_map(|attempt| attempt.reason.as_deref())
        .collect();
    assert_eq!(reasons.len(), MAX_ATTEMPTS);
    assert_eq!((reasons[0], reasons[7], reasons[8]), ("0", "7", "76"));
    assert_eq!((reasons[31], seen.left_out), ("99", 68));
}

#[test]
fn what_others_say_is_cut() {
    let history = History::default();
    let long: Arc<str> = "ü".repeat(10_000).into();
    let mut big = subject("call");
    big.device_id = Some(Arc::clone(&long));
    let trail = history.open(big);
    trail.attempt(attempt(&long));
    let mut end = outcome(PushResult::Rejected);
    end.reason = Some(long.to_string());
    end.detail = Some(long.to_string());
    trail.end(&end);
    assert!(history.bytes() < 5_000, "{}", history.bytes());
    let seen = &history.last(1, Filter::All)[0];
    let device = seen.subject.device_id.as_deref().unwrap();
    assert_eq!(device.chars().count(), LONGEST_WORD);
    assert!(device.ends_with('…'));
}
