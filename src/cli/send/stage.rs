//! A worker for one app, watched at its work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;

use super::plan::Plan;
use crate::app::observe::{SeenAttempt, Watch};
use crate::app::{App, Line, LineOutcomes};
use crate::call::event::PartNumber;
use crate::call::outcome::{PushOutcome, ReportBody};
use crate::engine::delivery::{Delivery, Source, Verdict};
use crate::engine::dispatch::handle_whole;
use crate::metrics::Metrics;

/// Beyond the ring's end, for what is under way.
const GRACE: Duration = Duration::from_secs(1);
/// For connections to be closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// The worker.
pub(super) struct Stage {
    app: Arc<App>,
    outcomes: Arc<Mutex<HashMap<Uuid, PushOutcome>>>,
    attempts: Mutex<mpsc::UnboundedReceiver<SeenAttempt>>,
}

/// What became of one push.
pub(super) struct Shot {
    /// None if it did not end in time.
    pub(super) outcome: Option<PushOutcome>,
    /// In order.
    pub(super) attempts: Vec<SeenAttempt>,
    /// From the event to the outcome.
    pub(super) took: Duration,
}

impl Stage {
    /// Reads keys and begins to connect.
    pub(super) fn build(plan: &Plan) -> anyhow::Result<Self> {
        let (sender, mut lines) = LineOutcomes::channel();
        let (observer, attempts) = mpsc::unbounded_channel();
        let watch = Watch {
            observer,
            validate_only: plan.args.validate_only,
        };
        let config = plan.config.clone();
        let app = App::watched(config, Arc::new(sender), Metrics::default(), Some(watch))?;
        let outcomes = Arc::new(Mutex::new(HashMap::new()));
        let kept = Arc::clone(&outcomes);
        tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                let Line::Report(report, receipt) = line else {
                    continue;
                };
                if let ReportBody::Push(outcome) = report.body {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.insert(outcome.event_id, outcome);
                }
                // The worker waits for this before it is done with the event.
                receipt.safe();
            }
        });
        Ok(Self {
            app,
            outcomes,
            attempts: Mutex::new(attempts),
        })
    }

    /// Rings once.
    ///
    /// # Errors
    /// The event is broken.
    pub(super) async fn shoot(&self, event: &Value, limit: Duration) -> anyhow::Result<Shot> {
        let id = event["event_id"].as_str().and_then(|id| id.parse().ok());
        let id: Uuid = id.context("the event has no id")?;
        let delivery = Delivery {
            body: event.to_string().into(),
            source: Source::Calls,
            part: PartNumber::WHOLE,
            trace: Arc::default(),
        };
        let begun = Instant::now();
        let handled = timeout(limit + GRACE, handle_whole(self.app.dispatcher(), delivery)).await;
        if let Ok(Verdict::Dead(error)) = handled {
            anyhow::bail!("the event is broken: {error}");
        }
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Shot {
            outcome: outcomes.remove(&id),
            attempts: self.attempts(),
            took: begun.elapsed(),
        })
    }

    /// The attempts that ended since this was asked for last.
    fn attempts(&self) -> Vec<SeenAttempt> {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| attempts.try_recv().ok()).collect()
    }

    /// Ends connections, but does not insist.
    pub(super) async fn close(&self) {
        let _ = timeout(FAREWELL, self.app.close()).await;
    }
}
