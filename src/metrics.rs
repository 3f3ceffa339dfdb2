//! Everything that is counted, for Prometheus. No label ever holds a token, a
//! call id or a user.

use std::collections::HashSet;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds. A ring is good below 0.1 and over after some tens.
const BUCKETS: [f64; 15] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Labels of `ringpush_events_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabels {
    /// `ring`, `cancel` or `unknown`.
    pub event: &'static str,
    /// `settled`, `split` or `dead`.
    pub result: &'static str,
}

/// Labels of `ringpush_pushes_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PushLabels {
    /// A configured app, else `unknown`.
    pub app: String,
    /// `ios`, `android` or `unknown`.
    pub platform: &'static str,
    /// `ring` or `cancel`.
    pub event: &'static str,
    /// The outcome's result.
    pub result: &'static str,
}

/// Labels of `ringpush_attempts_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AttemptLabels {
    /// A configured app.
    pub app: String,
    /// `ios` or `android`.
    pub platform: &'static str,
    /// How the attempt ended.
    pub class: &'static str,
}

/// Labels of a lane's gauges.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LaneLabels {
    /// A configured app.
    pub app: String,
    /// `ios` or `android`.
    pub platform: &'static str,
    /// `production`, `sandbox`; empty on Android.
    pub environment: &'static str,
}

/// The platform as the only label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PlatformLabel {
    /// `ios`, `android` or `unknown`.
    pub platform: &'static str,
}

/// Labels of `ringpush_connections`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectionLabels {
    /// `ios` or `android`.
    pub platform: &'static str,
    /// `ready`, `suspect` or `connecting`.
    pub state: &'static str,
}

/// Labels of `ringpush_connects_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectLabels {
    /// `ios` or `android`.
    pub platform: &'static str,
    /// `up` or `failed`.
    pub result: &'static str,
}

/// Labels of `ringpush_oauth_requests_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OAuthLabels {
    /// `granted`, `unavailable` or `refused`.
    pub result: &'static str,
}

/// Labels of `ringpush_tokens_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TokenLabels {
    /// `ios` or `android`.
    pub platform: &'static str,
    /// `dead` or `suspect`.
    pub verdict: &'static str,
}

/// Labels of `ringpush_credential_expiry_seconds`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CredentialLabels {
    /// A configured app.
    pub app: String,
    /// `ios` or `android`.
    pub platform: &'static str,
}

type Histograms = Family<PlatformLabel, Histogram, fn() -> Histogram>;

/// The one set of metrics of a worker. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Messages by what became of them.
    pub events: Family<EventLabels, Counter>,
    /// Final outcomes.
    pub pushes: Family<PushLabels, Counter>,
    /// Attempts by how they ended.
    pub attempts: Family<AttemptLabels, Counter>,
    /// Taken from the queue until final.
    pub push_seconds: Histograms,
    /// `sent_at` until accepted.
    pub event_age_seconds: Histograms,
    /// One attempt.
    pub provider_seconds: Histograms,
    /// Attempts under way.
    pub in_flight: Family<PlatformLabel, Gauge>,
    /// Connections to the providers.
    pub connections: Family<ConnectionLabels, Gauge>,
    /// Attempts to open a connection to a provider.
    pub connects: Family<ConnectLabels, Counter>,
    /// Connections that a provider has ended with a GOAWAY.
    pub goaways: Family<PlatformLabel, Counter>,
    /// Requests for an access token.
    pub oauth_requests: Family<OAuthLabels, Counter>,
    /// Token verdicts.
    pub tokens: Family<TokenLabels, Counter>,
    /// Reports that were given up.
    pub reports_lost: Counter,
    /// 1 while the broker is there.
    pub broker_connected: Gauge,
}

/// How the lanes are at one moment. These series are made when somebody asks
/// for them, so that none outlives its lane or its credential.
#[derive(Debug, Default)]
pub struct LaneGauges {
    /// 1 while a lane is paused.
    pub paused: Family<LaneLabels, Gauge>,
    /// 1 while an app's verdicts are held back.
    pub token_brake: Family<LaneLabels, Gauge>,
    /// 1 if a lane's last canary was accepted, 0 if its credential was refused.
    pub credential_ok: Family<LaneLabels, Gauge>,
    /// Seconds until a certificate or access token expires.
    pub credential_expiry_seconds: Family<CredentialLabels, Gauge>,
}

impl LaneGauges {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "lane_paused",
            "1 while a lane is paused",
            self.paused.clone(),
        );
        registry.register(
            "token_brake",
            "1 while an app's token verdicts are held back to suspect",
            self.token_brake.clone(),
        );
        registry.register(
            "credential_ok",
            "1 if the last canary was accepted, 0 if its credential was refused",
            self.credential_ok.clone(),
        );
        registry.register(
            "credential_expiry_seconds",
            "Seconds until a certificate or access token expires",
            self.credential_expiry_seconds.clone(),
        );
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let metrics = Self {
            events: Family::default(),
            pushes: Family::default(),
            attempts: Family::default(),
            push_seconds: Family::new_with_constructor(histogram),
            event_age_seconds: Family::new_with_constructor(histogram),
            provider_seconds: Family::new_with_constructor(histogram),
            in_flight: Family::default(),
            connections: Family::default(),
            connects: Family::default(),
            goaways: Family::default(),
            oauth_requests: Family::default(),
            tokens: Family::default(),
            reports_lost: Counter::default(),
            broker_connected: Gauge::default(),
        };
        metrics.begin();
        metrics
    }
}

impl Metrics {
    /// What is there from the start, at zero: of a series that begins with its
    /// first event, Prometheus never sees that one as an increase.
    fn begin(&self) {
        for event in ["ring", "cancel", "unknown"] {
            let result = "dead";
            drop(self.events.get_or_create(&EventLabels { event, result }));
        }
        for result in ["granted", "unavailable", "refused"] {
            drop(self.oauth_requests.get_or_create(&OAuthLabels { result }));
        }
        for platform in ["ios", "android"] {
            let label = PlatformLabel { platform };
            drop(self.in_flight.get_or_create(&label));
            drop(self.goaways.get_or_create(&label));
            for result in ["up", "failed"] {
                let labels = ConnectLabels { platform, result };
                drop(self.connects.get_or_create(&labels));
            }
            for histograms in [
                &self.push_seconds,
                &self.event_age_seconds,
                &self.provider_seconds,
            ] {
                drop(histograms.get_or_create(&label));
            }
            for verdict in ["dead", "suspect"] {
                drop(
                    self.tokens
                        .get_or_create(&TokenLabels { platform, verdict }),
                );
            }
        }
    }

    /// The same for an app on one platform: its rings by each of these
    /// results, its accepted attempts and those that are ours to mend.
    pub fn begin_app(&self, app: &str, platform: &'static str, results: &[&'static str]) {
        for &result in results {
            drop(self.pushes.get_or_create(&PushLabels {
                app: app.to_owned(),
                platform,
                event: "ring",
                result,
            }));
        }
        for class in ["accepted", "own_fault", "payload_fault"] {
            drop(self.attempts.get_or_create(&AttemptLabels {
                app: app.to_owned(),
                platform,
                class,
            }));
        }
    }

    /// Forgets an app that is no longer configured on a platform, by all the
    /// results and classes that there are.
    pub fn end_app(
        &self,
        app: &str,
        platform: &'static str,
        results: &[&'static str],
        classes: &[&'static str],
    ) {
        for event in ["ring", "cancel"] {
            for &result in results {
                self.pushes.remove(&PushLabels {
                    app: app.to_owned(),
                    platform,
                    event,
                    result,
                });
            }
        }
        for &class in classes {
            self.attempts.remove(&AttemptLabels {
                app: app.to_owned(),
                platform,
                class,
            });
        }
    }

    /// Everything in Prometheus' text format (`OpenMetrics`).
    #[must_use]
    pub fn render(&self, lanes: &LaneGauges) -> String {
        let mut registry = Registry::with_prefix("ringpush");
        self.register_work(&mut registry);
        self.register_state(&mut registry);
        lanes.register(&mut registry);
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }

    fn register_work(&self, registry: &mut Registry) {
        registry.register(
            "events",
            "Messages by what became of them",
            self.events.clone(),
        );
        registry.register("pushes", "Final outcomes of pushes", self.pushes.clone());
        registry.register(
            "attempts",
            "Attempts by how they ended",
            self.attempts.clone(),
        );
        registry.register(
            "push_seconds",
            "From taking an event to a push's final outcome",
            self.push_seconds.clone(),
        );
        registry.register(
            "event_age_seconds",
            "From sent_at to acceptance by the provider",
            self.event_age_seconds.clone(),
        );
        registry.register(
            "provider_seconds",
            "Duration of one attempt",
            self.provider_seconds.clone(),
        );
        registry.register(
            "connects",
            "Attempts to open a connection to a provider",
            self.connects.clone(),
        );
        registry.register(
            "goaways",
            "Connections that a provider ended with a GOAWAY",
            self.goaways.clone(),
        );
        registry.register(
            "oauth_requests",
            "Requests for an access token by what came of them",
            self.oauth_requests.clone(),
        );
        registry.register("tokens", "Token events by verdict", self.tokens.clone());
        registry.register(
            "reports_lost",
            "Reports given up so that rings could go on",
            self.reports_lost.clone(),
        );
    }

    fn register_state(&self, registry: &mut Registry) {
        registry.register("in_flight", "Attempts under way", self.in_flight.clone());
        registry.register(
            "connections",
            "Connections to providers",
            self.connections.clone(),
        );
        registry.register(
            "broker_connected",
            "1 while the broker is connected",
            self.broker_connected.clone(),
        );
    }
}

/// The older text format (0.0.4) of what [`Metrics::render`] writes, for readers
/// that do not ask for `OpenMetrics`. It names a counter as its series is named.
#[must_use]
pub fn classic(open: &str) -> String {
    let counters: HashSet<&str> = open
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(open.len());
    for line in open.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(kind), Some(name), Some(rest)) if counters.contains(name) => {
                text.extend(["# ", kind, " ", name, "_total ", rest]);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// Records a duration under a platform.
pub fn observe(histograms: &Histograms, platform: &'static str, duration: Duration) {
    histograms
        .get_or_create(&PlatformLabel { platform })
        .observe(duration.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_has_done_nothing_counts_from_zero() {
        let metrics = Metrics::default();
        metrics.begin_app("a", "ios", &["accepted", "credential_fault"]);
        let text = metrics.render(&LaneGauges::default());
        for line in [
            r#"ringpush_events_total{event="unknown",result="dead"} 0"#,
            r#"ringpush_pushes_total{app="a",platform="ios",event="ring",result="credential_fault"} 0"#,
            r#"ringpush_attempts_total{app="a",platform="ios",class="accepted"} 0"#,
            r#"ringpush_attempts_total{app="a",platform="ios",class="own_fault"} 0"#,
            r#"ringpush_connects_total{platform="ios",result="failed"} 0"#,
            r#"ringpush_goaways_total{platform="android"} 0"#,
            r#"ringpush_oauth_requests_total{result="refused"} 0"#,
            r#"ringpush_push_seconds_count{platform="android"} 0"#,
            r#"ringpush_event_age_seconds_count{platform="ios"} 0"#,
            r#"ringpush_provider_seconds_count{platform="ios"} 0"#,
            r#"ringpush_in_flight{platform="ios"} 0"#,
            r#"ringpush_tokens_total{platform="android",verdict="suspect"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn the_older_format_names_counters_as_their_series_are_named() {
        let text = classic(&Metrics::default().render(&LaneGauges::default()));
        for line in [
            "# TYPE ringpush_events_total counter",
            "# HELP ringpush_reports_lost_total Reports given up so that rings could go on.",
            "ringpush_reports_lost_total 0",
            "# TYPE ringpush_broker_connected gauge",
            "# TYPE ringpush_push_seconds histogram",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
        }
        assert!(!text.contains("# EOF") && text.ends_with('\n'), "{text}");
    }

    #[test]
    fn names_and_labels_are_the_documented_ones() {
        let metrics = Metrics::default();
        metrics
            .events
            .get_or_create(&EventLabels {
                event: "ring",
                result: "settled",
            })
            .inc();
        metrics.reports_lost.inc();
        metrics.broker_connected.set(1);
        observe(&metrics.push_seconds, "ios", Duration::from_millis(3));
        let text = metrics.render(&LaneGauges::default());
        for line in [
            r#"ringpush_events_total{event="ring",result="settled"} 1"#,
            "ringpush_reports_lost_total 1",
            "ringpush_broker_connected 1",
            r#"ringpush_push_seconds_count{platform="ios"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}
