//! A worker on `RabbitMQ`, from start to drain.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{App, AppInsight};
use crate::admin;
use crate::amqp::{self, AmqpError, BrokerState};
use crate::config::{Config, ConfigError};
use crate::metrics::Metrics;
use crate::shutdown::{Request, Signals};
use crate::telemetry::Telemetry;

/// How long closing the connections may take once all is done.
pub(super) const GOODBYE: Duration = Duration::from_secs(2);

/// Takes events from the broker until a signal ends it. A second one, which
/// ends everything at once, is the caller's.
///
/// # Errors
/// The configuration, a key, the admin address or the broker's set-up cannot
/// be used; the text says which and what to do. A broker that is merely away
/// is waited for.
pub async fn run_on_broker(
    config: Config,
    grace: Duration,
    telemetry: &Telemetry,
    mut signals: Signals,
) -> anyhow::Result<()> {
    let metrics = Metrics::default();
    let longest_ring = config.ring.max_ttl;
    let file = config.file().to_owned();
    let (prepared, reports) = amqp::PreparedWorker::new(&config.amqp, metrics.clone())
        .map_err(|error| with_file(error, &file))?;
    let listener = listen(&config).await?;
    let app = App::new(config, reports, metrics)?;
    app.warm().await;
    let mut worker = prepared.start(Arc::clone(app.dispatcher()), longest_ring);
    let admin = Admin::start(listener, &app, Some(worker.state()));
    let stopped = until_stopped(&app, &mut signals, telemetry, worker.fatal()).await;
    if let Err(error) = stopped {
        say_goodbye(&app, worker).await;
        return Err(with_file(error, &file));
    }
    tracing::info!(
        in_flight = worker.under_way(),
        "stopping: no more messages are taken"
    );
    drain(&app, worker, grace).await;
    admin.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// Finishes what is under way within the grace, leaves the rest to the broker
/// and says goodbye to everybody, which has little time of its own.
async fn drain(app: &App, worker: amqp::Worker, grace: Duration) {
    worker.stop_taking();
    let finished = async {
        worker.drained().await;
        app.dispatcher().drained().await;
    };
    if timeout(grace, finished).await.is_err() {
        tracing::warn!(
            left = worker.under_way(),
            "the grace is over; what is left goes back to the broker"
        );
    }
    say_goodbye(app, worker).await;
}

/// Closes all connections, as far as somebody answers.
async fn say_goodbye(app: &App, worker: amqp::Worker) {
    let goodbye = async {
        worker.close().await;
        app.close().await;
    };
    if timeout(GOODBYE, goodbye).await.is_err() {
        tracing::warn!("connections were left open: nobody answered when they were closed");
    }
}

/// Names the file of a key that a person has to mend.
fn with_file(error: AmqpError, file: &Path) -> anyhow::Error {
    if error.is_configuration() {
        ConfigError::new(file, None, error).into()
    } else {
        error.into()
    }
}

/// Serves signals until one asks to stop.
pub(super) async fn until_stopped(
    app: &Arc<App>,
    signals: &mut Signals,
    telemetry: &Telemetry,
    fatal: impl Future<Output = AmqpError>,
) -> Result<(), AmqpError> {
    tokio::pin!(fatal);
    loop {
        tokio::select! {
            request = signals.next() => match request {
                Request::Stop => return Ok(()),
                Request::Reload => reload(app, telemetry),
            },
            error = &mut fatal => return Err(error),
        }
    }
}

fn reload(app: &Arc<App>, telemetry: &Telemetry) {
    match app.reload() {
        Ok(config) => {
            telemetry.set_level(config.log.level);
            tracing::info!("configuration, keys and profiles were read again");
        }
        Err(error) => {
            tracing::error!(%error, "the configuration was not read again; the old one stays");
        }
    }
}

/// Opens the admin address before anything else: a second worker on the same
/// one is a mistake that should show at once.
pub(super) async fn listen(config: &Config) -> anyhow::Result<TcpListener> {
    let address = config.admin.listen;
    TcpListener::bind(address).await.map_err(|error| {
        let cure = "choose a free address and port (port 0 takes any)";
        config
            .error("admin.listen", format!("{address}: {error}; {cure}"))
            .into()
    })
}

/// The admin server.
#[derive(Debug)]
pub(super) struct Admin {
    task: tokio::task::JoinHandle<()>,
    end: CancellationToken,
}

impl Admin {
    pub(super) fn start(
        listener: TcpListener,
        app: &Arc<App>,
        broker: Option<watch::Receiver<BrokerState>>,
    ) -> Self {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "admin: status page /, and /healthz /readyz /metrics /trace");
        }
        let end = CancellationToken::new();
        let insight = Arc::new(AppInsight::new(Arc::clone(app), broker));
        let serving = admin::serve(listener, insight, end.clone().cancelled_owned());
        let task = tokio::spawn(async move {
            let why = match AssertUnwindSafe(serving).catch_unwind().await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "panicked".to_owned(),
            };
            // Rings go on; whoever watches `/healthz` starts the worker again.
            tracing::error!(error = why, "the admin address is served no longer");
        });
        Self { task, end }
    }

    pub(super) async fn stop(self) {
        self.end.cancel();
        // A client that holds its connection open must not hold us.
        let _ = timeout(Duration::from_secs(1), self.task).await;
    }
}
