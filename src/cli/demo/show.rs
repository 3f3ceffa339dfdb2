//! How the demo is told: as text or as JSON lines.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::call::event::Platform;
use crate::call::outcome::{PushOutcome, PushResult};
use crate::cli::screen::Screen;
use crate::simulator::{Record, ServerKind};

/// What became of a push, and every request that was made for it.
pub(super) struct Phone {
    pub(super) outcome: PushOutcome,
    pub(super) requests: Vec<Arc<Record>>,
}

/// How it is told.
pub(super) struct Show {
    pub(super) json: bool,
    pub(super) output: Screen,
}

impl Show {
    pub(super) fn opening(&mut self, took: Duration) -> std::io::Result<()> {
        if self.json {
            return Ok(());
        }
        writeln!(
            self.output,
            "ringpush demo: example calls through the worker's own code, to simulators of\n\
             APNs and FCM on loopback (TLS, HTTP/2, signatures; up in {} ms)\n",
            took.as_millis()
        )
    }

    pub(super) fn call(&mut self, title: &str, phones: &[Phone]) -> std::io::Result<()> {
        if !self.json {
            writeln!(self.output, "{title}")?;
            if phones.is_empty() {
                writeln!(
                    self.output,
                    "  nothing is sent: the worker keeps it for rings to come"
                )?;
            }
        }
        for phone in phones {
            if self.json {
                writeln!(self.output, "{}", as_json(title, phone))?;
            } else {
                self.phone(phone)?;
            }
        }
        if self.json {
            Ok(())
        } else {
            writeln!(self.output)
        }
    }

    fn phone(&mut self, phone: &Phone) -> std::io::Result<()> {
        let outcome = &phone.outcome;
        let (color, word) = in_words(outcome.result);
        let word = self.output.styled(color, &format!("{word:<13}"));
        let device = outcome.device_id.as_deref().unwrap_or("-");
        let platform = name(outcome.platform);
        let after = match outcome.push_ms {
            0 => "under 1 ms".to_owned(),
            ms => format!("after {ms} ms"),
        };
        writeln!(self.output, "  {device:<17} {platform:<8} {word} {after}")?;
        if let Some(request) = phone.requests.first() {
            writeln!(self.output, "    sent      {}", sent(request))?;
        } else {
            let reason = outcome.reason.as_deref().unwrap_or("-");
            writeln!(self.output, "    not sent  {reason}")?;
        }
        for request in &phone.requests {
            writeln!(self.output, "    answered  {}", answered(request))?;
        }
        Ok(())
    }

    pub(super) fn closing(
        &mut self,
        results: &[PushResult],
        took: Duration,
    ) -> std::io::Result<()> {
        if self.json {
            return Ok(());
        }
        let count = |wanted| results.iter().filter(|result| **result == wanted).count();
        writeln!(
            self.output,
            "{} pushes: {} ring, {} dead tokens reported, {} cancelled in time, {} too late.\n\
             {:.1} s. Next: README.md, or `ringpush simulate` to send your own.",
            results.len(),
            count(PushResult::Accepted),
            count(PushResult::DeadToken),
            count(PushResult::Cancelled),
            count(PushResult::Expired),
            took.as_secs_f32()
        )
    }
}

/// ANSI color and words.
const fn in_words(result: PushResult) -> (&'static str, &'static str) {
    match result {
        PushResult::Accepted => ("32", "RINGS"),
        PushResult::DeadToken => ("31", "dead token"),
        PushResult::SuspectToken => ("33", "suspect token"),
        PushResult::Rejected => ("31", "rejected"),
        PushResult::CredentialFault => ("31", "wrong key"),
        PushResult::Expired => ("33", "too late"),
        PushResult::Cancelled => ("36", "cancelled"),
    }
}

const fn name(platform: Platform) -> &'static str {
    match platform {
        Platform::Ios => "iOS",
        Platform::Android => "Android",
        Platform::Unknown => "unknown",
    }
}

/// A request in a line.
fn sent(request: &Record) -> String {
    let bytes = request.body.len();
    match request.server {
        ServerKind::ApnsProduction | ServerKind::ApnsSandbox => {
            let header = |name| request.header(name).unwrap_or("-");
            let (kind, topic) = (header("apns-push-type"), header("apns-topic"));
            let priority = header("apns-priority");
            format!("{kind} push, {topic}, priority {priority}, {bytes} bytes")
        }
        ServerKind::Fcm | ServerKind::Oauth => {
            let body = request.json().unwrap_or_default();
            let android = &body["message"]["android"];
            let text = |key: &str| android[key].as_str().unwrap_or("-").to_owned();
            format!(
                "data message, priority {}, ttl {}, {bytes} bytes",
                text("priority"),
                text("ttl")
            )
        }
    }
}

/// An answer in a line.
fn answered(request: &Record) -> String {
    let answer = &request.answer;
    let status = answer
        .status
        .map_or_else(|| "nothing".to_owned(), |status| status.to_string());
    match &answer.reason {
        Some(reason) => format!("{status} {reason}"),
        None => status,
    }
}

fn as_json(title: &str, phone: &Phone) -> Value {
    let outcome = &phone.outcome;
    json!({
        "example": title,
        "call_id": outcome.call_id,
        "device_id": outcome.device_id,
        "platform": outcome.platform,
        "sent": phone.requests.first().map(|request| sent(request)),
        "answers": phone.requests.iter().map(|request| answered(request)).collect::<Vec<_>>(),
        "result": outcome.result,
        "reason": outcome.reason,
        "attempts": outcome.attempts,
        "push_ms": outcome.push_ms,
    })
}
