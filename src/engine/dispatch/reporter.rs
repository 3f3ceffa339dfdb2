//! What is said of a push: report, log line, metrics, history.

use std::sync::Arc;

use super::received::Received;
use crate::call::event::{BadDevice, Device, Environment, EventKind, Platform};
use crate::call::outcome::{
    Outcomes, PushOutcome, PushResult, Report, ReportBody, TokenEvent, Unreachable,
};
use crate::call::secret::Secret;
use crate::engine::deadline::wall_clock;
use crate::engine::history::{History, Subject, Trail};
use crate::engine::lane::Lane;
use crate::engine::tokens::Finding;
use crate::metrics::{Metrics, PushLabels, TokenLabels, observe};
use crate::spans;

/// Says what became of pushes, tokens and calls, to everybody who is to know.
pub(super) struct Reporter {
    outcomes: Arc<dyn Outcomes>,
    metrics: Metrics,
    /// The last pushes, for the status page and `trace`.
    pub(super) history: History,
}

/// How a device's push ended, to be reported.
pub(super) struct Ended<'a> {
    /// The lane that was asked last; none if there was no route.
    pub(super) lane: Option<&'a Lane>,
    pub(super) environment: Option<Environment>,
    /// Requests that were started.
    pub(super) attempts: u32,
    pub(super) finding: Finding,
}

impl Reporter {
    pub(super) fn new(outcomes: Arc<dyn Outcomes>, metrics: Metrics) -> Self {
        Self {
            outcomes,
            metrics,
            history: History::default(),
        }
    }

    /// Waits until all reports of a message are safe or may be given up;
    /// `false` if that will not happen any more.
    pub(super) async fn safe(&self, platform: Platform, event: &Received) -> bool {
        self.outcomes.until_safe(platform, &event.receipts).await
    }

    /// Reports a device that cannot be pushed to.
    pub(super) fn reject(&self, event: &Received, bad: &BadDevice) {
        let finding =
            Finding::new(PushResult::Rejected, bad.reason).explained(Some(bad.error.to_string()));
        let outcome = PushOutcome {
            device_id: bad.id.clone(),
            app: bad.app.clone(),
            platform: bad.platform,
            ..outcome(event, None, finding, 0)
        };
        let trail = self.history.open(Subject {
            device_id: bad.id.clone(),
            app: bad.app.clone(),
            platform: bad.platform,
            ..event.subject_of_event()
        });
        self.publish_outcome(event, outcome, None, trail, false);
    }

    /// Reports how a device's push ended.
    pub(super) fn ended(
        &self,
        event: &Received,
        device: &Device,
        ended: Ended<'_>,
        trail: Trail<'_>,
    ) {
        let ours = ended.finding.ours;
        let mut finding = ended.finding;
        if let Some(ignored) = &device.ignored {
            let detail = finding.detail.take();
            let detail = detail.map_or_else(String::new, |detail| detail + "; ");
            finding.detail = Some(detail + ignored);
        }
        let outcome = PushOutcome {
            device_id: Some(Arc::clone(&device.id)),
            app: Some(Arc::clone(&device.app)),
            platform: device.platform,
            ..outcome(event, ended.environment, finding, ended.attempts)
        };
        self.publish_outcome(event, outcome, ended.lane, trail, ours);
    }

    /// Reports a token's verdict, if an answer led to one.
    pub(super) fn token(
        &self,
        event: &Received,
        device: &Device,
        token: &Secret,
        environment: Option<Environment>,
        finding: &Finding,
    ) {
        let Some(verdict) = finding.token else {
            return;
        };
        let labels = TokenLabels {
            platform: device.platform.name(),
            verdict: verdict.name(),
        };
        self.metrics.tokens.get_or_create(&labels).inc();
        let body = ReportBody::Token(TokenEvent {
            at: wall_clock(),
            verdict,
            reason: finding.reason.clone(),
            app: Arc::clone(&device.app),
            platform: device.platform,
            environment,
            device_id: Arc::clone(&device.id),
            token: token.clone(),
            target: device.target,
            registered_at: device.registered_at,
            provider_timestamp: finding.provider_timestamp,
        });
        self.publish(event, body);
    }

    /// Reports that no device of a ring message was reached.
    pub(super) fn unreachable(&self, event: &Received, unreachable: Unreachable) {
        self.publish(event, ReportBody::Unreachable(unreachable));
    }

    /// Counts, logs, remembers and publishes an outcome.
    fn publish_outcome(
        &self,
        event: &Received,
        outcome: PushOutcome,
        lane: Option<&Lane>,
        trail: Trail<'_>,
        ours: bool,
    ) {
        self.count(event, &outcome, lane);
        spans::push_ended(
            outcome.environment.map(Environment::name),
            outcome.result.name(),
            outcome.reason.as_deref(),
            outcome.attempts,
            outcome.result == PushResult::Accepted,
        );
        log(&outcome, event.trace.trace_id(), ours);
        trail.end(&outcome);
        self.publish(event, ReportBody::Push(outcome));
    }

    fn count(&self, event: &Received, outcome: &PushOutcome, lane: Option<&Lane>) {
        let took = event.instant.elapsed();
        if let Some(lane) = lane {
            let rang = outcome.result == PushResult::Accepted && outcome.event == EventKind::Ring;
            let age = rang.then(|| outcome.at.since(event.event.sent_at));
            lane.count(outcome, took, age);
            return;
        }
        let platform = outcome.platform.name();
        let known = outcome
            .app
            .as_ref()
            .filter(|app| event.routes.apps.contains_key(*app));
        let labels = PushLabels {
            app: known.map_or("unknown", |app| app).to_owned(),
            platform,
            event: outcome.event.name(),
            result: outcome.result.name(),
        };
        self.metrics.pushes.get_or_create(&labels).inc();
        observe(&self.metrics.push_seconds, platform, took);
    }

    fn publish(&self, event: &Received, body: ReportBody) {
        let report = Report {
            body,
            call_id: Arc::clone(&event.event.call_id),
            trace: Arc::clone(&event.trace),
        };
        self.outcomes.publish(report, event.receipts.expect());
    }
}

/// An outcome that lacks nothing but its device.
fn outcome(
    event: &Received,
    environment: Option<Environment>,
    finding: Finding,
    attempts: u32,
) -> PushOutcome {
    PushOutcome {
        at: wall_clock(),
        event: event.event.kind(),
        event_id: event.event.event_id,
        call_id: Arc::clone(&event.event.call_id),
        device_id: None,
        app: None,
        platform: Platform::Unknown,
        environment,
        result: finding.result,
        reason: finding.reason,
        detail: finding.detail,
        provider_id: finding.provider_id,
        attempts,
        queue_ms: millis(event.at.since(event.event.sent_at)),
        push_ms: millis(event.instant.elapsed()),
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One line per push, loud if the phone did not ring through somebody's fault,
/// and loudest if through `ours`.
fn log(outcome: &PushOutcome, trace_id: Option<&str>, ours: bool) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                event = outcome.event.name(),
                event_id = %outcome.event_id,
                call_id = &*outcome.call_id,
                trace_id,
                device_id = outcome.device_id.as_deref(),
                app = outcome.app.as_deref(),
                platform = outcome.platform.name(),
                environment = outcome.environment.map(Environment::name),
                result = outcome.result.name(),
                reason = outcome.reason,
                detail = outcome.detail,
                provider_id = outcome.provider_id,
                attempts = outcome.attempts,
                queue_ms = outcome.queue_ms,
                push_ms = outcome.push_ms,
                "push"
            )
        };
    }
    match outcome.result {
        _ if ours => line!(error),
        PushResult::Accepted => line!(debug),
        PushResult::Cancelled | PushResult::DeadToken => line!(info),
        PushResult::SuspectToken
        | PushResult::Rejected
        | PushResult::CredentialFault
        | PushResult::Expired => line!(warn),
    }
}
