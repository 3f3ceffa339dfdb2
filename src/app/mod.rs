//! The composition root: builds everything once, runs it, drains it.

mod broker;
mod build;
mod insight;
mod lanes;
mod lines;
pub mod observe;
mod profiles;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::call::outcome::Outcomes;
use crate::config::{Config, ConfigError};
use crate::engine::dispatch::Dispatcher;
use crate::engine::lane::Lane;
use crate::engine::routes::Routes;
use crate::metrics::Metrics;

pub use broker::run_on_broker;
use build::Builder;
pub use build::apns_probe;
pub use insight::AppInsight;
use lanes::Client;
pub use lanes::Lanes;
pub use lines::{Line, LineOutcomes, run_on_lines};
use observe::Watch;
pub use profiles::profiles;

/// How long the connections may take to come up before the first message is
/// taken all the same.
const WARM_UP: Duration = Duration::from_secs(3);

/// How often gauges that follow the clock are set, and brakes recover.
const TICK: Duration = Duration::from_secs(5);

/// A worker without its source of events.
#[derive(Debug)]
pub struct App {
    dispatcher: Arc<Dispatcher>,
    metrics: Metrics,
    builder: Builder,
    current: Mutex<Lanes>,
    config: Mutex<Config>,
    tasks: TaskTracker,
    end: CancellationToken,
}

impl App {
    /// Reads keys and profiles and begins to connect.
    ///
    /// # Errors
    /// File, key and cure of what cannot be used.
    pub fn new(
        config: Config,
        reports: Arc<dyn Outcomes>,
        metrics: Metrics,
    ) -> Result<Arc<Self>, ConfigError> {
        Self::watched(config, reports, metrics, None)
    }

    /// The same for somebody who watches every attempt.
    ///
    /// # Errors
    /// As [`App::new`].
    pub fn watched(
        config: Config,
        reports: Arc<dyn Outcomes>,
        metrics: Metrics,
        watch: Option<Watch>,
    ) -> Result<Arc<Self>, ConfigError> {
        let builder = Builder::new(metrics.clone(), watch);
        let (lanes, routes) = builder.build(&config, None)?;
        let dispatcher = Dispatcher::new(config.ring, routes, reports, metrics.clone());
        let app = Arc::new(Self {
            dispatcher: Arc::new(dispatcher),
            metrics,
            builder,
            current: Mutex::new(lanes),
            config: Mutex::new(config),
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
        });
        app.tasks.spawn(tick(Arc::clone(&app)));
        Ok(app)
    }

    /// What takes events.
    #[must_use]
    pub const fn dispatcher(&self) -> &Arc<Dispatcher> {
        &self.dispatcher
    }

    /// What is counted.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Waits until the connections are up, some seconds at most.
    pub async fn warm(&self) {
        let clients = self.lanes().clients();
        join_all(clients.iter().map(|client| client.warm(WARM_UP))).await;
        self.lanes().note_expiries(&self.metrics);
    }

    /// Reads the configuration again: apps, credentials, profiles. A broken
    /// file or key keeps what there was.
    ///
    /// # Errors
    /// File, key and cure; nothing has changed then.
    pub fn reload(&self) -> Result<Config, ConfigError> {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Config::load(config.file())?;
        let before = self.lanes();
        let (lanes, routes) = self.builder.build(&fresh, Some(&before))?;
        for key in fresh.restart_needed(&config) {
            tracing::warn!(key, "a change of this needs a restart of the worker");
        }
        let (retired, added) = (before.not_in(&lanes), lanes.not_in(&before));
        self.dispatcher.set_routes(routes);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = lanes;
        *config = fresh.clone();
        for lane in self.engine_lanes() {
            lane.probe_now();
        }
        for client in self.lanes().clients() {
            client.retry_now();
        }
        // Their connections should be up before their first ring.
        for client in added {
            let warming = async move { client.warm(WARM_UP).await };
            let end = self.end.clone();
            self.tasks.spawn(end.run_until_cancelled_owned(warming));
        }
        self.retire(retired, config.ring.window());
        Ok(fresh)
    }

    /// Ends connections and background work. Nothing may be in flight any more.
    pub async fn close(&self) {
        self.end.cancel();
        self.dispatcher.drained().await;
        let clients = self.lanes().clients();
        join_all(clients.iter().map(Client::close)).await;
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn lanes(&self) -> Lanes {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn engine_lanes(&self) -> Vec<Arc<Lane>> {
        let routes: Arc<Routes> = self.dispatcher.routes();
        routes.lanes().cloned().collect()
    }

    /// Closes clients that got no new pushes once their last one has ended.
    fn retire(&self, clients: Vec<Client>, longest: Duration) {
        let until = Instant::now() + longest;
        for client in clients {
            let end = self.end.clone();
            self.tasks.spawn(async move {
                while client.in_use() && Instant::now() < until {
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                        () = end.cancelled() => break,
                    }
                }
                client.close().await;
            });
        }
    }
}

/// Keeps what follows the clock alone up to date.
async fn tick(app: Arc<App>) {
    loop {
        app.lanes().note_expiries(&app.metrics);
        for lane in app.engine_lanes() {
            lane.tick();
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = app.end.cancelled() => return,
        }
    }
}
