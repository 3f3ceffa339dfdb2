//! The worker that is measured: its code in this process, or a `ringpush run`
//! of its own behind a broker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::args::Args;
use super::broker::{Client, Process};
use super::record::Recorder;
use super::rings::Ring;
use super::target::Target;
use crate::app::App;
use crate::call::event::PartNumber;
use crate::call::outcome::Outcomes;
use crate::engine::delivery::{Delivery, Source};
use crate::engine::dispatch::handle_whole;
use crate::metrics::Metrics;

/// For connections to be closed at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where rings are given to a worker.
#[derive(Clone)]
pub(super) enum Entrance {
    /// To its code, without a broker.
    Inside(Arc<App>),
    /// To the broker that it takes them from.
    Broker(Arc<Client>),
}

/// A worker that is connected and waits for rings.
pub(super) struct Worker {
    pub(super) entrance: Entrance,
    process: Option<Process>,
}

impl Worker {
    /// # Errors
    /// The configuration, a key or the broker cannot be used.
    pub(super) async fn start(
        args: &Args,
        target: &Target,
        recorder: &Arc<Recorder>,
    ) -> anyhow::Result<Self> {
        if args.broker {
            let (process, client) = Process::start(args, target, recorder).await?;
            return Ok(Self {
                entrance: Entrance::Broker(client),
                process: Some(process),
            });
        }
        let reports = Arc::clone(recorder) as Arc<dyn Outcomes>;
        let app = App::new(target.config.clone(), reports, Metrics::default())?;
        app.warm().await;
        Ok(Self {
            entrance: Entrance::Inside(app),
            process: None,
        })
    }

    /// Its process, if it is not this one.
    pub(super) fn pid(&self) -> Option<u32> {
        self.process.as_ref()?.pid
    }

    /// Why it cannot go on, as soon as that is so.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        match &mut self.process {
            Some(process) => process.failed().await,
            None => std::future::pending().await,
        }
    }

    /// Why lanes cannot send a push now, where that can be seen.
    pub(super) fn problems(&self) -> Vec<String> {
        let Entrance::Inside(app) = &self.entrance else {
            return Vec::new();
        };
        let routes = app.dispatcher().routes();
        let said = routes.lanes().filter_map(|lane| {
            let why = lane.why_not_ready()?;
            Some(format!("{}: {why}", lane.labels().platform))
        });
        said.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Ends it.
    pub(super) async fn close(self) {
        if let Entrance::Inside(app) = &self.entrance {
            let _ = timeout(FAREWELL, app.close()).await;
        }
        if let Some(process) = self.process {
            process.end().await;
        }
    }
}

impl Entrance {
    /// Rings once, until every phone's push has its outcome or is given up.
    pub(super) async fn ring(&self, ring: Ring) {
        match self {
            Self::Inside(app) => {
                let delivery = Delivery {
                    body: ring.body,
                    source: Source::Platform(ring.platform),
                    part: PartNumber::WHOLE,
                    trace: Arc::default(),
                };
                // Whatever comes of it is reported; what is not counts as lost.
                let _ = handle_whole(app.dispatcher(), delivery).await;
            }
            Self::Broker(client) => client.ring(ring).await,
        }
    }

    /// Looks at the last attempts, where they can be seen.
    pub(super) fn sample(&self, recorder: &Recorder) {
        if let Self::Inside(app) = self {
            recorder.sample(app.dispatcher().history());
        }
    }
}
