//! One device's part of an event: its push, its outcome, its token's verdict.

use std::sync::Arc;
use std::time::Instant;

use super::calls::{Call, RingState};
use super::deadline::{Deadline, wall_clock};
use super::dispatch::Dispatcher;
use super::flights::Entered;
use super::history::{Subject, Trail};
use super::lane::{CancelWatch, End, Ending, Job, Refusal};
use super::routes::{Direction, IosRoutes, NoRoute, Route, Way};
use super::verdict::{Finding, TokenFacts, judge, undecided};
use crate::call::event::{
    Action, BadDevice, Data, Device, Environment, EnvironmentChoice, Event, EventKind, Platform,
};
use crate::call::ids::push_id;
use crate::call::outcome::{
    PushOutcome, PushResult, Receipt, Report, ReportBody, TokenEvent, TraceContext,
};
use crate::call::payload::{CancelMode, Payload, PayloadError};
use crate::call::push::{Class, PushKind};
use crate::call::secret::Secret;
use crate::call::time::Timestamp;
use crate::metrics::{PushLabels, TokenLabels, observe};

/// An event as it was taken from its queue.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The event.
    pub event: Arc<Event>,
    /// Its deadline on our clock.
    pub deadline: Deadline,
    /// When it was taken, on the wall clock.
    pub at: Timestamp,
    /// The same on our own clock.
    pub instant: Instant,
    /// The trace that it belongs to.
    pub trace: Arc<TraceContext>,
}

impl Taken {
    /// What the history is told of a push.
    fn subject(&self, device: &Device, token: Option<&Secret>) -> Subject {
        Subject {
            device_id: Some(Arc::clone(&device.id)),
            app: Some(Arc::clone(&device.app)),
            platform: device.platform,
            token: token.map(Secret::shortened),
            ..self.subject_of_event()
        }
    }

    fn subject_of_event(&self) -> Subject {
        Subject {
            event_id: self.event.event_id,
            kind: self.event.kind(),
            call_id: Arc::clone(&self.event.call_id),
            device_id: None,
            app: None,
            platform: Platform::Unknown,
            token: None,
            sent_at: self.event.sent_at,
            taken_at: self.at,
            deadline: self.deadline.at(),
            trace_id: self.trace.trace_id().map(str::to_owned),
        }
    }
}

/// What came of one device.
#[derive(Debug)]
pub enum Done {
    /// It is final, and these reports say so.
    Final(PushResult, Vec<Receipt>),
    /// It is or was made final by another message.
    Elsewhere(PushResult),
    /// There was nothing to send and nothing to report.
    Nothing,
    /// The one who did it gave up half-way: the message must stay.
    Unfinished,
}

/// How a push went over one or two routes.
struct Trip {
    route: Arc<Route>,
    environment: Option<Environment>,
    ending: Ending,
    finding: Option<Finding>,
}

impl Trip {
    fn ended(route: &Arc<Route>, environment: Environment, ending: Ending) -> Self {
        Self {
            route: Arc::clone(route),
            environment: Some(environment),
            ending,
            finding: None,
        }
    }
}

/// What goes into a push beside the event.
struct Parcel<'a> {
    kind: PushKind,
    token: &'a Secret,
    call: Option<&'a Call>,
}

impl Dispatcher {
    /// Rings one device, once.
    pub(super) async fn ring(&self, taken: &Taken, device: &Arc<Device>) -> Done {
        let event = &taken.event;
        self.once(taken, device, async |id| {
            let call = self.calls.get(&event.call_id);
            let kept = self.repeats_ring(event, device).then_some(event);
            call.begin_ring(&device.id, kept);
            let parcel = Parcel {
                kind: PushKind::Call,
                token: &device.token,
                call: Some(&call),
            };
            let (result, unclear, mut receipts) = self.deliver(taken, device, id, &parcel).await;
            let state = match result {
                PushResult::Accepted => RingState::Accepted,
                PushResult::DeadToken
                | PushResult::SuspectToken
                | PushResult::Rejected
                | PushResult::CredentialFault
                | PushResult::Expired
                | PushResult::Cancelled => {
                    if unclear {
                        RingState::Unclear
                    } else {
                        RingState::NotSent
                    }
                }
            };
            call.end_ring(&device.id, state);
            // It rings although the caller gave up while the push was on its
            // way: nobody else knows, so the cancel is pushed from here.
            if state != RingState::NotSent
                && let Some(cancel) = call.cancel_to_push(&device.id, event.sent_at)
                && let Done::Final(_, more) =
                    self.push_cancel(&cancel, &device.id, &taken.trace).await
            {
                receipts.extend(more);
            }
            (result, receipts)
        })
        .await
    }

    /// Pushes a cancel to one of the devices that it lists.
    async fn push_cancel(
        &self,
        cancel: &Arc<Event>,
        device: &str,
        trace: &Arc<TraceContext>,
    ) -> Done {
        let listed = cancel
            .devices()
            .iter()
            .find_map(|entry| match &entry.device {
                Ok(listed) if &*listed.id == device => Some(listed),
                Ok(_) | Err(_) => None,
            });
        match listed {
            Some(listed) => {
                let taken = Taken::now(Arc::clone(cancel), Arc::clone(trace), self.ring.max_ttl);
                Box::pin(self.cancel(&taken, listed)).await
            }
            None => Done::Nothing,
        }
    }

    /// Whether this ring's cancel has to say again what the ring said.
    fn repeats_ring(&self, event: &Event, device: &Device) -> bool {
        let direction = self.routes().find(event.profile.as_ref(), device);
        direction.is_ok_and(|direction| direction.cancel == CancelMode::Voip)
    }

    /// Where a cancel goes: by its own profile, or by its ring's.
    pub(super) fn cancel_direction(
        &self,
        cancel: &Event,
        device: &Device,
    ) -> Result<Direction, NoRoute> {
        let ring = self.calls.get(&cancel.call_id).own_ring(&device.id);
        let profile = cancel
            .profile
            .as_ref()
            .or(ring.as_ref().and_then(|ring| ring.profile.as_ref()));
        self.routes().find(profile, device)
    }

    /// Pushes a cancel to one device, once, if the phone may be ringing.
    pub(super) async fn cancel(&self, taken: &Taken, device: &Arc<Device>) -> Done {
        let direction = self.cancel_direction(&taken.event, device);
        let mode = direction
            .as_ref()
            .map_or(CancelMode::None, |direction| direction.cancel);
        if direction.is_ok_and(|direction| !direction.pushes_cancel) {
            return Done::Nothing;
        }
        let call = self.calls.get(&taken.event.call_id);
        let own_ring =
            tokio::time::timeout_at(taken.deadline.instant(), call.ring(&device.id)).await;
        let own_ring = own_ring.unwrap_or(Some(RingState::Unclear));
        // A phone that got nothing has nothing to stop; and a VoIP cancel
        // where no ring came before would ring by itself.
        let pointless = own_ring == Some(RingState::NotSent)
            || (mode == CancelMode::Voip && own_ring != Some(RingState::Accepted));
        if pointless {
            return Done::Nothing;
        }
        let ring = call.own_ring(&device.id);
        if let Some(ring) = ring.filter(|_| mode == CancelMode::Voip) {
            let (event, device) = repeated(&taken.event, &ring, device);
            let mut taken = taken.clone();
            taken.event = Arc::new(event);
            return self.push_cancel_to(&taken, &device, mode).await;
        }
        self.push_cancel_to(taken, device, mode).await
    }

    async fn push_cancel_to(&self, taken: &Taken, device: &Arc<Device>, mode: CancelMode) -> Done {
        self.once(taken, device, async |id| {
            let (kind, token) = match (device.platform, mode) {
                (Platform::Ios, CancelMode::Background) => {
                    (PushKind::Background, device.alert_token.as_ref())
                }
                _ => (PushKind::Call, Some(&device.token)),
            };
            let Some(token) = token else {
                let detail = "the profile cancels by background pushes, which need alert_token";
                let finding = Finding::new(PushResult::Rejected, "missing_alert_token")
                    .explained(Some(detail.to_owned()));
                let trail = self.history.open(taken.subject(device, None));
                let receipts = self.report(taken, device, None, finding, (0, &trail));
                return (PushResult::Rejected, receipts);
            };
            let parcel = Parcel {
                kind,
                token,
                call: None,
            };
            let (result, _, receipts) = self.deliver(taken, device, id, &parcel).await;
            (result, receipts)
        })
        .await
    }

    /// Does the work unless it is done or under way already.
    async fn once(
        &self,
        taken: &Taken,
        device: &Device,
        work: impl AsyncFnOnce(uuid::Uuid) -> (PushResult, Vec<Receipt>),
    ) -> Done {
        let id = push_id(taken.event.event_id, &device.id);
        let flight = match self.under_way.enter(&id) {
            Entered::First(flight) => flight,
            Entered::Second(landing) => {
                return landing
                    .wait()
                    .await
                    .map_or(Done::Unfinished, Done::Elsewhere);
            }
        };
        if let Some(result) = self.finished.get(&id) {
            return Done::Elsewhere(result);
        }
        let (result, receipts) = work(id).await;
        self.finished.insert(id, result);
        flight.land(result);
        Done::Final(result, receipts)
    }

    /// Sends a push over its route and reports how that ended. The second
    /// value tells whether the phone may have got it all the same.
    async fn deliver(
        &self,
        taken: &Taken,
        device: &Device,
        id: uuid::Uuid,
        parcel: &Parcel<'_>,
    ) -> (PushResult, bool, Vec<Receipt>) {
        let trail = self.history.open(taken.subject(device, Some(parcel.token)));
        let direction = match self.routes().find(taken.event.profile.as_ref(), device) {
            Ok(direction) => direction,
            Err(none) => {
                let finding = Finding::new(PushResult::Rejected, none.reason)
                    .explained(Some(none.detail.to_owned()));
                return (
                    finding.result,
                    false,
                    self.report(taken, device, None, finding, (0, &trail)),
                );
            }
        };
        let trip = self
            .travel(taken, device, id, parcel, &direction, &trail)
            .await;
        let facts = TokenFacts {
            token: parcel.token,
            registered_at: device.registered_at,
            ordinary: parcel.kind == PushKind::Background,
        };
        let Trip {
            route,
            environment,
            ending,
            finding,
        } = trip;
        let finding = finding.unwrap_or_else(|| judge(&ending, &route, facts));
        if let Some(verdict) = finding.token {
            let labels = TokenLabels {
                platform: device.platform.name(),
                verdict: verdict.name(),
            };
            self.metrics.tokens.get_or_create(&labels).inc();
        }
        let token = finding.token.map(|verdict| {
            ReportBody::Token(TokenEvent {
                at: wall_clock(),
                verdict,
                reason: finding.reason.clone(),
                app: Arc::clone(&device.app),
                platform: device.platform,
                environment,
                device_id: Arc::clone(&device.id),
                token: parcel.token.clone(),
                registered_at: device.registered_at,
                provider_timestamp: finding.provider_timestamp,
            })
        });
        let result = finding.result;
        let course = (ending.attempts, &trail);
        let mut receipts = self.report(taken, device, environment, finding, course);
        receipts.extend(token.map(|body| self.publish(taken, body)));
        (result, ending.unclear, receipts)
    }

    /// One push over its route, or over two for an `auto` environment.
    async fn travel(
        &self,
        taken: &Taken,
        device: &Device,
        id: uuid::Uuid,
        parcel: &Parcel<'_>,
        direction: &Direction,
        trail: &Trail<'_>,
    ) -> Trip {
        let render = |now: Timestamp| render(direction, &taken.event, device, now);
        let job = Job {
            id,
            kind: parcel.kind,
            token: parcel.token,
            deadline: taken.deadline,
            cancel: parcel.call.map(|call| CancelWatch {
                call,
                device_id: &device.id,
                sent_at: taken.event.sent_at,
            }),
            second_guess: false,
            trail,
            render: &render,
        };
        match &direction.way {
            Way::Android(route) => Trip {
                route: Arc::clone(route),
                environment: None,
                ending: route.lane.push(&job).await,
                finding: None,
            },
            Way::Ios {
                choice: EnvironmentChoice::Only(environment),
                routes,
            } => {
                let route = routes.to(*environment);
                let ending = route.lane.push(&job).await;
                Trip::ended(route, *environment, ending)
            }
            Way::Ios {
                choice: EnvironmentChoice::Auto,
                routes,
            } => self.travel_either(job, routes).await,
        }
    }

    /// Tries the environment in which the token worked before, or production,
    /// and the other one if the token is unknown there.
    async fn travel_either(&self, mut job: Job<'_>, routes: &IosRoutes) -> Trip {
        let remembered = self.environments.get(job.token);
        let first = remembered.unwrap_or(Environment::Production);
        let ending = routes.to(first).lane.push(&job).await;
        if !answered(&ending, Class::BadToken) {
            return Trip::ended(routes.to(first), first, ending);
        }
        let second = first.other();
        job.second_guess = true;
        let mut last = routes.to(second).lane.push(&job).await;
        last.attempts += ending.attempts;
        last.unclear |= ending.unclear;
        if answered(&last, Class::Accepted) {
            self.environments.insert(job.token.clone(), second);
        }
        let finding = undecided(&last);
        // The outcome names the environment that answered last.
        let silent = last.attempts == ending.attempts && finding.is_none();
        let named = if silent { first } else { second };
        Trip {
            finding,
            ..Trip::ended(routes.to(named), named, last)
        }
    }

    /// Reports a device that cannot be pushed to.
    pub(super) fn reject(&self, taken: &Taken, bad: &BadDevice) -> Vec<Receipt> {
        let finding =
            Finding::new(PushResult::Rejected, bad.reason).explained(Some(bad.error.to_string()));
        let outcome = PushOutcome {
            device_id: bad.id.clone(),
            app: bad.app.clone(),
            platform: bad.platform,
            ..self.outcome(taken, None, finding, 0)
        };
        let trail = self.history.open(Subject {
            device_id: bad.id.clone(),
            app: bad.app.clone(),
            platform: bad.platform,
            ..taken.subject_of_event()
        });
        self.publish_outcome(taken, outcome, &trail)
    }

    fn report(
        &self,
        taken: &Taken,
        device: &Device,
        environment: Option<Environment>,
        finding: Finding,
        (attempts, trail): (u32, &Trail<'_>),
    ) -> Vec<Receipt> {
        let outcome = PushOutcome {
            device_id: Some(Arc::clone(&device.id)),
            app: Some(Arc::clone(&device.app)),
            platform: device.platform,
            ..self.outcome(taken, environment, finding, attempts)
        };
        self.publish_outcome(taken, outcome, trail)
    }

    #[allow(clippy::unused_self)]
    fn outcome(
        &self,
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

    /// Counts, logs, remembers and publishes an outcome.
    fn publish_outcome(
        &self,
        taken: &Taken,
        outcome: PushOutcome,
        trail: &Trail<'_>,
    ) -> Vec<Receipt> {
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
        log(&outcome, trail.trace_id());
        trail.end(&outcome);
        vec![self.publish(taken, ReportBody::Push(outcome))]
    }

    pub(super) fn publish(&self, taken: &Taken, body: ReportBody) -> Receipt {
        self.reports.publish(Report {
            body,
            call_id: Arc::clone(&taken.event.call_id),
            trace: Arc::clone(&taken.trace),
        })
    }
}

fn render(
    direction: &Direction,
    event: &Event,
    device: &Device,
    now: Timestamp,
) -> Result<Payload, Refusal> {
    direction
        .profile
        .render_by(event, device, now, direction.cancel)
        .map_err(|error: PayloadError| Refusal {
            reason: error.reason(),
            detail: error.to_string(),
        })
}

/// A cancel that also says what its ring said, for an app to which it comes as
/// a second `VoIP` push: that must be complete, or the phone rings a ghost.
/// The cancel's own words win, but not against the ring's UUID. A ring that was
/// sealed is not repeated in clear.
fn repeated(cancel: &Event, ring: &Event, device: &Arc<Device>) -> (Event, Arc<Device>) {
    let mut event = cancel.clone();
    event.call_uuid = ring.call_uuid;
    event.profile = cancel.profile.clone().or_else(|| ring.profile.clone());
    let rung = ring
        .devices()
        .iter()
        .filter_map(|entry| entry.device.as_ref().ok())
        .find(|rung| rung.id == device.id);
    let Some(rung) = rung.filter(|rung| rung.sealed.is_none()) else {
        return (event, Arc::clone(device));
    };
    event.media = ring.media;
    event.action = Action::Cancel {
        caller: cancel.caller().or(ring.caller()).cloned(),
        reason: cancel.reason(),
    };
    event.callee = cancel.callee.clone().or_else(|| ring.callee.clone());
    event.conversation = cancel
        .conversation
        .clone()
        .or_else(|| ring.conversation.clone());
    let mut data = (*rung.data.0).clone();
    for (key, value) in device.data.0.iter() {
        data.insert(key.clone(), value.clone());
    }
    let mut device = Device::clone(device);
    device.data = Data(Arc::new(data));
    (event, Arc::new(device))
}

fn answered(ending: &Ending, class: Class) -> bool {
    matches!(&ending.end, End::Answered(answer) if answer.class == class)
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
