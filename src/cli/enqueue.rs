//! `ringpush enqueue`: publishes events as a signaling service would.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::fresh::freshen;
use super::{ConfigArgs, DONE, FAILED};
use crate::amqp::producer::{Producer, Summary};
use crate::amqp::reader::{Outcome, OutcomeReader, Wanted};
use crate::call::event::{Event, EventKind, Limits};
use crate::call::outcome::TraceContext;
use crate::config::Config;

/// Publishes events as a signaling service would.
///
/// Publishes nothing, and ends with 1, if a file holds no event or one that
/// breaks a rule.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ringpush enqueue --config ringpush.toml ring.json --fresh --wait\n  \
                        some-program | ringpush enqueue --config ringpush.toml -"
)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Files with one event each, or JSON lines (.jsonl); `-` reads JSON lines
    /// from standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Shows the outcomes as they come, until every device has one.
    #[arg(long)]
    wait: bool,
    /// How long --wait waits at most.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Moves the events' times so that the latest was sent just now, and
    /// gives each a new `event_id`: for examples from files.
    #[arg(long)]
    fresh: bool,
    /// Publishes also what is no event or breaks a rule: to try the dead queue.
    #[arg(long, conflicts_with = "fresh")]
    raw: bool,
}

/// Publishes, and waits if asked to.
///
/// # Errors
/// A file cannot be read or holds what is no event, or the broker cannot be used.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let config = Config::load(&args.config.config)?;
    let (places, mut bodies) = read_all(&args)?;
    if args.fresh {
        bodies = freshen(&bodies)?;
    }
    let events = decoded(&places, &bodies, config.ring.limits())?;
    if !args.raw && events.len() < bodies.len() {
        anyhow::bail!("nothing is published; --raw publishes what is no event all the same");
    }
    let mut reader = if args.wait {
        Some(OutcomeReader::open(&config.amqp).await?)
    } else {
        None
    };
    let mut producer = Producer::connect(&config.amqp).await?;
    let mut wanted = Wanted::default();
    let open = events.iter().flat_map(expected).collect();
    for body in bodies {
        let summary = producer.send(body, &TraceContext::default()).await?;
        wanted.add(&summary);
        say(&summary)?;
    }
    producer.flush().await?;
    producer.close().await;
    let Some(reader) = &mut reader else {
        return Ok(DONE);
    };
    let done = show(reader, &wanted, open, Instant::now() + args.timeout).await?;
    Ok(if done { DONE } else { FAILED })
}

/// What is to be published, behind where it stands.
fn read_all(args: &Args) -> anyhow::Result<(Vec<String>, Vec<Vec<u8>>)> {
    let mut all = Vec::new();
    for file in &args.files {
        let read = read(file)?;
        anyhow::ensure!(!read.is_empty(), "{}: holds no event", file.display());
        all.extend(read);
    }
    Ok(all.into_iter().unzip())
}

fn read(file: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let standard_input = file.as_os_str() == "-";
    let (place, text) = if standard_input {
        let mut text = Vec::new();
        let input = std::io::stdin().lock().read_to_end(&mut text);
        input.context("standard input")?;
        ("standard input".to_owned(), text)
    } else {
        let place = file.display().to_string();
        let text = crate::files::read(file);
        let text = text.with_context(|| format!("{place}: name an existing event file"))?;
        (place, text)
    };
    if !standard_input && file.extension().is_none_or(|end| end != "jsonl") {
        return Ok(vec![(place, text)]);
    }
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    Ok((1..)
        .zip(lines)
        .filter(|(_, line)| !line.is_empty())
        .map(|(number, line): (usize, _)| (format!("{place}, line {number}"), line.to_vec()))
        .collect())
}

/// The bodies that are events. Says what a worker will make of all that is not
/// as it should be.
fn decoded(places: &[String], bodies: &[Vec<u8>], limits: Limits) -> std::io::Result<Vec<Event>> {
    let mut out = std::io::stderr().lock();
    let mut events = Vec::new();
    for (place, body) in places.iter().zip(bodies) {
        let event = match Event::decode(body, limits) {
            Ok(event) => event,
            Err(error) => {
                writeln!(out, "{place}: not an event ({error}): for the dead queue")?;
                continue;
            }
        };
        if let Some(ignored) = &event.ignored {
            writeln!(out, "{place}: {ignored}")?;
        }
        for entry in event.devices() {
            match &entry.device {
                Ok(device) if device.ignored != event.ignored => {
                    let ignored = device.ignored.as_deref().unwrap_or_default();
                    writeln!(out, "{place}: {}: {ignored}", device.id)?;
                }
                Ok(_) => {}
                Err(bad) => writeln!(out, "{place}: rejected, {}: {}", bad.reason, bad.error)?,
            }
        }
        events.push(event);
    }
    Ok(events)
}

/// The pushes that an event's outcomes will speak of: event and device.
fn expected(event: &Event) -> Vec<(String, String)> {
    // What a cancel is pushed to depends on what rang.
    if event.kind() != EventKind::Ring {
        return Vec::new();
    }
    let ids = event
        .devices()
        .iter()
        .filter_map(|entry| match &entry.device {
            Ok(device) => Some(&device.id),
            Err(bad) => bad.id.as_ref(),
        });
    ids.map(|id| (event.event_id.to_string(), id.to_string()))
        .collect()
}

fn say(summary: &Summary) -> std::io::Result<()> {
    let call = summary.call_id.as_deref().unwrap_or("-");
    let (key, devices) = (summary.key, summary.devices);
    writeln!(
        std::io::stderr(),
        "published {key} call {call}, {devices} device(s)"
    )
}

/// Prints reports until every expected push has its outcome, and those that
/// come right behind the last one. `false` if time was up first.
async fn show(
    reader: &mut OutcomeReader,
    wanted: &Wanted,
    mut open: HashSet<(String, String)>,
    until: Instant,
) -> anyhow::Result<bool> {
    let mut limit = if open.is_empty() {
        Instant::now() + LINGER
    } else {
        until
    };
    while let Ok(outcome) = timeout_at(limit.min(until), reader.next(wanted)).await {
        let Outcome { key, mut body } = outcome?;
        let text = |field: &str| body[field].as_str().unwrap_or_default().to_lowercase();
        let device = body["device_id"].as_str().unwrap_or_default().to_owned();
        let was_open = !open.is_empty();
        if body["type"] == "push" {
            open.remove(&(text("event_id"), device));
        }
        if let Some(Value::String(token)) = body.get_mut("token") {
            *token = crate::call::secret::Secret::from(token.as_str()).shortened();
        }
        writeln!(std::io::stdout().lock(), "{key} {body}")?;
        if was_open && open.is_empty() {
            limit = Instant::now() + LINGER;
        }
    }
    if !open.is_empty() {
        let left = open.len();
        writeln!(
            std::io::stderr(),
            "{left} push(es) without an outcome; is a worker running on this broker and prefix?"
        )?;
    }
    Ok(open.is_empty())
}

/// Token events and `call.unreachable` come right behind the last outcome.
const LINGER: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_of_a_ring_is_waited_for_and_none_of_a_cancel() {
        let event = |kind: &str| {
            let body = serde_json::json!({
                "v": 1, "event": kind, "event_id": "0D5C1F7E-3C55-4F0E-9A10-6A3F0A7BE001",
                "call_id": "c", "sent_at": "2026-09-21T14:13:20Z", "caller": {"id": "u"},
                "devices": [
                    {"id": "x", "platform": "android", "app": "a", "token": "t"},
                    {"id": "y"},
                    {},
                ],
            });
            let limits = crate::engine::settings::RingSettings::default().limits();
            Event::decode(body.to_string().as_bytes(), limits).unwrap()
        };
        let id = "0d5c1f7e-3c55-4f0e-9a10-6a3f0a7be001";
        let pair = |device: &str| (id.to_owned(), device.to_owned());
        assert_eq!(expected(&event("ring")), [pair("x"), pair("y")]);
        assert!(expected(&event("cancel")).is_empty());
    }
}
