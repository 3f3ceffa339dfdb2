//! Spans to a collector, by OTLP over HTTP. Set up by the variables of
//! OpenTelemetry's "OTLP Exporter Configuration" and "Environment Variable
//! Specification", as every other program at the collector is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Key, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

use super::TelemetryError;
use super::collector::Collector;
use crate::{spans, trust};

/// At most one line about a collector that takes nothing in this time.
const REMINDER: Duration = Duration::from_secs(60);

/// The longest answer of a collector that is read, in bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// How long the collector may take for the last spans when the program ends.
const GOODBYE: Duration = Duration::from_secs(2);

/// Says where spans go.
pub(super) fn announce(endpoint: &str) {
    tracing::info!(endpoint, "spans go to a collector, by OTLP over HTTP");
}

/// Keeps spans going to the collector.
#[derive(Debug)]
pub(super) struct Export(SdkTracerProvider);

impl Export {
    /// Begins to export. Must be called on the runtime.
    ///
    /// # Errors
    /// A variable cannot be used; says which and what to do.
    pub(super) fn start(collector: &Collector) -> Result<Option<Self>, TelemetryError> {
        let variable = collector.variable;
        let client = Client {
            http: http_client(variable)?,
            runtime: Handle::current(),
            shown: collector.shown().into(),
            told: Arc::default(),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(collector.traces_url())
            .build()
            .map_err(|error| TelemetryError::Variable {
                variable,
                problem: format!("cannot be exported to: {error}"),
            })?;
        let provider = SdkTracerProvider::builder()
            .with_resource(resource())
            .with_batch_exporter(exporter)
            .build();
        Ok(Some(Self(provider)))
    }

    /// Takes our spans, and nothing of anybody else's.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("ringpush"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_level(false)
            .with_target(false)
            .with_filter(Targets::new().with_target(spans::TARGET, LevelFilter::INFO))
    }

    /// Sends what is left, and gives up soon.
    pub(super) async fn close(self) {
        // It waits for a thread of its own.
        let closing = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(GOODBYE));
        match tokio::time::timeout(GOODBYE, closing).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last spans were lost"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the last spans were lost"),
        }
    }
}

/// A client for the collector, which may have a certificate of its own CA.
fn http_client(asked_by: &'static str) -> Result<reqwest::Client, TelemetryError> {
    let names = [
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
    ];
    let file = names
        .into_iter()
        .find_map(|name| Some((name, std::env::var_os(name).filter(|v| !v.is_empty())?)));
    let fault = |variable, problem: String| TelemetryError::Variable { variable, problem };
    let hidden =
        trust::hidden().map_err(|error| fault(asked_by, format!("cannot be trusted: {error}")))?;
    let hidden = hidden
        .iter()
        .filter_map(|root| reqwest::Certificate::from_der(root).ok());
    let mut builder = reqwest::Client::builder()
        .timeout(timeout())
        .tls_certs_merge(hidden);
    if let Some((name, file)) = file {
        let shown = file.to_string_lossy();
        let pem = crate::files::read(&file)
            .map_err(|error| fault(name, format!("{shown} cannot be read: {error}")))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| fault(name, format!("{shown} holds no certificate in PEM form")))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| {
        let problem = format!("no client can be made for it: {}", causes(&error));
        fault(asked_by, problem)
    })
}

/// For one request, by the specification in milliseconds.
fn timeout() -> Duration {
    let names = [
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
    ];
    let asked = names
        .into_iter()
        .find_map(|name| std::env::var(name).ok()?.trim().parse().ok());
    Duration::from_millis(asked.unwrap_or(10_000))
}

/// Who sends these spans.
fn resource() -> Resource {
    let found = Resource::builder().build();
    let named = found
        .get(&Key::from_static_str("service.name"))
        .is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let builder = Resource::builder()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if named {
        builder.build()
    } else {
        builder.with_service_name("ringpush").build()
    }
}

/// Makes the exporter's requests on our runtime (it calls from a thread of its
/// own), and says what goes wrong, which the exporter keeps to itself.
#[derive(Clone, Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
    /// Where the requests go, for people.
    shown: Arc<str>,
    told: Arc<Mutex<Option<Instant>>>,
}

impl Client {
    async fn send(self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.exchange(request).await;
        match &answer {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => self.tell(&format!("HTTP status {}", answer.status())),
            Err(error) => self.tell(&causes(&**error)),
        }
        answer
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // Its address may hold a credential.
        let public = reqwest::Error::without_url;
        let sent = self.http.execute(request.try_into()?).await;
        let mut answer = sent.map_err(public)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(public)? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                return Err("an answer that is too long for a collector".into());
            }
            body.extend_from_slice(&chunk);
        }
        let response = Response::builder().status(answer.status());
        Ok(response.body(body.freeze())?)
    }

    fn tell(&self, error: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|at| at.elapsed() < REMINDER) {
            return;
        }
        *told = Some(Instant::now());
        tracing::warn!(
            endpoint = &*self.shown,
            error,
            "spans are lost: the collector does not take them; rings are not affected; \
             see that it listens there for OTLP over HTTP"
        );
    }
}

impl HttpClient for Client {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> BoxFuture<'async_trait, Result<Response<Bytes>, HttpError>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let sending = self.runtime.spawn(self.clone().send(request));
        async move { sending.await? }.boxed()
    }
}

/// An error with what is behind it.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
