//! `ringpush bench`: load through the worker's own code or through a worker of
//! its own behind a broker, and a report of what it did.

mod args;
mod broker;
mod load;
mod paper;
mod pictures;
mod progress;
mod record;
mod report;
mod rings;
mod show;
mod simulated;
mod summary;
mod target;
mod usage;
mod worker;
mod worker_config;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::FAILED;
use super::screen::Screen;
use crate::engine::deadline::wall_clock;
use crate::shutdown::{Request, Signals};

pub use args::Args;

use load::Load;
use paper::Paper;
use record::Recorder;
use rings::Rings;
use simulated::Simulated;
use summary::{Run, Summary};
use target::Target;
use usage::Meter;
use worker::Worker;

/// Sends load and says what came of it.
///
/// # Errors
/// Arguments or configuration cannot be used, simulator, broker or worker do not
/// come up, a ring is broken, or nothing can be written where it should.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    args.check()?;
    // Before there is anything that a signal would leave behind.
    let mut signals = Signals::listen()?;
    let paper = if args.no_report {
        None
    } else {
        Some(Paper::at(&args.report)?)
    };
    let target = tokio::select! {
        target = Target::find(&args) => target?,
        () = stop_wanted(&mut signals) => return Ok(FAILED),
    };
    let measured = measure(&args, &target, &mut signals).await;
    let cleaned = if args.broker {
        broker::clean(&target.config.amqp).await
    } else {
        Ok(())
    };
    let run = match measured {
        Ok(Some(run)) => run,
        other => return other.and(cleaned).map(|()| FAILED),
    };
    let summary = Summary::of(&args, &target, &run);
    if let Some(simulator) = target.simulator {
        simulator.end().await;
    }
    let written = paper.map(|paper| {
        let page = report::page(&summary, &run.tally)?;
        paper.write(page.as_bytes())
    });
    // The numbers are not lost with a disk that is full.
    let written = written.transpose().context("the report was not written");
    let summary = summary.written_to(written.as_ref().ok().and_then(Option::as_deref));
    summary.show(&mut Screen::stdout(), args.json)?;
    written?;
    cleaned?;
    Ok(summary.exit)
}

/// Sends the load and watches it; none if it was to end at once. What was made for
/// it goes with whoever holds it, which the end of the process would not see to.
async fn measure(
    args: &Args,
    target: &Target,
    signals: &mut Signals,
) -> anyhow::Result<Option<Run>> {
    let rings = Rings::new(target, args)?;
    let recorder = Arc::new(Recorder::new(args.warm_up)?);
    let mut worker = tokio::select! {
        worker = Worker::start(args, target, &recorder) => worker?,
        () = stop_wanted(signals) => return Ok(None),
    };
    let entrance = worker.entrance.clone();
    let stop = CancellationToken::new();
    // Also if this ends before the load does.
    let _stopped = stop.clone().drop_guard();
    let simulator = target.simulator.as_ref();
    let mut meter = Meter::new(worker.pid(), simulator.and_then(Simulated::pid));
    recorder.start(Instant::now());
    let load = Arc::new(Load {
        entrance: entrance.clone(),
        rings,
        recorder: Arc::clone(&recorder),
        args: args.clone(),
        stop: stop.clone(),
        began: (recorder.began(), wall_clock()),
        next: AtomicU64::new(0),
    });
    let behind = tokio::select! {
        behind = load.drive() => behind?,
        never = progress::watch(args, &entrance, &recorder, &mut meter) => match never {},
        problem = worker.failed() => return Err(problem),
        () = stop_twice(signals, &stop) => return Ok(None),
    };
    entrance.sample(&recorder);
    let tally = recorder.take();
    let run = Run {
        cost: meter.cost(tally.ended()),
        tally,
        behind,
        stopped: stop.is_cancelled(),
        problems: worker.problems(),
        twice_at_gateway: simulator.and_then(Simulated::taken_twice),
    };
    worker.close().await;
    Ok(Some(run))
}

/// The first signal ends the sending, and what was measured until then is shown;
/// with the second one this is over.
async fn stop_twice(signals: &mut Signals, stop: &CancellationToken) {
    stop_wanted(signals).await;
    stop.cancel();
    stop_wanted(signals).await;
}

/// Waits for a signal to stop.
async fn stop_wanted(signals: &mut Signals) {
    while signals.next().await != Request::Stop {}
}
