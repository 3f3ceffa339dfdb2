//! The composition root: builds everything once, runs it, drains it.

mod broker;
mod build;
mod canary;
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

use crate::call::outcome::{Outcomes, PushResult};
use crate::call::push::Class;
use crate::config::{Config, ConfigError};
use crate::engine::dispatch::Dispatcher;
use crate::engine::lane::Lane;
use crate::engine::routes::Routes;
use crate::metrics::Metrics;

pub use broker::run_on_broker;
use build::Builder;
pub use build::apns_probe;
use canary::Canary;
pub use insight::AppInsight;
use lanes::Client;
pub use lanes::Lanes;
pub use lines::{Line, LineOutcomes, run_on_lines};
use observe::Watch;
pub use profiles::profiles;

/// How long the connections may take to come up before the first message is
/// taken all the same: a provider that hangs must not hold up the others' rings.
const WARM_UP: Duration = Duration::from_millis(300);

/// A worker without its source of events.
#[derive(Debug)]
pub struct App {
    dispatcher: Arc<Dispatcher>,
    metrics: Metrics,
    builder: Builder,
    current: Mutex<Lanes>,
    canary: Canary,
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
        // Whoever watches sends a push or two.
        let canary = config.canary.every.filter(|_| watch.is_none());
        let builder = Builder::new(metrics.clone(), watch);
        let (lanes, routes) = builder.build(&config, None)?;
        let dispatcher = Dispatcher::new(config.ring, routes, reports, metrics.clone());
        let app = Arc::new(Self {
            dispatcher: Arc::new(dispatcher),
            metrics,
            builder,
            current: Mutex::new(lanes),
            canary: Canary::default(),
            config: Mutex::new(config),
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
        });
        if let Some(every) = canary {
            let proving = Arc::clone(&app);
            app.tasks.spawn(async move {
                let run = proving.canary.run(every, || proving.lanes());
                proving.end.run_until_cancelled(run).await;
            });
        }
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

    /// Waits until the connections are up, but not for long.
    pub async fn warm(&self) {
        let clients = self.lanes().clients();
        let used = clients.iter().filter(|client| client.is_used());
        join_all(used.map(|client| client.warm(WARM_UP))).await;
    }

    /// Reads the configuration again: apps, credentials, profiles. A broken
    /// file or key keeps what there was.
    ///
    /// # Errors
    /// File, key and cure; nothing has changed then.
    pub fn reload(self: &Arc<Self>) -> Result<Config, ConfigError> {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = Config::load(config.file())?;
        let waiting = fresh.keep(&config);
        let before = self.lanes();
        let (lanes, routes) = self.builder.build(&fresh, Some(&before))?;
        for key in waiting {
            tracing::warn!(key, "a change of this needs a restart of the worker");
        }
        let retired = before.not_in(&lanes);
        let gone = before.apps_not_in(&lanes);
        self.dispatcher.set_routes(routes);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = lanes;
        *config = fresh.clone();
        for lane in self.engine_lanes() {
            lane.probe_now();
        }
        for client in self.lanes().clients() {
            client.retry_now();
        }
        self.canary.hurry();
        let until = Instant::now() + config.ring.window();
        let retiring = Arc::clone(self).retire(retired, gone, until);
        self.tasks.spawn(retiring);
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

    /// Closes clients that get no new pushes once their last one has ended, and
    /// then forgets the apps that are gone.
    async fn retire(
        self: Arc<Self>,
        clients: Vec<Client>,
        gone: Vec<(String, &'static str)>,
        until: Instant,
    ) {
        let closing = clients.iter().map(async |client| {
            while client.in_use() && Instant::now() < until {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = self.end.cancelled() => break,
                }
            }
            client.close().await;
        });
        join_all(closing).await;
        let lanes = self.lanes();
        for (app, platform) in gone {
            // It may be back.
            if !lanes.has(&app, platform) {
                let results = PushResult::ALL.map(PushResult::name);
                let classes = Class::ALL.map(Class::name);
                self.metrics.end_app(&app, platform, &results, &classes);
            }
        }
    }
}
