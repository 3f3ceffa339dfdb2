//! What an outcome means, in plain words, and the exit status that goes with
//! it.

use super::plan::Plan;
use super::stage::Shot;
use crate::app::observe::SeenAttempt;
use crate::call::event::{Environment, EnvironmentChoice, Platform};
use crate::call::outcome::{PushOutcome, PushResult};
use crate::call::push::Class;
use crate::cli::explain::find;
use crate::cli::{DONE, FAILED, USAGE};

/// `send`: the token is dead or suspect.
pub(super) const TOKEN: u8 = 3;
/// `send`: key, certificate, topic or project are wrong.
pub(super) const CREDENTIALS: u8 = 4;
/// `send`: the payload is refused.
pub(super) const PAYLOAD: u8 = 5;
/// `send`: not delivered in time.
pub(super) const TIME: u8 = 6;

/// What came of it.
pub(super) struct Judgement {
    /// The exit status.
    pub(super) code: u8,
    /// What it means.
    pub(super) means: String,
    /// What to do.
    pub(super) next: String,
}

/// Judges one push.
pub(super) fn judge(plan: &Plan, shot: &Shot) -> Judgement {
    let Some(outcome) = &shot.outcome else {
        return Judgement {
            code: TIME,
            means: "It did not come to an end in time.".to_owned(),
            next: "Try again with a longer --timeout, or run `ringpush check`.".to_owned(),
        };
    };
    if outcome.result == PushResult::Accepted {
        return accepted(plan, outcome);
    }
    let reason = outcome.reason.as_deref().unwrap_or_default();
    let (means, mut next) = match find(reason) {
        Some(entry) => (entry.means.clone(), entry.next.clone()),
        None => (
            format!("{reason:?} is in no table of ringpush's."),
            "Look it up in the provider's documentation.".to_owned(),
        ),
    };
    if reason == "BadDeviceToken" && plan.choice() == EnvironmentChoice::Auto {
        "Both environments refuse it, so it is not a matter of the environment: compare the token \
         with the one that the app gets from PushKit, all of it, and bundle_id with the app's."
            .clone_into(&mut next);
    }
    Judgement {
        code: code(outcome, shot.attempts.last()),
        means,
        next,
    }
}

/// The exit status of an outcome.
pub(super) fn code(outcome: &PushOutcome, last: Option<&SeenAttempt>) -> u8 {
    match outcome.result {
        PushResult::Accepted => DONE,
        PushResult::DeadToken | PushResult::SuspectToken => TOKEN,
        PushResult::CredentialFault => CREDENTIALS,
        PushResult::Expired => TIME,
        PushResult::Cancelled => FAILED,
        PushResult::Rejected => match last.map(|attempt| attempt.answer.class) {
            Some(Class::PayloadFault) => PAYLOAD,
            Some(Class::DeadToken) => TOKEN,
            Some(_) => FAILED,
            None => refused(outcome.reason.as_deref().unwrap_or_default()),
        },
    }
}

/// Without any attempt it is our own word.
fn refused(reason: &str) -> u8 {
    if reason.starts_with("payload_") || reason == "no_cancel_payload" {
        PAYLOAD
    } else {
        USAGE
    }
}

fn accepted(plan: &Plan, outcome: &PushOutcome) -> Judgement {
    let validated = plan.args.validate_only;
    let means = match (outcome.platform, validated) {
        (Platform::Ios, _) => {
            "Apple took it. The phone rings as soon as it is reachable, if the app reports the \
             call to CallKit."
        }
        (Platform::Android | Platform::Unknown, true) => {
            "Google finds it right: token, payload and credentials. Nothing was delivered."
        }
        (Platform::Android | Platform::Unknown, false) => {
            "Google took it. The phone rings as soon as it is reachable, if the app shows the call \
             when its message comes."
        }
    };
    let auto = plan.choice() == EnvironmentChoice::Auto;
    let next = match (outcome.platform, outcome.environment) {
        (Platform::Ios, Some(Environment::Sandbox)) if auto => {
            "This is a token of the sandbox (a build from Xcode): send \"environment\": \
             \"sandbox\" with this device."
        }
        (Platform::Ios, _) => {
            "If it stays silent: iOS stops VoIP pushes to an app that has not reported a call to \
             CallKit for some of them; install the app anew, and compare the payload's keys with \
             what the app reads."
        }
        (Platform::Android | Platform::Unknown, _) if validated => {
            "Leave --validate-only out to make the phone ring."
        }
        (Platform::Android | Platform::Unknown, _) => {
            "If it stays silent: an app that was force-stopped gets nothing until it is opened; \
             and compare the payload's keys with what the app reads."
        }
    };
    Judgement {
        code: DONE,
        means: means.to_owned(),
        next: next.to_owned(),
    }
}
