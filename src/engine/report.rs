//! What is said of a push: outcome, log line, metrics, history.

use std::sync::Arc;

use super::deadline::wall_clock;
use super::dispatch::Dispatcher;
use super::history::{Subject, Trail};
use super::taken::Taken;
use super::verdict::Finding;
use crate::call::event::{BadDevice, Device, Environment, EventKind, Platform};
use crate::call::outcome::{PushOutcome, PushResult, Report, ReportBody};
use crate::metrics::{PushLabels, observe};
use crate::spans;

impl Dispatcher {
    /// Reports a device that cannot be pushed to.
    pub(super) fn reject(&self, taken: &Taken, bad: &BadDevice) {
        let finding =
            Finding::new(PushResult::Rejected, bad.reason).explained(Some(bad.error.to_string()));
        let outcome = PushOutcome {
            device_id: bad.id.clone(),
            app: bad.app.clone(),
            platform: bad.platform,
            ..outcome(taken, None, finding, 0)
        };
        let trail = self.history.open(Subject {
            device_id: bad.id.clone(),
            app: bad.app.clone(),
            platform: bad.platform,
            ..taken.subject_of_event()
        });
        self.publish_outcome(taken, outcome, &trail);
    }

    pub(super) fn report(
        &self,
        taken: &Taken,
        device: &Device,
        environment: Option<Environment>,
        finding: Finding,
        (attempts, trail): (u32, &Trail<'_>),
    ) {
        let outcome = PushOutcome {
            device_id: Some(Arc::clone(&device.id)),
            app: Some(Arc::clone(&device.app)),
            platform: device.platform,
            ..outcome(taken, environment, finding, attempts)
        };
        self.publish_outcome(taken, outcome, trail);
    }

    /// Counts, logs, remembers and publishes an outcome.
    fn publish_outcome(&self, taken: &Taken, outcome: PushOutcome, trail: &Trail<'_>) {
        let platform = outcome.platform.name();
        let known = outcome
            .app
            .as_ref()
            .filter(|app| self.routes().apps.contains_key(*app));
        let labels = PushLabels {
            app: known.map_or("unknown", |app| app).to_owned(),
            platform,
            event: outcome.event.name(),
            result: outcome.result.name(),
        };
        self.metrics.pushes.get_or_create(&labels).inc();
        observe(
            &self.metrics.push_seconds,
            platform,
            taken.instant.elapsed(),
        );
        if outcome.result == PushResult::Accepted && outcome.event == EventKind::Ring {
            let age = outcome.at.since(taken.event.sent_at);
            observe(&self.metrics.event_age_seconds, platform, age);
        }
        spans::push_ended(
            outcome.environment.map(Environment::name),
            outcome.result.name(),
            outcome.reason.as_deref(),
            outcome.attempts,
            outcome.result == PushResult::Accepted,
        );
        log(&outcome, trail.trace_id());
        trail.end(&outcome);
        self.publish(taken, ReportBody::Push(outcome));
    }

    pub(super) fn publish(&self, taken: &Taken, body: ReportBody) {
        let report = Report {
            body,
            call_id: Arc::clone(&taken.event.call_id),
            trace: Arc::clone(&taken.trace),
        };
        let receipt = taken.receipts.expect();
        self.reports.publish(report, receipt);
    }
}

/// An outcome that lacks nothing but its device.
fn outcome(
    taken: &Taken,
    environment: Option<Environment>,
    finding: Finding,
    attempts: u32,
) -> PushOutcome {
    let event = &taken.event;
    PushOutcome {
        at: wall_clock(),
        event: event.kind(),
        event_id: event.event_id,
        call_id: Arc::clone(&event.call_id),
        device_id: None,
        app: None,
        platform: Platform::Unknown,
        environment,
        result: finding.result,
        reason: finding.reason,
        detail: finding.detail,
        provider_id: finding.provider_id,
        attempts,
        queue_ms: millis(taken.at.since(event.sent_at)),
        push_ms: millis(taken.instant.elapsed()),
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One line per push, loud if the phone did not ring through somebody's fault.
fn log(outcome: &PushOutcome, trace_id: Option<&str>) {
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
        PushResult::Accepted => line!(debug),
        PushResult::Cancelled | PushResult::DeadToken => line!(info),
        PushResult::SuspectToken
        | PushResult::Rejected
        | PushResult::CredentialFault
        | PushResult::Expired => line!(warn),
    }
}
