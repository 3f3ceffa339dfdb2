//! What the status page shows and what it never shows.

use std::time::{Duration, Instant};

use serde_json::json;

use super::rig::{ANDROID_TOKEN, CALLER, IOS_TOKEN, Worker, android, ios, ring};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_has_done_nothing_says_so() {
    let worker = Worker::start("", "info").await;
    let page = worker.page("/");
    for wanted in [
        "No push yet.",
        "events come from standard input",
        "com.example.calls",
        "iOS production",
        "iOS sandbox",
        "key FGHIJ67890",
        "access token, 59 min left",
        "2 of 2 ready",
        "no ring yet",
    ] {
        assert!(page.contains(wanted), "{wanted} is not in:\n{page}");
    }
    assert!(
        worker
            .page("/?show=failed")
            .contains("Everything was delivered.")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_is_shown_with_its_timeline_and_found_by_its_call() {
    let script =
        "[[rule]]\nserver = \"apns\"\nsteps = [{ status = 503, reason = \"ServiceUnavailable\" }]";
    let mut worker = Worker::start(script, "info").await;
    worker.send(&ring("room & 42", &[ios("bob-iphone")]), 1);
    for path in ["/", "/?call_id=room+%26+42"] {
        let page = worker.page(path);
        for wanted in [
            "room &amp; 42",
            "bob-iphone",
            "token …cf21",
            "deadline",
            "503 ServiceUnavailable",
            "waited",
            "accepted",
            "2 attempts",
        ] {
            assert!(page.contains(wanted), "{wanted} is not in {path}:\n{page}");
        }
    }
    let nobody = worker.page("/?call_id=room");
    assert!(nobody.contains("This worker remembers no push of this call."));
    assert!(!nobody.contains("bob-iphone"));
}

/// Ids come from producers, reasons from providers: none of it is markup.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_others_wrote_is_markup() {
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>";
    let script = format!(
        "[[rule]]\nserver = \"apns\"\nthen = {{ status = 400, reason = {} }}",
        json!(evil)
    );
    let mut worker = Worker::start(&script, "info").await;
    let mut bad = ios(&format!("{evil}-2"));
    bad["app"] = json!(evil);
    worker.send(&ring(evil, &[ios(evil), bad]), 2);
    let query =
        "/?call_id=%3Cscript%3Ealert(1)%3C/script%3E%22'%3E%3Cimg%20src=x%20onerror=alert(1)%3E";
    for path in ["/", "/?show=failed", query] {
        let page = worker.page(path);
        assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
        assert!(!page.contains("<script>alert"), "{page}");
        assert!(!page.contains("<img"), "{page}");
        assert_eq!(page.matches("<script").count(), 1, "only its own");
        // Nothing leaves an attribute either: the quotes are escaped.
        assert!(!page.contains("\"'>"), "{page}");
    }
    assert!(worker.page(query).contains("unknown_app"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_shows_a_token_or_a_name() {
    let script = "[[rule]]\nserver = \"fcm\"\nthen = { status = 404, reason = \"UNREGISTERED\" }";
    let mut worker = Worker::start(script, "trace").await;
    worker.send(&ring("room", &[ios("i"), android("a")]), 2);
    let mut seen = String::new();
    for path in [
        "/",
        "/?show=failed",
        "/?call_id=room",
        "/trace?call_id=room",
        "/metrics",
        "/readyz",
    ] {
        seen.push_str(&worker.page(path));
    }
    worker.end();
    for line in &*worker.log.lock().unwrap() {
        seen.push_str(&line.to_string());
    }
    assert!(seen.contains("…cf21") && seen.contains("dead token"));
    for secret in [IOS_TOKEN, ANDROID_TOKEN, CALLER] {
        // Nor any longer part of one.
        assert!(!seen.contains(&secret[secret.len() - 8..]), "{secret}");
        assert!(!seen.contains(&secret[..10]), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_only_answers_questions_and_runs_nothing_foreign() {
    let worker = Worker::start("", "info").await;
    for path in ["/", "/trace?call_id=x", "/metrics", "/page.js", "/page.css"] {
        let answer = worker.ask("GET", path);
        for header in [
            "content-security-policy: default-src 'none'",
            "cache-control: no-store",
            "x-content-type-options: nosniff",
        ] {
            assert!(answer.head.contains(header), "{path}: {}", answer.head);
        }
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(worker.ask(method, path).status, 405, "{method} {path}");
        }
    }
    assert_eq!(worker.ask("GET", "/nothing").status, 404);
    // It works without internet: nothing on it is from elsewhere.
    for path in ["/", "/page.js", "/page.css"] {
        let text = worker.page(path);
        assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("url("));
    }
    // And the policy would not let anything inline run.
    let page = worker.page("/");
    assert!(!page.contains("style=") && !page.contains("onclick") && !page.contains("<style"));
}

/// Prometheus gets `OpenMetrics`, whoever does not ask for it the older format.
/// What counts is there before the first ring: of a series that begins with its
/// first fault no alert would see an increase.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_there_from_the_start_in_the_format_asked_for() {
    let worker = Worker::start("", "info").await;
    let zero = r#"ringpush_pushes_total{app="com.example.calls",platform="android",event="ring",result="credential_fault"} 0"#;
    let plain = worker.ask("GET", "/metrics");
    assert!(
        plain.head.contains("text/plain; version=0.0.4"),
        "{}",
        plain.head
    );
    let open = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let open = worker.ask_for("GET", "/metrics", open);
    assert!(
        open.head
            .contains("application/openmetrics-text; version=1.0.0"),
        "{}",
        open.head
    );
    assert!(open.body.ends_with("# EOF\n") && !plain.body.contains("# EOF"));
    for (answer, kind) in [
        (&plain, "# TYPE ringpush_pushes_total counter"),
        (&open, "# TYPE ringpush_pushes counter"),
    ] {
        for wanted in [zero, kind] {
            let there = answer.body.lines().any(|line| line == wanted);
            assert!(there, "{wanted} is not in:\n{}", answer.body);
        }
    }
}

/// However much has gone through, the page stays as long as it is, and the
/// history as large.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_rings_do_not_make_the_page_longer() {
    let mut worker = Worker::start("", "info").await;
    for n in 0..120 {
        let phone = |d| {
            let mut phone = ios(&format!("phone-{n}-{d}"));
            phone["token"] = format!("{d:064x}").into();
            phone
        };
        let devices: Vec<_> = (0..100).map(phone).collect();
        worker.hand_over(&ring(&format!("call-{n}"), &devices));
    }
    worker.outcomes(12_000);
    let began = Instant::now();
    let page = worker.page("/");
    let took = began.elapsed();
    assert!(
        page.contains("remembers 10000 of at most 10000 pushes"),
        "{page}"
    );
    assert!(page.contains("12000 since the start"), "{page}");
    assert!(page.contains("last 10000 rings"), "{page}");
    assert_eq!(page.matches("<details").count(), 40);
    assert!(page.len() < 150_000, "{} bytes", page.len());
    assert!(took < Duration::from_secs(5), "{took:?}");
    let first = worker.ask("GET", "/trace?call_id=call-0");
    assert_eq!(first.status, 404, "long forgotten");
    let last = worker.page("/?call_id=call-119");
    assert_eq!(last.matches("<details").count(), 100);
}
