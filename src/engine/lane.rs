//! One push from permit to end, on the lane of its app, platform and
//! environment.
//!
//! The lane acts on classes of answers and knows no provider. Everything it
//! waits for is cut by the ring's deadline and by a cancel; a permit is never
//! held while a retry sleeps.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::Instrument as _;

use super::course::{Course, Next};
use super::history::Attempted;
use super::job::{End, Ending, Job};
use super::pause::{Change, Pause};
use super::settings::RetrySettings;
use crate::call::payload::Payload;
use crate::call::push::{Answer, Attempt, Class, Gate, PushClient, PushKind};
use crate::call::time::Timestamp;
use crate::metrics::{AttemptLabels, LaneLabels, Metrics, PlatformLabel, observe};
use crate::spans;

/// How much longer than the ring a client may take to end its attempt.
const CLIENT_GRACE: Duration = Duration::from_millis(250);

/// The way to one provider for one app and environment.
pub struct Lane {
    labels: LaneLabels,
    client: Arc<dyn PushClient>,
    permits: Arc<Semaphore>,
    pause: Pause,
    retry: RetrySettings,
    metrics: Metrics,
    busy: Busy,
    /// The answer that paused it.
    pause_reason: Mutex<Option<String>>,
}

/// What a lane has to do right now.
#[derive(Debug, Default)]
struct Busy {
    pushes: Gauge,
    attempts: Gauge,
}

/// How a lane is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStatus {
    /// For how long it has been paused, and the answer that paused it.
    pub paused: Option<(Duration, Option<String>)>,
    /// Why it could not send a push now.
    pub hindrance: Option<String>,
    /// Requests under way.
    pub in_flight: i64,
    /// Pushes that wait for a permit or for their next attempt.
    pub waiting: i64,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

/// What became of an attempt.
enum Sent {
    Answered(Answer),
    /// Taken back before the request went out.
    Cancelled,
    /// The client held on to it for too long; no request went out.
    TimedOut,
}

impl Lane {
    /// A lane over a client, with permits that it may share with others.
    #[must_use]
    pub fn new(
        labels: LaneLabels,
        client: Arc<dyn PushClient>,
        permits: Arc<Semaphore>,
        retry: RetrySettings,
        metrics: Metrics,
    ) -> Self {
        metrics.lane_paused.get_or_create(&labels).set(0);
        Self {
            labels,
            client,
            permits,
            pause: Pause::default(),
            retry,
            metrics,
            busy: Busy::default(),
            pause_reason: Mutex::default(),
        }
    }

    /// App, platform and environment.
    #[must_use]
    pub const fn labels(&self) -> &LaneLabels {
        &self.labels
    }

    /// Lets the next push of a paused lane try at once: credentials are new.
    pub fn probe_now(&self) {
        self.pause.probe_now();
    }

    /// Sets the gauge of its pause. Lanes that a reload has replaced have the
    /// same labels and may have written to it last.
    pub fn note_pause(&self) {
        let paused = self.pause.paused_for().is_some();
        let gauge = self.metrics.lane_paused.get_or_create(&self.labels);
        gauge.set(i64::from(paused));
    }

    /// Why this lane could not send a push now, if it could not.
    #[must_use]
    pub fn hindrance(&self) -> Option<String> {
        if self.pause.paused_for().is_some() {
            return Some("paused after repeated credential faults".to_owned());
        }
        self.client.hindrance()
    }

    /// How it is, for the status page.
    #[must_use]
    pub fn status(&self) -> LaneStatus {
        let in_flight = self.busy.attempts.get();
        LaneStatus {
            paused: self
                .pause
                .paused_for()
                .map(|span| (span, self.paused_by().clone())),
            hindrance: self.client.hindrance(),
            in_flight,
            waiting: (self.busy.pushes.get() - in_flight).max(0),
        }
    }

    /// Sends a push, until it is final.
    pub async fn push(&self, job: &Job<'_>) -> Ending {
        let _busy = InFlight::on(&self.busy.pushes);
        let mut course = Course::new(self.retry);
        let end = loop {
            let next = match self.attempt(job, &mut course).await {
                Ok(answer) => course.next(job, answer),
                Err(end) => break end,
            };
            match next {
                Next::End(end) => break end,
                Next::Again => {}
                Next::Wait { until } => {
                    tokio::select! {
                        () = sleep_until(until.min(job.deadline.instant())) => {}
                        () = job.cancelled() => {}
                    }
                }
            }
        };
        if let End::Answered(answer) = &end
            && Self::tells_of_lane(job, answer.class)
        {
            self.judge(answer.class, answer.reason.as_deref());
        }
        Ending {
            end,
            attempts: course.attempts,
            unclear: course.unclear,
        }
    }

    /// One attempt, or the reason why there is none.
    async fn attempt(&self, job: &Job<'_>, course: &mut Course) -> Result<Answer, End> {
        course.may_go_on(job)?;
        // Who was let in once may try again with what was renewed for it.
        let let_in = course.renewed;
        if !let_in && self.pause.refuses() {
            return Err(End::Paused);
        }
        let permit = tokio::select! {
            biased;
            permit = self.permits.acquire() => permit,
            () = sleep_until(job.deadline.instant()) => return Err(course.out_of_time()),
            () = job.cancelled() => return Err(course.cancelled()),
        };
        // Much may have happened while this waited.
        course.may_go_on(job)?;
        if !let_in && !self.pause.admits() {
            return Err(End::Paused);
        }
        let payload = (job.render)(job.deadline.now()).map_err(End::Refused)?;
        let (at, started) = (job.deadline.now(), Instant::now());
        let in_flight = self.in_flight();
        let gate = Gate::default();
        let LaneLabels {
            app,
            platform,
            environment,
        } = &self.labels;
        let span = spans::attempt(app, platform, environment);
        let sending = self.send(job, &payload, &gate).instrument(span.clone());
        let sent = sending.await;
        drop((in_flight, permit));
        match sent {
            Sent::Answered(answer) => {
                course.attempts += u32::from(answer.started);
                spans::answered(
                    &span,
                    answer.class.name(),
                    answer.reason.as_deref(),
                    answer.provider_id.as_deref(),
                    answer.status,
                );
                self.note(job, &answer, at, started.elapsed());
                Ok(answer)
            }
            Sent::Cancelled => Err(course.cancelled()),
            Sent::TimedOut => Err(course.out_of_time()),
        }
    }

    /// The client's answer, or why no request went out.
    async fn send(&self, job: &Job<'_>, payload: &Payload, gate: &Gate) -> Sent {
        let attempt = Attempt {
            id: job.id,
            kind: job.kind,
            token: job.token,
            payload,
            deadline: job.deadline.at(),
            time_left: job.deadline.left(),
            gate,
        };
        // Clients end by themselves within the time that is left; this only
        // makes sure of it.
        let limit = job.deadline.instant() + CLIENT_GRACE;
        let sending = timeout_at(limit, self.client.send(attempt));
        tokio::pin!(sending);
        let answer = tokio::select! {
            biased;
            answer = &mut sending => answer,
            () = job.cancelled() => {
                if gate.close() {
                    return Sent::Cancelled;
                }
                // On its way already: it finishes, and is not repeated.
                sending.await
            }
        };
        match answer {
            Ok(answer) => Sent::Answered(answer),
            Err(_) if gate.close() => Sent::TimedOut,
            Err(_) => Sent::Answered(Answer::new(Class::Unclear).because("timeout")),
        }
    }

    fn note(&self, job: &Job<'_>, answer: &Answer, at: Timestamp, took: Duration) {
        let platform = self.labels.platform;
        let labels = AttemptLabels {
            app: self.labels.app.clone(),
            platform,
            class: answer.class.name(),
        };
        self.metrics.attempts.get_or_create(&labels).inc();
        observe(&self.metrics.provider_seconds, platform, took);
        tracing::debug!(
            call_id = job.trail.call_id(), trace_id = job.trail.trace_id(), push_id = %job.id,
            class = answer.class.name(), reason = answer.reason, status = answer.status,
            provider_id = answer.provider_id,
            attempt_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "attempt"
        );
        job.trail.attempt(Attempted {
            at,
            took,
            class: answer.class.name(),
            reason: answer.reason.clone(),
            status: answer.status,
            environment: self.labels.environment,
            started: answer.started,
            detail: answer.detail.clone(),
        });
    }

    /// Whether a push's end says something about the lane's rings. An
    /// acceptance always does; a background push that is refused has a topic of
    /// its own and must not stop them.
    fn tells_of_lane(job: &Job<'_>, class: Class) -> bool {
        class == Class::Accepted || !(job.second_guess || job.kind == PushKind::Background)
    }

    /// Tells the lane how a push ended, so that it pauses or resumes.
    fn judge(&self, class: Class, reason: Option<&str>) {
        let paused = self.metrics.lane_paused.get_or_create(&self.labels);
        let LaneLabels {
            app,
            platform,
            environment,
        } = &self.labels;
        match self.pause.record(class) {
            Change::None => {}
            Change::Paused => {
                paused.set(1);
                *self.paused_by() = reason.map(str::to_owned);
                tracing::error!(
                    app,
                    platform,
                    environment,
                    reason,
                    "lane paused: credentials were refused several times in a row; check key, team, \
                     topic or service account, then send SIGHUP; one ring is tried now and then"
                );
            }
            Change::Resumed => {
                paused.set(0);
                tracing::warn!(
                    app,
                    platform,
                    environment,
                    "lane resumed: a push was accepted"
                );
            }
        }
    }

    fn paused_by(&self) -> MutexGuard<'_, Option<String>> {
        let reason = self.pause_reason.lock();
        reason.unwrap_or_else(PoisonError::into_inner)
    }

    fn in_flight(&self) -> [InFlight; 2] {
        let platform = self.labels.platform;
        let gauges = &self.metrics.in_flight;
        let gauge = gauges.get_or_create_owned(&PlatformLabel { platform });
        [InFlight::on(&gauge), InFlight::on(&self.busy.attempts)]
    }
}

/// Counts an attempt or a push for as long as it lives.
struct InFlight(Gauge);

impl InFlight {
    fn on(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
