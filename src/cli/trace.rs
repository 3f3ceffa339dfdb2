//! `ringpush trace`: what happened to a call on a running worker.

use std::io::Write;
use std::time::Duration;

use anyhow::Context as _;

use super::{ConfigArgs, DONE, FAILED, admin_client};
use crate::admin::encoded;
use crate::admin::story::{tell, tone, words};
use crate::admin::trace::{PushTrace, Trace, TraceError, UNKNOWN_CALL};
use crate::config::Config;
use crate::telemetry::in_color;

/// What happened to a call on a running worker: when it was taken from its
/// queue, each attempt, and how it ended, phone by phone.
///
/// Asks the worker at `admin.listen`, which remembers its last 10 000 pushes.
/// Ends with 1 if it does not know the call or if no worker answers there, and
/// says which of the two it was.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ringpush trace room-42 --config /etc/ringpush/ringpush.toml\n  \
                        ringpush trace room-42 --json | jq '.pushes[].outcome.result'"
)]
pub struct Args {
    /// The call's id, as its events have it; one that looks like an option
    /// behind `--`.
    #[arg(allow_hyphen_values = true)]
    call_id: String,
    #[command(flatten)]
    config: ConfigArgs,
    /// The worker's answer as JSON.
    #[arg(long)]
    json: bool,
    /// How long the answer may take.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Asks once and prints the answer.
///
/// # Errors
/// The configuration cannot be read, no worker answers, or the worker does not
/// know the call.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let config = Config::load(&args.config.config)?;
    let listen = config.admin.listen;
    let path = format!("/trace?call_id={}", encoded(&args.call_id));
    let (status, body) = admin_client::get(listen, &path, args.timeout).await?;
    let mut out = std::io::stdout().lock();
    if status.is_success() {
        let trace: Trace = serde_json::from_str(&body).with_context(|| stranger(listen))?;
        if args.json {
            writeln!(out, "{body}")?;
        } else {
            print(&mut out, &trace, in_color(&std::io::stdout()))?;
        }
        return Ok(DONE);
    }
    let error: TraceError = serde_json::from_str(&body).with_context(|| stranger(listen))?;
    if args.json {
        writeln!(out, "{body}")?;
    }
    let what = if error.error == UNKNOWN_CALL {
        "unknown call"
    } else {
        "the worker refused the question"
    };
    let id = plain(&args.call_id);
    writeln!(std::io::stderr(), "ringpush: {what} {id}: {}", error.detail)?;
    Ok(FAILED)
}

fn stranger(listen: std::net::SocketAddr) -> String {
    format!("what answers at admin.listen ({listen}) is no worker, or one of another version")
}

fn print(out: &mut impl Write, trace: &Trace, color: bool) -> std::io::Result<()> {
    let paint = |text: &str, tone: &str| match (color, tone) {
        (true, "good") => format!("\x1b[32m{text}\x1b[0m"),
        (true, "warn") => format!("\x1b[33m{text}\x1b[0m"),
        (true, "bad") => format!("\x1b[31m{text}\x1b[0m"),
        (true, "faint") => format!("\x1b[2m{text}\x1b[0m"),
        _ => text.to_owned(),
    };
    let phones = trace.pushes.len();
    let s = if phones == 1 { "" } else { "es" };
    writeln!(out, "call {}: {phones} push{s}", plain(&trace.call_id))?;
    // The oldest first: a story is read from its begin.
    for push in trace.pushes.iter().rev() {
        let result = push.outcome.as_ref().map_or(&push.state, |end| &end.result);
        let result = paint(&words(result), tone(push));
        writeln!(out, "\n{}  {result}", heading(push))?;
        for line in tell(push) {
            let what = paint(&plain(&line.what), line.tone);
            writeln!(out, "  {:>9}  {what}", short(&line.when))?;
            for more in line.more {
                writeln!(out, "  {:>9}  {}", "", paint(&plain(&more), "faint"))?;
            }
        }
    }
    Ok(())
}

fn heading(push: &PushTrace) -> String {
    let device = push.device_id.as_deref().unwrap_or("unknown device");
    let mut text = format!("{} to {} ({}", push.event, plain(device), push.platform);
    for part in [&push.app, &push.token].into_iter().flatten() {
        text.push_str(", ");
        text.push_str(&plain(part));
    }
    text.push(')');
    text
}

/// Of a time of day what fits the column; the day is in the JSON.
fn short(when: &str) -> &str {
    when.split_once('T')
        .and_then(|(_, time)| time.get(..8))
        .unwrap_or(when)
}

/// What producers and providers wrote must not steer a terminal.
fn plain(text: &str) -> String {
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_escape_sequence_reaches_the_terminal() {
        let trace: Trace = serde_json::from_value(serde_json::json!({
            "v": 1, "call_id": "\u{1b}[2Jx", "pushes": [{
                "number": 0, "event": "ring", "event_id": "e", "call_id": "\u{1b}[2Jx",
                "device_id": "\u{7}phone", "app": "app", "platform": "ios", "token": "…6789",
                "trace_id": null, "sent_at": "2026-09-21T14:13:20.000Z",
                "taken_at": "2026-09-21T14:13:20.003Z", "queue_ms": 3,
                "expires_at": "2026-09-21T14:14:05.000Z", "state": "final", "attempts": [],
                "left_out": 0, "outcome": {
                    "at": "2026-09-21T14:13:20.003Z", "result": "rejected",
                    "reason": "\u{9b}31m", "detail": null, "provider_id": null,
                    "environment": null, "attempts": 0, "push_ms": 0
                }
            }]
        }))
        .unwrap();
        let mut out = Vec::new();
        print(&mut out, &trace, false).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.chars().all(|c| c == '\n' || !c.is_control()),
            "{text:?}"
        );
        assert!(
            text.contains("ring to \u{fffd}phone (ios, app, …6789)  rejected"),
            "{text}"
        );
        assert!(text.contains(" 14:13:20  ring sent"), "{text}");
    }
}
