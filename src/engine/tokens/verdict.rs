//! From how a push ended to what is reported of it.

use super::brake::Brake;
use crate::call::outcome::{PushResult, TokenVerdict};
use crate::call::push::{Answer, Class};
use crate::call::secret::Secret;
use crate::call::time::Timestamp;
use crate::engine::push::{End, PushEnd};

/// What is reported of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it ended.
    pub result: PushResult,
    /// The provider's word, or ours.
    pub reason: Option<String>,
    /// A sentence for people.
    pub detail: Option<String>,
    /// The provider's id of the push.
    pub provider_id: Option<String>,
    /// What is to be done about the token.
    pub token: Option<TokenVerdict>,
    /// Since when the token is dead.
    pub provider_timestamp: Option<Timestamp>,
    /// Whether a person has to mend it here ([`Class::is_ours`]).
    pub ours: bool,
}

impl Finding {
    /// An end that says nothing about the token.
    #[must_use]
    pub fn new(result: PushResult, reason: impl Into<String>) -> Self {
        Self {
            result,
            reason: Some(reason.into()),
            detail: None,
            provider_id: None,
            token: None,
            provider_timestamp: None,
            ours: false,
        }
    }

    /// The same with a sentence for people.
    #[must_use]
    pub fn explained(mut self, detail: Option<String>) -> Self {
        self.detail = detail;
        self
    }
}

/// Which token was pushed to and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct TokenFacts<'a> {
    /// The token.
    pub token: &'a Secret,
    /// When the app registered it.
    pub registered_at: Option<Timestamp>,
    /// An ordinary token used for a background push: it says nothing about
    /// the `VoIP` tokens of the lane and is never called dead.
    pub ordinary: bool,
}

/// Judges the last push to a token and lets the brake learn from it.
pub fn judge(push: &PushEnd, brake: &Brake, facts: TokenFacts<'_>) -> Finding {
    match &push.end {
        End::Answered(answer) => judge_answer(answer, brake, facts),
        End::Expired(last) => {
            let reason = last
                .as_ref()
                .and_then(|a| a.reason.as_deref())
                .unwrap_or("deadline");
            Finding::new(PushResult::Expired, reason)
                .explained(last.as_ref().and_then(|a| a.detail.clone()))
        }
        End::Cancelled(last) => {
            // If an attempt's end is unknown the outcome says so.
            let unclear = last.as_ref().filter(|_| push.unclear);
            let reason = unclear
                .and_then(|a| a.reason.as_deref())
                .unwrap_or("caller_cancelled");
            Finding::new(PushResult::Cancelled, reason)
        }
        End::Paused => Finding::new(PushResult::CredentialFault, "lane_paused"),
        End::Refused(refusal) => Finding::new(PushResult::Rejected, refusal.reason)
            .explained(Some(refusal.detail.clone())),
    }
}

/// The second environment of an `auto` device could not say anything about
/// the token, after the first did not know it.
#[must_use]
pub fn undecided(push: &PushEnd) -> Option<Finding> {
    let reason = match &push.end {
        End::Answered(answer) if answer.class == Class::CredentialFault => answer.reason.as_deref(),
        End::Paused => Some("lane_paused"),
        End::Answered(_) | End::Expired(_) | End::Cancelled(_) | End::Refused(_) => return None,
    };
    let detail =
        "the token is unknown in one environment and the credentials do not work in the other";
    let finding = Finding::new(
        PushResult::SuspectToken,
        reason.unwrap_or("credential_fault"),
    )
    .explained(Some(detail.to_owned()));
    Some(Finding {
        token: Some(TokenVerdict::Suspect),
        ours: true,
        ..finding
    })
}

fn judge_answer(answer: &Answer, brake: &Brake, facts: TokenFacts<'_>) -> Finding {
    let (result, token) = match answer.class {
        Class::Accepted => {
            if !facts.ordinary {
                brake.accepted(facts.token);
            }
            (PushResult::Accepted, None)
        }
        Class::DeadToken => match (answer.provider_timestamp, facts.registered_at) {
            // The app has registered since: the token is alive again.
            (Some(died), Some(registered)) if died <= registered => (PushResult::Rejected, None),
            (Some(_) | None, Some(_) | None) => blame(brake, facts, |brake_on| !brake_on),
        },
        Class::BadToken => blame(brake, facts, |_| brake.trusts_unknown_tokens()),
        Class::SuspectToken => blame(brake, facts, |_| false),
        Class::CredentialFault | Class::StaleCredential | Class::SigningThrottled => {
            (PushResult::CredentialFault, None)
        }
        Class::PayloadFault | Class::OwnFault | Class::Unknown => (PushResult::Rejected, None),
        // The lane repeats these until they are something else.
        Class::NotProcessed
        | Class::Unclear
        | Class::Unavailable
        | Class::Throttled
        | Class::NoCredential => (PushResult::Expired, None),
    };
    Finding {
        result,
        reason: answer.reason.clone(),
        detail: answer.detail.clone(),
        provider_id: answer.provider_id.clone(),
        token,
        provider_timestamp: answer.provider_timestamp,
        ours: answer.class.is_ours(),
    }
}

/// Dead if `may_be_dead` says so (it is told whether the brake is on), else suspect.
fn blame(
    brake: &Brake,
    facts: TokenFacts<'_>,
    may_be_dead: impl FnOnce(bool) -> bool,
) -> (PushResult, Option<TokenVerdict>) {
    if facts.ordinary {
        return (PushResult::SuspectToken, Some(TokenVerdict::Suspect));
    }
    brake.bad(facts.token);
    if may_be_dead(brake.is_on()) {
        (PushResult::DeadToken, Some(TokenVerdict::Dead))
    } else {
        (PushResult::SuspectToken, Some(TokenVerdict::Suspect))
    }
}
