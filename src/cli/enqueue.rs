//! `ringpush enqueue`: publishes events as a signaling service would.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::fresh::freshen;
use super::{ConfigArgs, DONE, FAILED};
use crate::amqp::producer::{Producer, Summary};
use crate::amqp::reader::{Outcome, OutcomeReader, Wanted};
use crate::call::event::Event;
use crate::call::outcome::TraceContext;
use crate::config::Config;

/// Publishes events as a signaling service would.
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
}

/// Publishes, and waits if asked to.
///
/// # Errors
/// A file cannot be read, or the broker cannot be used.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let config = Config::load(&args.config.config)?;
    let mut bodies = Vec::new();
    for file in &args.files {
        bodies.extend(read(file)?);
    }
    if args.fresh {
        bodies = freshen(&bodies)?;
    }
    let mut reader = if args.wait {
        Some(OutcomeReader::open(&config.amqp).await?)
    } else {
        None
    };
    let mut producer = Producer::connect(&config.amqp).await?;
    let mut wanted = Wanted::default();
    let mut open = HashSet::new();
    for body in bodies {
        if let Err(error) = Event::decode(&body, config.ring.limits()) {
            // Published all the same: it may be the dead queue that is tried.
            let dead = "a worker will put it into the dead queue";
            writeln!(std::io::stderr(), "not an event ({error}): {dead}")?;
        }
        open.extend(expected(&body));
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

/// The events of a file.
fn read(file: &PathBuf) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut text = Vec::new();
    let standard_input = file.as_os_str() == "-";
    if standard_input {
        std::io::stdin()
            .lock()
            .read_to_end(&mut text)
            .context("standard input")?;
    } else {
        text = crate::files::read(file)
            .with_context(|| format!("{}: name an existing event file", file.display()))?;
    }
    if standard_input
        || file
            .extension()
            .is_some_and(|extension| extension == "jsonl")
    {
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        return Ok(lines
            .filter(|line| !line.is_empty())
            .map(<[u8]>::to_vec)
            .collect());
    }
    Ok(vec![text])
}

/// The pushes that an event's outcomes will speak of: event and device.
fn expected(body: &[u8]) -> Vec<(String, String)> {
    let Ok(event) = serde_json::from_slice::<Value>(body) else {
        return Vec::new();
    };
    // What a cancel is pushed to depends on what rang.
    if event["event"] != "ring" {
        return Vec::new();
    }
    let event_id = event["event_id"]
        .as_str()
        .unwrap_or_default()
        .to_lowercase();
    let devices = event["devices"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let ids = devices.iter().filter_map(|device| device["id"].as_str());
    ids.map(|id| (event_id.clone(), id.to_owned())).collect()
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
        let ring = br#"{"event":"ring","event_id":"A1","devices":[{"id":"x"},{"id":"y"},{}]}"#;
        let pair = |device: &str| ("a1".to_owned(), device.to_owned());
        assert_eq!(expected(ring), [pair("x"), pair("y")]);
        assert!(expected(br#"{"event":"cancel","devices":[{"id":"x"}]}"#).is_empty());
        assert!(expected(b"not json").is_empty());
    }
}
