//! Health, readiness and metrics over plain HTTP, for whoever runs the worker.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Deserialize;
use tokio::net::TcpListener;

/// `[admin]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSettings {
    /// Where it listens.
    pub listen: SocketAddr,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9464)),
        }
    }
}

/// What the pages ask the worker.
pub trait Insight: Send + Sync + 'static {
    /// Why it is not ready, sentence by sentence; and whether it is all the same.
    fn readiness(&self) -> Readiness;
    /// All metrics in Prometheus' text format.
    fn metrics(&self) -> String;
}

/// Whether rings get through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The broker is there and at least one lane can send.
    pub ready: bool,
    /// What is not in order.
    pub hindrances: Vec<String>,
}

/// Serves until `end`.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    insight: Arc<dyn Insight>,
    end: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(insight);
    axum::serve(listener, routes)
        .with_graceful_shutdown(end)
        .await
}

async fn ready(State(insight): State<Arc<dyn Insight>>) -> impl IntoResponse {
    let Readiness { ready, hindrances } = insight.readiness();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut text = if ready {
        "ready\n".to_owned()
    } else {
        "not ready\n".to_owned()
    };
    for hindrance in hindrances {
        text.push_str(&hindrance);
        text.push('\n');
    }
    (status, text)
}

async fn metrics(State(insight): State<Arc<dyn Insight>>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], insight.metrics())
}
