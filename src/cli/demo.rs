//! `ringpush demo`: the main job without accounts and without a broker.

mod show;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use serde_json::Value;
use tokio::sync::mpsc;

use self::show::{Phone, Show};
use super::fresh::moved;
use super::screen::Screen;
use super::{DONE, FAILED};
use crate::app::{App, Line, LineOutcomes};
use crate::call::event::PartNumber;
use crate::call::outcome::{PushOutcome, Report, ReportBody};
use crate::call::time::Timestamp;
use crate::config::Config;
use crate::engine::deadline::wall_clock;
use crate::engine::delivery::{Delivery, Source, Verdict};
use crate::engine::dispatch::handle_whole;
use crate::metrics::Metrics;
use crate::simulator::{Options, Record, Script, Simulator};

/// Everything in one process: example calls, the worker's own code, and
/// simulators of Apple's and Google's services. No accounts, no broker.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  ringpush demo\n  ringpush demo --json | jq .result")]
pub struct Args {
    /// One JSON object per phone instead of text.
    #[arg(long)]
    json: bool,
}

/// The moment that the example events are written for.
const EXAMPLES_AT: &str = "2026-09-21T14:13:20Z";

/// Title and event, in the order in which they are sent.
const EVENTS: [(&str, &str); 8] = [
    (
        "A video call on the Amazon Chime SDK",
        include_str!("../../fixtures/events/01-chime-video.json"),
    ),
    (
        "An audio call of a CometChat app",
        include_str!("../../fixtures/events/02-cometchat-audio.json"),
    ),
    (
        "Every phone of one person",
        include_str!("../../fixtures/events/03-every-device-of-one-person.json"),
    ),
    (
        "Two of four tokens are dead",
        include_str!("../../fixtures/events/04-dead-token.json"),
    ),
    (
        "The provider stumbles once",
        include_str!("../../fixtures/events/05-provider-stumbles-once.json"),
    ),
    (
        "The caller hangs up before the ring comes",
        include_str!("../../fixtures/events/06-cancelled-before-it-rang.cancel.json"),
    ),
    (
        "... and here is that ring",
        include_str!("../../fixtures/events/07-cancelled-before-it-rang.ring.json"),
    ),
    (
        "A ring that came too late",
        include_str!("../../fixtures/events/08-too-late.json"),
    ),
];

/// What the simulators do with tokens that begin in a certain way.
const SCRIPT: &str = r#"
[[rule]]
server = "apns"
token_prefix = "dead"
then = { status = 410, reason = "Unregistered" }

[[rule]]
server = "fcm"
token_prefix = "dead"
then = { status = 404, reason = "UNREGISTERED" }

[[rule]]
server = "apns"
token_prefix = "503"
steps = [{ status = 503, reason = "ServiceUnavailable" }]

[[rule]]
server = "fcm"
token_prefix = "503"
steps = [{ status = 503, reason = "UNAVAILABLE" }]
"#;

/// Plays all events and ends.
///
/// # Errors
/// The simulators cannot be started.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let started = Instant::now();
    let stage = Stage::build().await?;
    let mut show = Show {
        json: args.json,
        output: Screen::stdout(),
    };
    show.opening(started.elapsed())?;
    let mut all_as_expected = true;
    let mut results = Vec::new();
    for (title, event) in EVENTS {
        let phones = stage.play(event).await?;
        show.call(title, &phones)?;
        all_as_expected &= !phones.is_empty() || event.contains("\"cancel\"");
        results.extend(phones.iter().map(|phone| phone.outcome.result));
    }
    show.closing(&results, started.elapsed())?;
    stage.app.close().await;
    Ok(if all_as_expected { DONE } else { FAILED })
}

/// Simulators and a worker that sends to them.
struct Stage {
    simulator: Simulator,
    app: Arc<App>,
    reports: tokio::sync::Mutex<mpsc::UnboundedReceiver<Line>>,
    // Keys are in here; it goes with the demo.
    _dir: tempfile::TempDir,
}

impl Stage {
    async fn build() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("no temporary folder for the keys")?;
        let script = Script::from_toml(SCRIPT)?;
        let simulator = Simulator::start(Options {
            script,
            ..Options::default()
        })
        .await?;
        let files = simulator.write_files(dir.path())?;
        let config = load(&files.config)?;
        let (outcomes, reports) = LineOutcomes::channel();
        let app = App::new(config, Arc::new(outcomes), Metrics::default())?;
        app.warm().await;
        Ok(Self {
            simulator,
            app,
            reports: tokio::sync::Mutex::new(reports),
            _dir: dir,
        })
    }

    /// Sends one event through the worker and gathers what came of it.
    async fn play(&self, event: &str) -> anyhow::Result<Vec<Phone>> {
        let written = Timestamp::parse(EXAMPLES_AT).map_or(0, Timestamp::millis);
        let event = moved(
            serde_json::from_str(event)?,
            wall_clock().millis() - written,
        );
        let delivery = Delivery {
            body: event.to_string().into(),
            source: Source::Calls,
            part: PartNumber::WHOLE,
            trace: Arc::default(),
        };
        let mut reports = self.reports.lock().await;
        let handling = handle_whole(self.app.dispatcher(), delivery);
        tokio::pin!(handling);
        let mut outcomes = Vec::new();
        loop {
            tokio::select! {
                biased;
                Some(line) = reports.recv() => outcomes.extend(taken(line)),
                verdict = &mut handling => {
                    if let Verdict::Dead(error) = verdict {
                        anyhow::bail!("an example event is broken: {error}");
                    }
                    break;
                }
            }
        }
        let mut phones: Vec<Phone> = outcomes
            .into_iter()
            .map(|outcome| Phone {
                requests: self.requests(&event, &outcome),
                outcome,
            })
            .collect();
        let devices = event["devices"].as_array().map(Vec::as_slice);
        let place = |phone: &Phone| {
            let id = phone.outcome.device_id.as_deref();
            devices?
                .iter()
                .position(|device| device["id"].as_str() == id)
        };
        phones.sort_by_key(place);
        Ok(phones)
    }

    /// What the simulators saw of a push.
    fn requests(&self, event: &Value, outcome: &PushOutcome) -> Vec<Arc<Record>> {
        let devices = event["devices"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let device = devices
            .iter()
            .find(|device| device["id"].as_str() == outcome.device_id.as_deref());
        let Some(token) = device.and_then(|device| device["token"].as_str()) else {
            return Vec::new();
        };
        let mut requests = self.simulator.record().pushes();
        requests.retain(|request| request.token.as_deref() == Some(token));
        requests
    }
}

/// What the environment says is meant for workers: nothing of it may send the
/// demo's pushes anywhere but to its simulators.
fn load(file: &Path) -> anyhow::Result<Config> {
    let text = crate::files::read_text(file)?;
    Ok(Config::parse_alone(&text, file)?)
}

/// Confirms a report and keeps it if it is about a push.
fn taken(line: Line) -> Option<PushOutcome> {
    let Line::Report(Report { body, .. }, receipt) = line else {
        return None;
    };
    // The worker waits for this before it is done with the event.
    receipt.safe();
    match body {
        ReportBody::Push(outcome) => Some(outcome),
        ReportBody::Token(_) | ReportBody::Unreachable(_) => None,
    }
}
