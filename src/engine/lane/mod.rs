//! One push from permit to end, on the lane of its app, platform and
//! environment: [`Lane::push`].
//!
//! The lane acts on classes of answers and knows no provider. Everything it
//! waits for is cut by the ring's deadline and by a cancel; a permit is never
//! held while a retry sleeps.

mod meters;
mod pause;
mod retry;

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::Instrument as _;

use self::meters::Meters;
use self::pause::{Pause, PauseChange};
use self::retry::{Next, Retry};
use super::history::Attempted;
use super::push::{End, Push, PushEnd};
use super::settings::RetrySettings;
use super::tokens::Brake;
use crate::call::outcome::PushOutcome;
use crate::call::payload::Payload;
use crate::call::push::{Answer, Attempt, Class, Gate, PushClient, PushKind};
use crate::call::time::Timestamp;
use crate::metrics::{LaneLabels, Metrics};
use crate::spans;

/// How much longer than the ring a client may take to end its attempt.
const CLIENT_GRACE: Duration = Duration::from_millis(250);

/// The way to one provider for one app and environment.
pub struct Lane {
    client: Arc<dyn PushClient>,
    permits: Arc<Semaphore>,
    /// The brake on what is said of tokens; it outlives the lane when
    /// credentials change.
    pub brake: Arc<Brake>,
    pause: Pause,
    retry: RetrySettings,
    meters: Meters,
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
    pub why_not_ready: Option<String>,
    /// Requests under way.
    pub in_flight: i64,
    /// Pushes that wait for a permit or for their next attempt.
    pub waiting: i64,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("labels", self.labels())
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
        brake: Arc<Brake>,
        retry: RetrySettings,
        metrics: &Metrics,
    ) -> Self {
        Self {
            client,
            permits,
            brake,
            pause: Pause::default(),
            retry,
            meters: Meters::new(labels, metrics),
            busy: Busy::default(),
            pause_reason: Mutex::default(),
        }
    }

    /// App, platform and environment.
    #[must_use]
    pub const fn labels(&self) -> &LaneLabels {
        &self.meters.labels
    }

    /// Counts a push of this lane that is final, so long after it was taken;
    /// `age` is what passed since an accepted ring was sent.
    pub fn count(&self, outcome: &PushOutcome, took: Duration, age: Option<Duration>) {
        self.meters.push(outcome, took, age);
    }

    /// Lets the next push of a paused lane try at once: credentials are new.
    pub fn probe_now(&self) {
        self.pause.probe_now();
    }

    /// Whether it counts for readiness: one that waits for its first push to
    /// connect is neither ready nor in trouble.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.client.is_used()
    }

    /// Why this lane could not send a push now, if it could not.
    #[must_use]
    pub fn why_not_ready(&self) -> Option<String> {
        if self.pause.paused_for().is_some() {
            return Some("paused after repeated credential faults".to_owned());
        }
        self.client.why_not_ready()
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
            why_not_ready: self.client.why_not_ready().filter(|_| self.is_used()),
            in_flight,
            waiting: (self.busy.pushes.get() - in_flight).max(0),
        }
    }

    /// Sends a push, until it is final.
    pub async fn push(&self, push: &Push<'_>) -> PushEnd {
        let _busy = InFlight::on(&self.busy.pushes);
        let mut retry = Retry::new(self.retry);
        let end = loop {
            let next = match self.attempt(push, &mut retry).await {
                Ok(answer) => retry.next(push, answer),
                Err(end) => break end,
            };
            match next {
                Next::End(end) => break end,
                Next::Again => {}
                Next::Wait { until } => {
                    tokio::select! {
                        () = sleep_until(until.min(push.deadline.instant())) => {}
                        () = push.cancelled() => {}
                    }
                }
            }
        };
        if let End::Answered(answer) = &end
            && Self::tells_of_lane(push, answer.class)
        {
            self.judge(answer.class, answer.reason.as_deref());
        }
        PushEnd {
            end,
            attempts: retry.attempts,
            unclear: retry.unclear,
        }
    }

    /// One attempt, or the reason why there is none.
    async fn attempt(&self, push: &Push<'_>, retry: &mut Retry) -> Result<Answer, End> {
        retry.may_go_on(push)?;
        // Who was let in once may try again with what was renewed for it.
        let let_in = retry.renewed;
        if !let_in && self.pause.refuses() {
            return Err(End::Paused);
        }
        let permit = self.permit(push, retry).await?;
        if !let_in && !self.pause.admits() {
            return Err(End::Paused);
        }
        let payload = (push.render)(push.deadline.now()).map_err(End::Refused)?;
        let (at, started) = (push.deadline.now(), Instant::now());
        let in_flight = self.in_flight();
        let gate = Gate::default();
        let LaneLabels {
            app,
            platform,
            environment,
        } = self.labels();
        let span = spans::attempt(app, platform, environment);
        let sending = pin!(self.send(push, &payload, &gate));
        let sent = sending.instrument(span.clone()).await;
        drop((in_flight, permit));
        match sent {
            Sent::Answered(answer) => {
                retry.attempts += u32::from(answer.started);
                spans::answered(
                    &span,
                    answer.class.name(),
                    answer.reason.as_deref(),
                    answer.provider_id.as_deref(),
                    answer.status,
                );
                self.note(push, &answer, at, started.elapsed());
                Ok(answer)
            }
            Sent::Cancelled => Err(retry.cancelled()),
            Sent::TimedOut => Err(retry.out_of_time()),
        }
    }

    /// Waits for a permit, and looks again after that: much may have happened.
    async fn permit(&self, push: &Push<'_>, retry: &mut Retry) -> Result<SemaphorePermit<'_>, End> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let permit = tokio::select! {
            biased;
            permit = self.permits.acquire() => permit,
            () = sleep_until(push.deadline.instant()) => return Err(retry.out_of_time()),
            () = push.cancelled() => return Err(retry.cancelled()),
        };
        retry.may_go_on(push)?;
        // It is never closed.
        permit.map_err(|_| retry.out_of_time())
    }

    /// The client's answer, or why no request went out.
    async fn send(&self, push: &Push<'_>, payload: &Payload, gate: &Gate) -> Sent {
        let attempt = Attempt {
            id: push.id,
            kind: push.kind,
            token: push.token,
            target: push.target,
            payload,
            deadline: push.deadline.at(),
            time_left: push.deadline.left(),
            gate,
        };
        // Clients end by themselves within the time that is left; this only
        // makes sure of it.
        let limit = push.deadline.instant() + CLIENT_GRACE;
        let sending = timeout_at(limit, self.client.send(attempt));
        tokio::pin!(sending);
        let answer = tokio::select! {
            biased;
            answer = &mut sending => answer,
            () = push.cancelled() => {
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

    fn note(&self, push: &Push<'_>, answer: &Answer, at: Timestamp, took: Duration) {
        self.meters.attempt(answer.class, took);
        tracing::debug!(
            call_id = push.call_id, trace_id = push.trace_id, push_id = %push.id,
            class = answer.class.name(), reason = answer.reason, status = answer.status,
            provider_id = answer.provider_id,
            attempt_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "attempt"
        );
        push.trail.attempt(Attempted {
            at,
            took,
            class: answer.class.name(),
            reason: answer.reason.clone(),
            status: answer.status,
            environment: self.labels().environment,
            started: answer.started,
            detail: answer.detail.clone(),
        });
    }

    /// Whether a push's end says something about the lane's rings. An
    /// acceptance always does; a background push that is refused has a topic of
    /// its own and must not stop them.
    fn tells_of_lane(push: &Push<'_>, class: Class) -> bool {
        class == Class::Accepted || !(push.second_guess || push.kind == PushKind::Background)
    }

    /// Tells the lane how a push ended, so that it pauses or resumes.
    fn judge(&self, class: Class, reason: Option<&str>) {
        let LaneLabels {
            app,
            platform,
            environment,
        } = self.labels();
        match self.pause.record(class) {
            PauseChange::None => {}
            PauseChange::Paused => {
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
            PauseChange::Resumed => {
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

    fn in_flight(&self) -> [InFlight<'_>; 2] {
        [&self.meters.in_flight, &self.busy.attempts].map(InFlight::on)
    }
}

/// Counts an attempt or a push for as long as it lives.
struct InFlight<'a>(&'a Gauge);

impl<'a> InFlight<'a> {
    fn on(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
