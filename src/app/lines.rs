//! A worker without a broker: events as JSON lines in, outcomes as JSON lines
//! out.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use serde_json::json;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::App;
use super::broker::{Admin, GOODBYE, listen, until_stopped};
use crate::amqp::AmqpError;
use crate::call::event::{MAX_BODY, PartNumber};
use crate::call::outcome::{Outcomes, Report};
use crate::call::receipt::Receipt;
use crate::config::Config;
use crate::engine::delivery::{Delivery, Source, Verdict};
use crate::engine::dispatch::handle_whole;
use crate::metrics::Metrics;
use crate::shutdown::Signals;
use crate::telemetry::Telemetry;

/// How long the last lines may take to be written when rings were left.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The task that writes them.
type Writer = JoinHandle<std::io::Result<()>>;

/// A line for the output.
#[derive(Debug)]
pub enum Line {
    /// A report, and whom to tell that it is written.
    Report(Report, Receipt),
    /// A line of the input that could not be understood.
    Dead {
        /// From 1.
        line: u64,
        /// Path and problem.
        error: String,
    },
}

/// Sends reports to whoever writes lines. As many wait as messages are in
/// flight can make, for each message waits until its own are written.
#[derive(Clone, Debug)]
pub struct LineOutcomes(mpsc::UnboundedSender<Line>);

impl LineOutcomes {
    /// Reports that come out at the other end.
    #[must_use]
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Line>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }
}

impl Outcomes for LineOutcomes {
    fn publish(&self, report: Report, receipt: Receipt) {
        // If nobody writes any more the receipt says so.
        let _ = self.0.send(Line::Report(report, receipt));
    }
}

/// Takes events from `input` until it ends or a signal comes. A second one,
/// which ends everything at once, is the caller's.
///
/// # Errors
/// The configuration or a key cannot be used, or `input` or `output` fail.
pub async fn run_on_lines(
    config: Config,
    grace: Duration,
    telemetry: &Telemetry,
    mut signals: Signals,
    input: impl AsyncBufRead + Unpin + Send,
    output: impl AsyncWrite + Unpin + Send + 'static,
) -> anyhow::Result<()> {
    let listener = listen(&config).await?;
    let in_flight = usize::from(config.amqp.prefetch);
    let (outcomes, lines) = LineOutcomes::channel();
    let dead = outcomes.clone();
    let app = App::new(config, Arc::new(outcomes), Metrics::default())?;
    app.warm().await;
    let admin = Admin::start(listener, &app, None);
    let mut writer = tokio::spawn(write_lines(lines, output));
    let tracker = TaskTracker::new();
    let stop = until_stopped(&app, &mut signals, telemetry, std::future::pending());
    let stopped = tokio::select! {
        read = read_all(input, &app, &dead.0, &tracker, in_flight, stop) => read?,
        ended = &mut writer => return Err(unwritable(ended)),
    };
    tracker.close();
    if stopped && timeout(grace, tracker.wait()).await.is_err() {
        tracing::warn!(left = tracker.len(), "the grace is over; rings were left");
    }
    if timeout(GOODBYE, app.close()).await.is_err() {
        tracing::warn!("connections were left open: nobody answered when they were closed");
    }
    admin.stop().await;
    let left = !tracker.is_empty();
    drop((dead, app));
    last_lines(writer, left).await
}

/// Waits until what is in the channel is written. Rings that were left hold the
/// channel open.
async fn last_lines(writer: Writer, left: bool) -> anyhow::Result<()> {
    let limit = if left { LAST_LINES } else { LAST_LINES * 5 };
    match timeout(limit, writer).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Err(_) if left => Ok(()),
        Ok(failed) => Err(unwritable(failed)),
        Err(_) => Err(unwritable(Ok(Err(std::io::ErrorKind::TimedOut.into())))),
    }
}

/// Reads to the end of the input and finishes what was read, unless a signal
/// comes. Whether one came.
async fn read_all(
    input: impl AsyncBufRead + Unpin,
    app: &Arc<App>,
    dead: &mpsc::UnboundedSender<Line>,
    tracker: &TaskTracker,
    in_flight: usize,
    stop: impl Future<Output = Result<(), AmqpError>>,
) -> anyhow::Result<bool> {
    tokio::pin!(stop);
    tokio::select! {
        read = read_events(input, app, dead, tracker, in_flight) => read?,
        stopped = &mut stop => return Ok(stopped.map(|()| true)?),
    }
    tracker.close();
    tokio::select! {
        () = tracker.wait() => Ok(false),
        stopped = stop => Ok(stopped.map(|()| true)?),
    }
}

/// Without anybody who reads the outcomes no phone may ring: they would be
/// lost.
fn unwritable(ended: Result<std::io::Result<()>, JoinError>) -> anyhow::Error {
    // As a text: a closed output is no quiet end here, as it is for commands
    // that only show something.
    let why = match ended {
        Ok(Ok(())) => "it ended".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    anyhow::anyhow!(
        "outcomes cannot be written to standard output ({why}); no more events are taken, keep \
         its reader running"
    )
}

async fn read_events(
    mut input: impl AsyncBufRead + Unpin,
    app: &Arc<App>,
    dead: &mpsc::UnboundedSender<Line>,
    tracker: &TaskTracker,
    in_flight: usize,
) -> std::io::Result<()> {
    let permits = Arc::new(Semaphore::new(in_flight));
    let mut number = 0;
    while let Some(body) = read_line(&mut input).await? {
        number += 1;
        if body.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            break;
        };
        let (app, dead) = (Arc::clone(app), dead.clone());
        tracker.spawn(async move {
            let _permit = permit;
            let delivery = Delivery {
                body,
                source: Source::Calls,
                part: PartNumber::WHOLE,
                trace: Arc::default(),
            };
            let handled = AssertUnwindSafe(handle_whole(app.dispatcher(), delivery));
            let error = match handled.catch_unwind().await {
                Ok(Verdict::Dead(error)) => error.to_string(),
                Ok(Verdict::Settled | Verdict::Split(_) | Verdict::Abandoned) => return,
                Err(_) => "handling it panicked, which is a fault in ringpush".to_owned(),
            };
            let line = number;
            let _ = dead.send(Line::Dead { line, error });
        });
    }
    Ok(())
}

/// The next line without its end. Of a line longer than any event only as
/// much is kept as it takes to refuse it.
async fn read_line(input: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Bytes>> {
    let limit = MAX_BODY as u64 + 2;
    let mut line = Vec::new();
    let read = (&mut *input)
        .take(limit)
        .read_until(b'\n', &mut line)
        .await?;
    if read == 0 {
        return Ok(None);
    }
    let whole = line.last() == Some(&b'\n');
    if !whole && read as u64 == limit {
        skip_line(input).await?;
    }
    while matches!(line.last(), Some(b'\n' | b'\r')) {
        line.pop();
    }
    Ok(Some(line.into()))
}

async fn skip_line(input: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<()> {
    loop {
        let buffer = input.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

async fn write_lines(
    mut lines: mpsc::UnboundedReceiver<Line>,
    mut output: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    while let Some(line) = lines.recv().await {
        let (mut text, receipt) = match line {
            Line::Report(report, receipt) => (report.to_json()?, Some(receipt)),
            Line::Dead { line, error } => {
                let dead = json!({"v": 1, "type": "dead", "line": line, "error": error});
                (dead.to_string().into_bytes(), None)
            }
        };
        text.push(b'\n');
        output.write_all(&text).await?;
        if lines.is_empty() {
            output.flush().await?;
        }
        if let Some(receipt) = receipt {
            receipt.safe();
        }
    }
    output.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_read_with_and_without_an_end() {
        let mut input = &b"one\r\n\ntwo"[..];
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut input).await.unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, [&b"one"[..], b"", b"two"]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_cut_and_the_next_one_is_whole() {
        let mut text = vec![b'x'; MAX_BODY * 2];
        text.extend_from_slice(b"\nnext\n");
        let mut input = &text[..];
        let long = read_line(&mut input).await.unwrap().unwrap();
        assert!(long.len() > MAX_BODY && long.len() < MAX_BODY + 10);
        assert_eq!(read_line(&mut input).await.unwrap().unwrap(), "next");
    }

    /// Whichever end is noticed first, that of the input or that of the output.
    #[tokio::test(start_paused = true)]
    async fn last_lines_that_cannot_be_written_are_told() {
        let closed = async || Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        let stuck = async || std::future::pending().await;
        for writer in [tokio::spawn(closed()), tokio::spawn(stuck())] {
            let error = last_lines(writer, false).await.unwrap_err();
            assert!(error.to_string().contains("standard output"), "{error}");
            // A command that only shows something is quiet about that cause.
            assert!(!error.root_cause().is::<std::io::Error>());
        }
        last_lines(tokio::spawn(stuck()), true).await.unwrap();
        last_lines(tokio::spawn(async { Ok(()) }), false)
            .await
            .unwrap();
    }
}
