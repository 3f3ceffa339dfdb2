//! A collector of traces that keeps what it gets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use super::support::worker::PATIENCE;

#[derive(Default)]
struct Kept {
    bodies: Vec<Bytes>,
    headers: Vec<HeaderMap>,
}

/// A collector on loopback.
pub(crate) struct Collector {
    kept: Arc<Mutex<Kept>>,
    pub(crate) endpoint: String,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let to = Arc::clone(&kept);
        let take = move |headers: HeaderMap, body: Bytes| async move {
            let mut kept = to.lock().unwrap();
            kept.bodies.push(body);
            kept.headers.push(headers);
        };
        let router = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { kept, endpoint }
    }

    /// What a worker has to be told. It sends spans soon.
    pub(crate) fn variables(&self) -> Vec<(&str, &str)> {
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &self.endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ]
    }

    /// Everything that came, as it came.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.kept.lock().unwrap().bodies.concat()
    }

    /// A header of the first request.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let kept = self.kept.lock().unwrap();
        let value = kept.headers.first()?.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    }

    /// An attribute of whoever sent the first spans.
    pub(crate) fn resource(&self, name: &str) -> Option<String> {
        let requests = self.requests();
        let spans = requests.first()?.resource_spans.first()?;
        attribute(&spans.resource.as_ref()?.attributes, name)
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<Seen> {
        let requests = self.requests();
        let resources = requests.into_iter().flat_map(|all| all.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).map(Seen).collect()
    }

    /// All spans, once they are so many.
    pub(crate) async fn at_least(&self, count: usize) -> Vec<Seen> {
        let enough = async {
            while self.spans().len() < count {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let came = timeout(PATIENCE, enough).await.is_ok();
        let spans = self.spans();
        assert!(came, "fewer than {count} spans: {spans:#?}");
        spans
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let kept = self.kept.lock().unwrap();
        let decoded = kept.bodies.iter().map(|body| {
            ExportTraceServiceRequest::decode(body.clone()).expect("what OTLP prescribes")
        });
        decoded.collect()
    }
}

/// A span as the collector has it.
#[derive(Debug)]
pub(crate) struct Seen(pub(crate) Span);

impl Seen {
    pub(crate) fn id(&self) -> String {
        hex(&self.0.span_id)
    }

    pub(crate) fn parent(&self) -> String {
        hex(&self.0.parent_span_id)
    }

    pub(crate) fn trace(&self) -> String {
        hex(&self.0.trace_id)
    }

    pub(crate) fn failed(&self) -> bool {
        self.0
            .status
            .as_ref()
            .is_some_and(|status| status.code == 2)
    }

    pub(crate) fn get(&self, name: &str) -> Option<String> {
        attribute(&self.0.attributes, name)
    }

    /// All attributes.
    pub(crate) fn attributes(&self) -> BTreeMap<String, String> {
        let all = self.0.attributes.iter();
        all.map(|pair| (pair.key.clone(), text(pair))).collect()
    }
}

/// The only span of this name.
pub(crate) fn only<'a>(spans: &'a [Seen], name: &str) -> &'a Seen {
    let found: Vec<&Seen> = spans.iter().filter(|span| span.0.name == name).collect();
    assert_eq!(found.len(), 1, "{name} in {spans:#?}");
    found[0]
}

fn attribute(all: &[KeyValue], name: &str) -> Option<String> {
    all.iter().find(|pair| pair.key == name).map(text)
}

fn text(pair: &KeyValue) -> String {
    match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
