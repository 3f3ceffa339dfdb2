//! The task that keeps an access token fresh.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBackoff;
use futures_util::FutureExt as _;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::fetch::Fetcher;
use super::token::{AccessToken, State, Trouble};
use crate::call::time::Timestamp;
use crate::metrics::OAuthLabels;
use crate::providers::retry;

/// How patient the task is.
#[derive(Clone, Copy, Debug)]
pub(in crate::providers::fcm) struct Timing {
    /// For one fetch.
    pub(in crate::providers::fcm) fetch_timeout: Duration,
    /// How long before its end a token is renewed. One that lives less than
    /// twice as long is renewed after half its life.
    pub(in crate::providers::fcm) ahead: Duration,
    /// First and longest pause after a failure.
    pub(in crate::providers::fcm) backoff: (Duration, Duration),
    /// Pause after a refusal.
    pub(in crate::providers::fcm) refused: Duration,
    /// At most one fetch in this time on somebody's request: after a 401 or
    /// while OAuth refuses.
    pub(in crate::providers::fcm) asked: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            fetch_timeout: Duration::from_secs(5),
            ahead: Duration::from_secs(300),
            backoff: (Duration::from_millis(200), Duration::from_secs(5)),
            refused: Duration::from_secs(10),
            asked: Duration::from_secs(1),
        }
    }
}

impl Timing {
    fn pauses(self) -> ExponentialBackoff {
        let (first, longest) = self.backoff;
        retry::pauses(first, longest)
    }

    fn until_renewal(self, token: &AccessToken) -> Duration {
        let life = token.valid_until.saturating_duration_since(Instant::now());
        life.saturating_sub(self.ahead)
            .max(life / 2)
            .max(self.asked)
    }
}

/// Fetches, tells the senders, sleeps; for ever.
pub(super) struct Refresher {
    pub(super) fetcher: Fetcher,
    pub(super) state: Arc<watch::Sender<State>>,
    pub(super) wake: Arc<Notify>,
    pub(super) requests: Family<OAuthLabels, Counter>,
    pub(super) timing: Timing,
}

impl Refresher {
    pub(super) async fn run(self) {
        let mut pauses = self.timing.pauses();
        let mut asked_at = None;
        for serial in 0.. {
            let fetched = survived(self.fetcher.fetch(serial)).await;
            let result = match &fetched {
                Ok(_) => "granted",
                Err(Trouble::Unavailable(_)) => "unavailable",
                Err(Trouble::Refused(_)) => "refused",
            };
            self.requests.get_or_create(&OAuthLabels { result }).inc();
            let pause = match fetched {
                Ok(token) => {
                    pauses = self.timing.pauses();
                    let pause = self.timing.until_renewal(&token);
                    self.install(token);
                    pause
                }
                Err(trouble) => {
                    let pause = match &trouble {
                        Trouble::Unavailable(_) => pauses.next().unwrap_or(self.timing.backoff.1),
                        Trouble::Refused(_) => self.timing.refused,
                    };
                    self.report(trouble);
                    pause
                }
            };
            self.sleep(Instant::now() + pause, &mut asked_at).await;
        }
    }

    /// Sleeps until then, or until somebody needs a token sooner.
    async fn sleep(&self, until: Instant, asked_at: &mut Option<Instant>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.wake.notified() => (),
            }
            // Who asked may have been served by a fetch under way.
            if self.is_well() {
                continue;
            }
            let earliest = asked_at.map_or_else(Instant::now, |last| last + self.timing.asked);
            tokio::time::sleep_until(earliest.min(until)).await;
            *asked_at = Some(Instant::now());
            return;
        }
    }

    fn is_well(&self) -> bool {
        let state = self.state.borrow();
        state.token.is_some() && state.trouble.is_none()
    }

    fn install(&self, token: AccessToken) {
        let left = token.valid_until.saturating_duration_since(Instant::now());
        let recovered = self.state.borrow().trouble.is_some();
        if recovered {
            tracing::info!(valid_s = left.as_secs(), "OAuth gives access tokens again");
        } else {
            tracing::debug!(valid_s = left.as_secs(), "access token renewed");
        }
        self.state.send_replace(State {
            token: Some(Arc::new(token)),
            trouble: None,
        });
    }

    /// Logs a trouble once, not at every attempt.
    fn report(&self, trouble: Trouble) {
        let token_until = self.state.borrow().token.as_ref().map(|t| t.expires_at);
        let old = self
            .state
            .borrow()
            .trouble
            .as_ref()
            .map(std::mem::discriminant);
        if old != Some(std::mem::discriminant(&trouble)) {
            Self::log(&trouble, token_until);
        }
        self.state
            .send_modify(|state| state.trouble = Some(trouble));
    }

    fn log(trouble: &Trouble, token_until: Option<Timestamp>) {
        let token_until = token_until.map(tracing::field::display);
        match trouble {
            Trouble::Unavailable(detail) => {
                tracing::warn!(detail, token_until, "no access token for FCM, trying on");
            }
            Trouble::Refused(refusal) => tracing::error!(
                reason = refusal.reason,
                detail = refusal.detail,
                token_until,
                "OAuth refuses the service account: check its key in the Google Cloud console, \
                 and this machine's clock"
            ),
        }
    }
}

/// A panic, such as a library's at an answer that it did not expect, must not
/// end the task: nobody else would fetch tokens.
async fn survived<T>(fetching: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let fetched = AssertUnwindSafe(fetching).catch_unwind().await;
    fetched.unwrap_or_else(|_| {
        let problem = "fetching it panicked, which is a bug to report";
        Err(Trouble::Unavailable(problem.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tokens_are_renewed_minutes_ahead_and_short_lived_ones_at_half_time() {
        let wait = |seconds| {
            let token = AccessToken {
                header: HeaderValue::from_static("x"),
                valid_until: Instant::now() + Duration::from_secs(seconds),
                expires_at: Timestamp::from_millis(0),
                project: None,
                serial: 0,
            };
            Timing::default().until_renewal(&token).as_secs()
        };
        assert_eq!(wait(3599), 3299);
        assert_eq!(wait(400), 200);
        assert_eq!(wait(60), 30);
        assert_eq!(wait(1), 1, "never a busy loop");
    }

    #[tokio::test]
    async fn a_panic_while_a_token_is_fetched_is_a_trouble_like_another() {
        let fetched: Result<(), _> = survived(async { panic!("a library's") }).await;
        assert!(matches!(fetched, Err(Trouble::Unavailable(_))));
    }

    #[test]
    fn pauses_end_at_five_seconds() {
        let pauses: Vec<_> = Timing::default().pauses().take(100).collect();
        assert!(pauses.iter().all(|p| *p <= Duration::from_secs(5)));
        assert!(pauses[0] <= Duration::from_millis(200));
    }
}
