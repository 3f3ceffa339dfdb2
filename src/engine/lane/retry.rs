//! What a push has been through, and whether it is tried again.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use crate::call::push::{Answer, Class};
use crate::engine::push::{End, Push};
use crate::engine::settings::RetrySettings;

/// The first wait before the same signature is tried again when the provider
/// saw too many new ones; it doubles up to the longest wait between attempts.
const SIGNING_WAIT: Duration = Duration::from_secs(1);

/// What to do after an answer.
pub(super) enum Next {
    End(End),
    Wait { until: Instant },
    Again,
}

/// What a push has been through.
pub(super) struct Retry {
    settings: RetrySettings,
    /// Requests that were started.
    pub(super) attempts: u32,
    /// Whether the phone may have got it although no acceptance was seen.
    pub(super) unclear: bool,
    /// Whether a credential was renewed for it.
    pub(super) renewed: bool,
    /// Made with the first wait: most pushes need none.
    backoff: Option<ExponentialBackoff>,
    repeated_at_once: bool,
    /// The shortest next wait with a signature that is too new.
    signing_wait: Duration,
    last: Option<Answer>,
}

impl Retry {
    pub(super) fn new(settings: RetrySettings) -> Self {
        Self {
            settings,
            attempts: 0,
            unclear: false,
            renewed: false,
            backoff: None,
            repeated_at_once: false,
            signing_wait: SIGNING_WAIT,
            last: None,
        }
    }

    /// Whether an attempt makes sense still, or how the push ends.
    pub(super) fn may_go_on(&mut self, push: &Push<'_>) -> Result<(), End> {
        if push.is_cancelled() {
            return Err(self.cancelled());
        }
        if push.deadline.passed() {
            return Err(self.out_of_time());
        }
        Ok(())
    }

    /// Acts on an answer.
    pub(super) fn next(&mut self, push: &Push<'_>, answer: Answer) -> Next {
        match answer.class {
            Class::Accepted
            | Class::DeadToken
            | Class::BadToken
            | Class::SuspectToken
            | Class::CredentialFault
            | Class::PayloadFault
            | Class::OwnFault
            | Class::Unknown => Next::End(End::Answered(answer)),
            Class::StaleCredential if self.renewed => {
                let answer = Answer {
                    class: Class::CredentialFault,
                    ..answer
                };
                Next::End(End::Answered(answer))
            }
            Class::StaleCredential => {
                self.renewed = true;
                self.last = Some(answer);
                Next::Again
            }
            Class::NotProcessed if !self.repeated_at_once => {
                // Once at once; if that fails as well, waiting helps more.
                self.repeated_at_once = true;
                self.last = Some(answer);
                Next::Again
            }
            Class::Unclear => {
                self.unclear = true;
                self.wait(push, answer, Duration::ZERO)
            }
            Class::SigningThrottled => {
                let floor = self.signing_wait;
                self.signing_wait = (floor * 2).min(self.settings.max.max(SIGNING_WAIT));
                self.wait(push, answer, floor)
            }
            Class::NotProcessed | Class::Unavailable | Class::Throttled | Class::NoCredential => {
                self.wait(push, answer, Duration::ZERO)
            }
        }
    }

    fn wait(&mut self, push: &Push<'_>, answer: Answer, floor: Duration) -> Next {
        let settings = self.settings;
        let backoff = self.backoff.get_or_insert_with(|| backoff(settings));
        let pause = backoff.next().unwrap_or(settings.max);
        let pause = pause.min(self.settings.max).max(floor);
        let asked = answer.retry_after.unwrap_or_default();
        let now = Instant::now();
        self.last = Some(answer);
        if asked > push.deadline.left() {
            return Next::End(self.out_of_time());
        }
        Next::Wait {
            until: now + pause.max(asked),
        }
    }

    /// Ends a push whose time is up by what it last waited for.
    pub(super) fn out_of_time(&mut self) -> End {
        match self.last.take() {
            Some(answer) if answer.class == Class::SigningThrottled => End::Answered(Answer {
                class: Class::CredentialFault,
                ..answer
            }),
            last => End::Expired(last),
        }
    }

    /// Ends a push that the caller has taken back.
    pub(super) fn cancelled(&mut self) -> End {
        End::Cancelled(self.last.take())
    }
}

/// Waits from `initial` up to `max`. Jitter adds up to as much again, so half
/// of the longest is asked for.
fn backoff(retry: RetrySettings) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(retry.initial)
        .with_max_delay(retry.initial.max(retry.max / 2))
        .with_jitter()
        .without_max_times()
        .build()
}
