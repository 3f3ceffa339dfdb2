//! A push's timeline in words, the same on the status page and in the terminal.

use serde::Serialize;

use super::chart::span;
use super::trace::{AttemptTrace, PushTrace};

/// A shorter gap between two attempts is not worth a line.
const WORTH_TELLING_MS: u64 = 10;

/// One line of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TimelineEntry {
    /// When, counted from taking the event.
    pub when: String,
    /// What happened.
    pub what: String,
    /// More about it, for those who want to know.
    pub more: Vec<String>,
    /// `good`, `warn`, `bad` or `idle`.
    pub tone: &'static str,
}

impl TimelineEntry {
    fn new(when: String, what: impl Into<String>, tone: &'static str) -> Self {
        Self {
            when,
            what: what.into(),
            more: Vec::new(),
            tone,
        }
    }
}

/// What happened to a push, line by line.
#[must_use]
pub fn tell(push: &PushTrace) -> Vec<TimelineEntry> {
    let mut sent = TimelineEntry::new(push.sent_at.clone(), format!("{} sent", push.event), "idle");
    if let Some(trace) = &push.trace_id {
        sent.more.push(format!("trace {trace}"));
    }
    let queued = match push.queue_ms {
        0 => "taken at once".to_owned(),
        ms => format!("taken after {} in the queue", span(ms)),
    };
    let mut lines = vec![sent, TimelineEntry::new("+0 ms".to_owned(), queued, "idle")];
    let mut over = None;
    for (n, attempt) in push.attempts.iter().enumerate() {
        if let Some(over) = over {
            let gap = attempt.after_ms.saturating_sub(over);
            if push.left_out > 0 && n == push.attempts.len().min(8) {
                let text = format!("{} more attempts like these", push.left_out);
                lines.push(TimelineEntry::new(after(over), text, "idle"));
            } else if gap >= WORTH_TELLING_MS {
                lines.push(TimelineEntry::new(
                    after(over),
                    format!("waited {}", span(gap)),
                    "idle",
                ));
            }
        }
        over = Some(attempt.after_ms + attempt.ms);
        lines.push(told(attempt));
    }
    lines.push(end(push));
    lines
}

fn told(attempt: &AttemptTrace) -> TimelineEntry {
    let answer = match (attempt.status, &attempt.reason) {
        (Some(status), Some(reason)) => format!("{status} {reason}"),
        (Some(status), None) => status.to_string(),
        (None, Some(reason)) => reason.clone(),
        (None, None) => "no answer".to_owned(),
    };
    let whence = attempt.environment.as_deref().unwrap_or_default();
    let mut what = if attempt.started {
        format!("{answer} after {}", span(attempt.ms))
    } else {
        format!("nothing sent: {answer}")
    };
    if !whence.is_empty() {
        what = format!("{what} from {whence}");
    }
    let mut line = TimelineEntry::new(
        after(attempt.after_ms),
        what,
        super::chart::colour(&attempt.class),
    );
    if attempt.class != "accepted" {
        line.more.push(meaning(&attempt.class).to_owned());
    }
    line.more.extend(attempt.detail.clone());
    line
}

fn end(push: &PushTrace) -> TimelineEntry {
    let Some(end) = &push.outcome else {
        let what = match &*push.state {
            "left" => "left to the broker: the worker stopped before this was final",
            _ => "under way: waits for an answer, a permit or its next attempt",
        };
        return TimelineEntry::new("…".to_owned(), what, "warn");
    };
    let result = words(&end.result);
    let what = match &end.reason {
        Some(reason) => format!("{result}: {reason}"),
        None => result,
    };
    let mut line = TimelineEntry::new(after(end.push_ms), what, tone(push));
    line.more.extend(end.detail.clone());
    line.more
        .extend(end.provider_id.iter().map(|id| format!("id {id}")));
    line
}

/// A result's or class's name without its underscores.
#[must_use]
pub fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// How good a push's state is: `good`, `warn`, `bad` or `idle`.
#[must_use]
pub fn tone(push: &PushTrace) -> &'static str {
    match push.outcome.as_ref().map(|end| &*end.result) {
        Some("accepted") => "good",
        Some("cancelled") => "idle",
        Some(_) => "bad",
        None => "warn",
    }
}

fn after(ms: u64) -> String {
    format!("+{}", span(ms))
}

/// What a class of answers means, in plain words.
fn meaning(class: &str) -> &'static str {
    match class {
        "not_processed" => "certainly not processed: repeated",
        "unclear" => "it may have been processed: repeated with the same id",
        "unavailable" => "the provider has trouble: repeated after a pause",
        "throttled" => "the provider asks for fewer requests: repeated after a pause",
        "stale_credential" => "the credential was renewed: repeated once",
        "signing_throttled" => "too many new signatures: repeated with the same one",
        "no_credential" => "no access token could be had: repeated",
        "dead_token" => "the token is gone",
        "bad_token" => "the provider does not know this token in this environment",
        "suspect_token" => "something is wrong with this token",
        "credential_fault" => "key, certificate, topic or project are refused",
        "payload_fault" => "the payload was refused",
        "own_fault" => "a request that should never have been made",
        _ => "an answer that is in no table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::trace::OutcomeTrace;

    fn attempt(after_ms: u64, status: u16, class: &str) -> AttemptTrace {
        AttemptTrace {
            after_ms,
            ms: 12,
            class: class.to_owned(),
            reason: (status != 200).then(|| "ServiceUnavailable".to_owned()),
            status: Some(status),
            environment: Some("production".to_owned()),
            started: true,
            detail: None,
        }
    }

    pub(crate) fn push() -> PushTrace {
        PushTrace {
            number: 7,
            event: "ring".into(),
            event_id: "e".into(),
            call_id: "call".into(),
            device_id: Some("phone".into()),
            app: Some("app".into()),
            platform: "ios".into(),
            token: Some("…6789".into()),
            trace_id: None,
            sent_at: "2026-09-21T14:13:20.000Z".into(),
            taken_at: "2026-09-21T14:13:20.003Z".into(),
            queue_ms: 3,
            expires_at: "2026-09-21T14:14:05.000Z".into(),
            state: "final".into(),
            attempts: vec![
                attempt(1, 503, "unavailable"),
                attempt(220, 200, "accepted"),
            ],
            left_out: 0,
            outcome: Some(OutcomeTrace {
                at: "2026-09-21T14:13:20.235Z".into(),
                result: "accepted".into(),
                reason: None,
                detail: None,
                provider_id: Some("id-1".into()),
                environment: Some("production".into()),
                attempts: 2,
                push_ms: 232,
            }),
        }
    }

    #[test]
    fn a_push_is_told_from_the_queue_to_its_end() {
        let told: Vec<(String, String)> = tell(&push())
            .into_iter()
            .map(|line| (line.when, line.what))
            .collect();
        let wanted = [
            ("2026-09-21T14:13:20.000Z", "ring sent"),
            ("+0 ms", "taken after 3 ms in the queue"),
            (
                "+1 ms",
                "503 ServiceUnavailable after 12 ms from production",
            ),
            ("+13 ms", "waited 207 ms"),
            ("+220 ms", "200 after 12 ms from production"),
            ("+232 ms", "accepted"),
        ];
        let wanted = wanted.map(|(when, what)| (when.to_owned(), what.to_owned()));
        assert_eq!(told, wanted);
    }

    #[test]
    fn what_is_not_final_says_so() {
        let mut push = push();
        push.outcome = None;
        push.state = "under_way".into();
        assert_eq!(tone(&push), "warn");
        assert!(tell(&push).last().unwrap().what.starts_with("under way"));
        push.state = "left".into();
        assert!(tell(&push).last().unwrap().what.starts_with("left"));
    }

    #[test]
    fn attempts_that_were_not_kept_are_counted_where_they_were() {
        let mut push = push();
        push.attempts = vec![attempt(0, 503, "unavailable"); 32];
        push.left_out = 9;
        let lines = tell(&push);
        assert_eq!(lines[10].what, "9 more attempts like these");
    }

    /// A class that is added needs a sentence here.
    #[test]
    fn every_class_has_a_meaning_of_its_own() {
        use crate::call::push::Class;
        let all = [
            Class::NotProcessed,
            Class::Unclear,
            Class::Unavailable,
            Class::Throttled,
            Class::StaleCredential,
            Class::SigningThrottled,
            Class::NoCredential,
            Class::DeadToken,
            Class::BadToken,
            Class::SuspectToken,
            Class::CredentialFault,
            Class::PayloadFault,
            Class::OwnFault,
        ];
        for class in all {
            assert_ne!(meaning(class.name()), meaning("unknown"), "{class:?}");
        }
    }
}
