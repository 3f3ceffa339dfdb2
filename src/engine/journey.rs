//! A push's way over one route, or over two for an `auto` environment.

use std::sync::Arc;

use uuid::Uuid;

use super::calls::Call;
use super::dispatch::Dispatcher;
use super::history::Trail;
use super::job::{CancelWatch, End, Ending, Job, Refusal};
use super::routes::{Direction, IosRoutes, Route, Way};
use super::taken::Taken;
use super::verdict::{Finding, undecided};
use crate::call::event::{Device, Environment, EnvironmentChoice, Event};
use crate::call::payload::{Payload, PayloadError};
use crate::call::push::{Class, PushKind};
use crate::call::secret::Secret;
use crate::call::time::Timestamp;

/// How a push went over one or two routes.
pub(super) struct Trip {
    pub(super) route: Arc<Route>,
    pub(super) environment: Option<Environment>,
    pub(super) ending: Ending,
    pub(super) finding: Option<Finding>,
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
pub(super) struct Parcel<'a> {
    pub(super) kind: PushKind,
    pub(super) token: &'a Secret,
    pub(super) call: Option<&'a Call>,
}

impl Dispatcher {
    /// One push over its route, or over two for an `auto` environment.
    pub(super) async fn travel(
        &self,
        taken: &Taken,
        device: &Device,
        id: Uuid,
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

fn answered(ending: &Ending, class: Class) -> bool {
    matches!(&ending.end, End::Answered(answer) if answer.class == class)
}
