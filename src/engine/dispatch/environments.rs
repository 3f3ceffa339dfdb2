//! A push's way over its lane, or over two for an `auto` environment.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::call::event::{Environment, EnvironmentChoice};
use crate::call::push::Class;
use crate::engine::lane::Lane;
use crate::engine::push::{End, Push, PushEnd};
use crate::engine::recent::Recent;
use crate::engine::routes::{IosLanes, Target};
use crate::engine::tokens::{Finding, undecided};

/// The most tokens whose environment is remembered.
const MAX_TOKENS: usize = 100_000;

/// For how long.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// Which environment `auto` tokens turned out to live in, by a keyed hash of
/// the token: however long those are, it has a bound in bytes.
pub(super) struct Environments {
    recent: Recent<u64, Environment>,
    hasher: RandomState,
}

/// How a push went over one or two lanes.
pub(super) struct Sent<'a> {
    /// The lane that was asked last.
    pub(super) lane: &'a Lane,
    pub(super) environment: Option<Environment>,
    pub(super) push: PushEnd,
    /// What follows, where no answer by itself says it.
    pub(super) finding: Option<Finding>,
}

impl Default for Environments {
    fn default() -> Self {
        Self {
            recent: Recent::new(MAX_TOKENS, REMEMBERED),
            hasher: RandomState::new(),
        }
    }
}

impl Environments {
    /// Sends a push over its lane, or over two for an `auto` environment.
    pub(super) async fn send<'a>(&self, push: Push<'_>, target: Target<'a>) -> Sent<'a> {
        let (lane, environment) = match target {
            Target::Android(lane) => (lane, None),
            Target::Ios(EnvironmentChoice::Only(environment), lanes) => {
                (&**lanes.to(environment), Some(environment))
            }
            Target::Ios(EnvironmentChoice::Auto, lanes) => {
                return Box::pin(self.send_to_either(push, lanes)).await;
            }
        };
        Sent {
            lane,
            environment,
            push: Box::pin(lane.push(&push)).await,
            finding: None,
        }
    }

    /// Tries the environment in which the token worked before, or production,
    /// and the other one if the token is unknown there.
    async fn send_to_either<'a>(&self, mut push: Push<'_>, lanes: &'a IosLanes) -> Sent<'a> {
        let sent = |environment, push, finding| Sent {
            lane: lanes.to(environment),
            environment: Some(environment),
            push,
            finding,
        };
        let token = self.hasher.hash_one(push.token);
        let remembered = self.recent.get(&token);
        let first = remembered.unwrap_or(Environment::Production);
        let end = lanes.to(first).push(&push).await;
        if !answered(&end, Class::BadToken) {
            return sent(first, end, None);
        }
        let second = first.other();
        push.second_guess = true;
        let mut last = lanes.to(second).push(&push).await;
        last.attempts += end.attempts;
        last.unclear |= end.unclear;
        if answered(&last, Class::Accepted) {
            self.recent.insert(token, second);
        }
        let finding = undecided(&last);
        // The outcome names the environment that answered last.
        let silent = last.attempts == end.attempts && finding.is_none();
        sent(if silent { first } else { second }, last, finding)
    }
}

fn answered(push: &PushEnd, class: Class) -> bool {
    matches!(&push.end, End::Answered(answer) if answer.class == class)
}
