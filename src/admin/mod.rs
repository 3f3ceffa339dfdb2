//! Health, readiness, metrics, the status page and traces of calls over plain
//! HTTP, for whoever runs the worker. It only answers questions.

mod chart;
mod lanes;
mod page;
pub mod status;
pub mod story;
pub mod trace;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use tokio::net::TcpListener;

use crate::metrics::classic;

pub use page::STYLE;
pub use status::{Insight, Readiness};
pub(crate) use trace::encoded;

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
        .route("/trace", get(trace::trace))
        .with_state(Arc::clone(&insight))
        .merge(page::routes(insight).map_err(std::io::Error::other)?)
        .layer(map_response(guarded));
    axum::serve(listener, routes)
        .with_graceful_shutdown(end)
        .await
}

/// Nothing of this is kept by browsers and proxies, put into other pages, or
/// runs anything that is not part of the program.
async fn guarded(mut response: Response) -> Response {
    let policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                  img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn ready(State(insight): State<Arc<dyn Insight>>) -> impl IntoResponse {
    let Readiness { ready, problems } = insight.readiness();
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
    for problem in problems {
        text.push_str(&problem);
        text.push('\n');
    }
    (status, text)
}

/// In the format that is asked for; `Prometheus` asks for `OpenMetrics`.
async fn metrics(State(insight): State<Arc<dyn Insight>>, headers: HeaderMap) -> impl IntoResponse {
    let open = "application/openmetrics-text";
    let accept = headers.get_all(header::ACCEPT).iter();
    let asked = accept
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(open));
    let text = insight.metrics();
    if asked {
        let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(header::CONTENT_TYPE, content_type)], text)
    } else {
        let content_type = "text/plain; version=0.0.4; charset=utf-8";
        ([(header::CONTENT_TYPE, content_type)], classic(&text))
    }
}
