//! The status page: made on the server, readable without its script.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::{Deserialize, Serialize};

use super::chart::{self, Bar, Latencies, Rates};
use super::lanes::{self, LaneView};
use super::status::{Insight, Readiness};
use super::story::{self, TimelineEntry};
use super::trace::{PushTrace, encoded, millis};
use crate::amqp::BrokerState;
use crate::engine::history::{Filter, Seen};

/// Pushes on the overview.
const RECENT: usize = 40;
/// Pushes of a call that is searched for.
const OF_CALL: usize = 200;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Templates and styles are part of the program.
const PAGE: &str = include_str!("assets/page.html");
/// The styles of the status page, for other pages that should look like it.
pub const STYLE: &str = include_str!("assets/page.css");
const SCRIPT: &str = include_str!("assets/page.js");

/// The page and whom it asks.
struct Page {
    insight: Arc<dyn Insight>,
    templates: Environment<'static>,
}

/// What the page shows.
#[derive(Serialize)]
struct View {
    version: &'static str,
    ready: bool,
    problems: Vec<String>,
    started: String,
    uptime: String,
    now: String,
    under_way: usize,
    reports_lost: u64,
    broker: Option<BrokerView>,
    lanes: Vec<LaneView>,
    lanes_left_out: usize,
    rates: Rates,
    latencies: Latencies,
    totals: Totals,
    pushes: Vec<PushView>,
    remembered: usize,
    limit: usize,
    search: Option<String>,
    /// There are more pushes of the call than are shown.
    more: bool,
    only_failed: bool,
}

#[derive(Serialize)]
struct BrokerView {
    state: &'static str,
    tone: &'static str,
    why: Option<String>,
}

/// Pushes since the start.
#[derive(Serialize)]
struct Totals {
    accepted: u64,
    failed: u64,
    cancelled: u64,
}

#[derive(Serialize)]
struct PushView {
    #[serde(flatten)]
    push: PushTrace,
    /// The call's id for a query.
    link: String,
    time: String,
    date: String,
    deadline: String,
    tone: &'static str,
    result: String,
    tries: u32,
    took: Option<String>,
    bars: Vec<Bar>,
    lines: Vec<TimelineEntry>,
    open: bool,
}

/// The question.
#[derive(Debug, Deserialize)]
struct Question {
    call_id: Option<String>,
    show: Option<String>,
}

/// The page's addresses.
///
/// # Errors
/// The template is broken; a test finds that first.
pub(super) fn routes(insight: Arc<dyn Insight>) -> Result<Router, minijinja::Error> {
    let page = Arc::new(Page::new(insight)?);
    let text = |kind, text| get(move || async move { ([(header::CONTENT_TYPE, kind)], text) });
    Ok(Router::new()
        .route("/", get(overview))
        .route("/page.css", text("text/css; charset=utf-8", STYLE))
        .route("/page.js", text("text/javascript; charset=utf-8", SCRIPT))
        .with_state(page))
}

async fn overview(State(page): State<Arc<Page>>, Query(question): Query<Question>) -> Response {
    match page.render(&question) {
        Ok(text) => Html(text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the status page could not be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

impl Page {
    fn new(insight: Arc<dyn Insight>) -> Result<Self, minijinja::Error> {
        let mut templates = Environment::new();
        templates.set_auto_escape_callback(|_| AutoEscape::Html);
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.add_template("page.html", PAGE)?;
        Ok(Self { insight, templates })
    }

    fn render(&self, question: &Question) -> Result<String, minijinja::Error> {
        let template = self.templates.get_template("page.html")?;
        template.render(Serde(self.view(question)))
    }

    fn view(&self, question: &Question) -> View {
        let insight = &self.insight;
        let Readiness { ready, problems } = insight.readiness();
        let status = insight.status();
        let history = insight.history();
        let search = question.call_id.as_deref().map(str::trim);
        let search = search.filter(|id| !id.is_empty());
        let only_failed = search.is_none() && question.show.as_deref() == Some("failed");
        let (wanted, most) = match search {
            Some(id) => (Filter::Call(id), OF_CALL),
            None if only_failed => (Filter::Failed, RECENT),
            None => (Filter::All, RECENT),
        };
        let mut seen = history.last(most + 1, wanted);
        let more = seen.len() > most;
        seen.truncate(most);
        let now = status.now;
        let (steps, total) = history.rates(chart::STEP);
        let (lanes, lanes_left_out) = lanes::views(&status);
        View {
            version: env!("CARGO_PKG_VERSION"),
            ready,
            problems,
            started: if now.since(status.started) < DAY {
                clock(&status.started.to_string())[1][..5].to_owned()
            } else {
                clock(&status.started.to_string())[0].to_owned()
            },
            uptime: chart::age(now.since(status.started)),
            now: clock(&now.to_string())[1].to_owned(),
            under_way: status.under_way,
            reports_lost: status.reports_lost,
            broker: status.broker.as_ref().map(BrokerView::of),
            lanes,
            lanes_left_out,
            rates: chart::rates(&steps),
            latencies: chart::latencies(&history.latencies()),
            totals: Totals {
                accepted: total.accepted,
                failed: total.failed,
                cancelled: total.cancelled,
            },
            pushes: seen
                .iter()
                .map(|seen| PushView::of(seen, now, search.is_some()))
                .collect(),
            remembered: history.size().0,
            limit: history.capacity().pushes,
            search: search.map(str::to_owned),
            more,
            only_failed,
        }
    }
}

impl BrokerView {
    fn of(broker: &BrokerState) -> Self {
        let (state, tone, why) = if !broker.connected {
            let why = broker.error.clone();
            ("not connected", "bad", why.or(Some("connecting".into())))
        } else if let Some(why) = &broker.blocked {
            let why = format!("{why}; rings go on, reports wait");
            ("blocks publishing", "warn", Some(why))
        } else {
            ("connected", "good", None)
        };
        Self { state, tone, why }
    }
}

impl PushView {
    fn of(seen: &Seen, now: crate::call::time::Timestamp, open: bool) -> Self {
        let mut push = PushTrace::of(seen);
        let age = millis(now.since(seen.subject.taken_at));
        let [date, time] = clock(&push.taken_at).map(str::to_owned);
        push.platform = lanes::platform(&push.platform).to_owned();
        let end = push.outcome.as_ref();
        Self {
            result: story::words(end.map_or(&push.state, |end| &end.result)),
            tone: story::tone(&push),
            tries: push.tries(),
            took: end.map(|end| chart::span(end.push_ms)),
            bars: chart::timeline(&push, age),
            lines: story::tell(&push),
            date,
            deadline: clock(&push.expires_at)[1].to_owned(),
            time,
            link: encoded(&push.call_id),
            push,
            open,
        }
    }
}

/// Day and time of day of an RFC 3339 time in UTC.
fn clock(time: &str) -> [&str; 2] {
    let (day, time) = time.split_once('T').unwrap_or(("", time));
    [day, time.trim_end_matches('Z')]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::status::{Connections, Credential, Lane, Status};
    use crate::call::time::Timestamp;
    use crate::engine::history::History;

    /// A worker of which nothing works.
    #[derive(Default)]
    struct Broken {
        history: History,
        blocked: bool,
    }

    impl Insight for Broken {
        fn readiness(&self) -> Readiness {
            Readiness {
                ready: false,
                problems: vec!["broker: <b>away</b>".to_owned()],
            }
        }

        fn metrics(&self) -> String {
            String::new()
        }

        fn status(&self) -> Status {
            let day = 24 * 3_600_000;
            let lane = Lane {
                canary: None,
                app: "com.example.calls".to_owned(),
                platform: "ios",
                environment: "sandbox",
                paused: Some((Duration::from_secs(90), Some("InvalidProviderToken".into()))),
                why_not_ready: Some("no connection to APNs: refused".to_owned()),
                in_flight: 3,
                waiting: 4,
                connections: Connections {
                    wanted: 2,
                    suspect: 1,
                    connecting: 1,
                    error: Some("refused".to_owned()),
                    ..Connections::default()
                },
                credential: Credential::Certificate {
                    expires: Timestamp::from_millis(13 * day),
                },
                brake: true,
            };
            Status {
                started: Timestamp::from_millis(0),
                now: Timestamp::from_millis(3 * day),
                under_way: 1,
                reports_lost: 12,
                broker: Some(BrokerState {
                    connected: self.blocked,
                    blocked: self.blocked.then(|| "low on memory".to_owned()),
                    error: Some("connection refused".to_owned()),
                }),
                lanes: vec![lane; 150],
            }
        }

        fn history(&self) -> &History {
            &self.history
        }
    }

    fn page(insight: Broken) -> String {
        let page = Page::new(Arc::new(insight)).unwrap();
        let question = Question {
            call_id: None,
            show: None,
        };
        page.render(&question).unwrap()
    }

    #[test]
    fn whatever_is_wrong_is_on_the_page() {
        let text = page(Broken::default());
        for wanted in [
            "not ready",
            "not connected",
            "connection refused",
            "broker: &lt;b&gt;away",
            "12 reports were given up",
            "for 90 s, after InvalidProviderToken five times in a row",
            "no connection to APNs: refused",
            "too many bad tokens",
            "0 of 2 ready",
            "1 suspect, 1 connecting: refused",
            "certificate, 10 days left",
            "and 50 more",
            "up 3 days, since 1970-01-01 UTC",
        ] {
            assert!(text.contains(wanted), "{wanted} is not in:\n{text}");
        }
        let blocked = Broken {
            blocked: true,
            ..Broken::default()
        };
        let text = page(blocked);
        assert!(text.contains("blocks publishing"), "{text}");
        assert!(text.contains("low on memory; rings go on, reports wait"));
    }
}
