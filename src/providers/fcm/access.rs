//! The OAuth access token, as senders see it.
//!
//! Senders only ever read the current token. Getting one is the business of a
//! task per account (`refresh`), shared by all apps that use it; `fetch` gets one
//! with a key, by `federation` or from the `metadata` server, `oauth` makes the
//! requests, `token` is what comes of it.

mod federation;
mod fetch;
mod metadata;
mod oauth;
pub(super) mod refresh;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::fetch::Fetcher;
use self::refresh::{Refresher, Timing};
pub(super) use self::token::AccessToken;
use self::token::{Refusal, State, Trouble};
use super::account::{ServiceAccount, Source};
use crate::call::time::Timestamp;
use crate::metrics::Metrics;
use crate::providers::http2::proxy::Proxy;

/// Why a sender gets no token, now and for the time being.
#[derive(Debug)]
pub(super) enum Denied {
    /// OAuth refuses this account.
    Refused(Refusal),
    /// The source was closed.
    Closed,
}

/// The access token of one service account, always the current one.
///
/// A task renews it minutes before it expires, and goes on trying after
/// failures until the source is closed or dropped. A token that is still
/// valid goes on being used meanwhile.
#[derive(Debug)]
pub struct TokenSource {
    state: Arc<watch::Sender<State>>,
    wake: Arc<Notify>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl TokenSource {
    /// Begins to fetch tokens at once. Call it within a runtime.
    #[must_use]
    pub fn start(account: &ServiceAccount, proxy: &Proxy, metrics: &Metrics) -> Arc<Self> {
        Self::start_with(account, Timing::default(), proxy, metrics)
    }

    pub(super) fn start_with(
        account: &ServiceAccount,
        timing: Timing,
        proxy: &Proxy,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let source = Self {
            state: Arc::new(watch::Sender::new(State::default())),
            wake: Arc::new(Notify::new()),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let refresher = Refresher {
            fetcher: Fetcher {
                source: account.source().clone(),
                proxy: proxy.clone(),
                limit: timing.fetch_timeout,
            },
            state: Arc::clone(&source.state),
            wake: Arc::clone(&source.wake),
            requests: metrics.oauth_requests.clone(),
            timing,
        };
        let stop = source.stop.clone();
        source.tasks.spawn(async move {
            stop.run_until_cancelled(refresher.run()).await;
        });
        source.tasks.close();
        Arc::new(source)
    }

    /// The current token, if there is one that is valid.
    pub(super) fn current(&self) -> Option<Arc<AccessToken>> {
        self.state.borrow().usable()
    }

    /// The current token, or the next one. Waits without end while OAuth is
    /// away, and not at all while it refuses; then it has the task try again.
    pub(super) async fn wait(&self) -> Result<Arc<AccessToken>, Denied> {
        let mut state = self.state.subscribe();
        loop {
            {
                let state = state.borrow_and_update();
                if let Some(token) = state.usable() {
                    return Ok(token);
                }
                if let Some(Trouble::Refused(refusal)) = &state.trouble {
                    self.wake.notify_one();
                    return Err(Denied::Refused(refusal.clone()));
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(Denied::Closed),
                changed = state.changed() => changed.map_err(|_| Denied::Closed)?,
            }
        }
    }

    /// Waits until there is a token, and says until when it is valid. Waits
    /// without end while OAuth is away: then [`Self::trouble`] says why.
    ///
    /// # Errors
    /// OAuth refuses this account: its word and what it says about it.
    pub async fn valid_until(&self) -> Result<Timestamp, (String, Option<String>)> {
        match self.wait().await {
            Ok(token) => Ok(token.expires_at),
            Err(Denied::Refused(refusal)) => Err((refusal.reason, refusal.detail)),
            Err(Denied::Closed) => Err(("oauth_unavailable".to_owned(), None)),
        }
    }

    /// A provider refused this token: it is not given out again, and another
    /// is fetched. Only the first of many senders that say so has an effect.
    pub(super) fn refuse(&self, refused: &AccessToken) {
        let dropped = self.state.send_if_modified(|state| {
            let is_current = state
                .token
                .as_ref()
                .is_some_and(|token| token.serial == refused.serial);
            if is_current {
                state.token = None;
            }
            is_current
        });
        if dropped {
            self.wake.notify_one();
        }
    }

    /// Whether there is a token that is valid.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.current().is_some()
    }

    /// A sentence on what keeps OAuth from giving a token, if anything does.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match self.state.borrow().trouble.as_ref()? {
            Trouble::Unavailable(detail) => Some(detail.clone()),
            Trouble::Refused(refusal) => Some(match &refusal.detail {
                Some(detail) => format!("{}: {detail}", refusal.reason),
                None => refusal.reason.clone(),
            }),
        }
    }

    /// When the current token expires.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.state.borrow().token.as_ref().map(|t| t.expires_at)
    }

    /// Tries again now what has failed, not only after its pause: the clock,
    /// the network or the account's rights may have been mended. Nothing
    /// happens while all is well.
    pub fn retry_now(&self) {
        self.wake.notify_one();
    }

    /// Ends the task. Whoever waits for a token is told.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for TokenSource {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One source per service account, however many apps use it. A source lives
/// as long as somebody holds it, so a reload of the configuration that keeps
/// an account keeps its token.
#[derive(Debug)]
pub struct TokenSources {
    metrics: Metrics,
    by_source: Mutex<HashMap<Source, Weak<TokenSource>>>,
}

impl TokenSources {
    /// No sources yet; their requests are counted there.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            by_source: Mutex::default(),
        }
    }

    /// The account's source, started if there is none. Accounts are the same
    /// if their key files are, whichever project they send in.
    pub fn of(&self, account: &ServiceAccount, proxy: &Proxy) -> Arc<TokenSource> {
        let mut by_source = self
            .by_source
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        by_source.retain(|_, source| source.strong_count() > 0);
        if let Some(source) = by_source.get(account.source()).and_then(Weak::upgrade) {
            return source;
        }
        let source = TokenSource::start(account, proxy, &self.metrics);
        by_source.insert(account.source().clone(), Arc::downgrade(&source));
        source
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;
    use tokio::time::Instant;

    use super::*;
    use crate::providers::fcm::testing::{Grant, OAuth, account};

    const AMPLE: Duration = Duration::from_secs(30);

    fn token(serial: u64, life: Duration) -> Arc<AccessToken> {
        Arc::new(AccessToken {
            header: HeaderValue::from_static("Bearer x"),
            valid_until: Instant::now() + life,
            expires_at: Timestamp::from_millis(0),
            project: None,
            serial,
        })
    }

    /// A source whose task never gets anything.
    async fn idle() -> (OAuth, Arc<TokenSource>) {
        let oauth = OAuth::start([Grant::Hang]).await;
        let source =
            TokenSource::start(&account(&oauth.uri), &Proxy::default(), &Metrics::default());
        (oauth, source)
    }

    #[tokio::test]
    async fn a_valid_token_is_used_whatever_oauth_says_and_an_expired_one_never() {
        let (_oauth, source) = idle().await;
        for trouble in [
            Trouble::Unavailable("away".into()),
            Trouble::Refused(Refusal {
                reason: "invalid_grant".into(),
                detail: None,
            }),
        ] {
            source.state.send_modify(|state| {
                state.token = Some(token(1, AMPLE));
                state.trouble = Some(trouble);
            });
            assert_eq!(source.wait().await.unwrap().serial, 1);
        }
        source
            .state
            .send_modify(|state| state.token = Some(token(2, Duration::ZERO)));
        assert!(source.current().is_none());
        assert!(matches!(source.wait().await, Err(Denied::Refused(_))));
    }

    #[tokio::test]
    async fn only_the_token_that_was_refused_is_dropped() {
        let (_oauth, source) = idle().await;
        let (old, new) = (token(1, AMPLE), token(2, AMPLE));
        source
            .state
            .send_modify(|state| state.token = Some(new.clone()));
        source.refuse(&old);
        assert_eq!(source.current().unwrap().serial, 2);
        source.refuse(&new);
        assert!(source.current().is_none());
    }

    #[tokio::test]
    async fn a_token_is_renewed_before_its_end_and_its_expiry_is_known() {
        let oauth = OAuth::start([Grant::Token(1), Grant::Token(3600)]).await;
        let source = TokenSource::start_with(
            &account(&oauth.uri),
            Timing {
                asked: Duration::from_millis(10),
                ..Timing::default()
            },
            &Proxy::default(),
            &Metrics::default(),
        );
        assert_eq!(source.expires_at(), None);
        let first = source.wait().await.unwrap();
        let mut state = source.state.subscribe();
        let renewed = async {
            while state.borrow_and_update().token.as_ref().unwrap().serial == first.serial {
                state.changed().await.unwrap();
            }
        };
        tokio::time::timeout(AMPLE, renewed).await.unwrap();
        let second = source.current().unwrap();
        assert_eq!(second.header.to_str().unwrap(), "Bearer token-1");
        assert!(second.expires_at > first.expires_at);
        assert_eq!(source.expires_at(), Some(second.expires_at));
        source.close().await;
        assert_eq!(oauth.requests(), 2);
    }

    #[tokio::test]
    async fn apps_with_the_same_account_share_a_source_and_the_last_one_ends_it() {
        let oauth = OAuth::start([Grant::Token(3600)]).await;
        let other = OAuth::start([Grant::Token(3600)]).await;
        let sources = TokenSources::new(Metrics::default());
        let one = sources.of(&account(&oauth.uri), &Proxy::default());
        assert!(Arc::ptr_eq(
            &one,
            &sources.of(&account(&oauth.uri), &Proxy::default())
        ));
        assert!(!Arc::ptr_eq(
            &one,
            &sources.of(&account(&other.uri), &Proxy::default())
        ));
        one.wait().await.unwrap();
        let tasks = one.tasks.clone();
        drop(one);
        tokio::time::timeout(AMPLE, tasks.wait()).await.unwrap();
        assert_eq!(oauth.requests(), 1);
    }

    #[tokio::test]
    async fn a_refusal_that_comes_slowly_is_still_a_refusal() {
        // If it were taken for a fault and asked again, the time-out would come first.
        let slow = Duration::from_millis(200);
        let word = r#"{"error":"invalid_grant"}"#;
        let oauth = OAuth::start([Grant::Slow(slow, 400, word)]).await;
        let timing = Timing {
            fetch_timeout: Duration::from_secs(1),
            ..Timing::default()
        };
        let source = TokenSource::start_with(
            &account(&oauth.uri),
            timing,
            &Proxy::default(),
            &Metrics::default(),
        );
        let denied = tokio::time::timeout(AMPLE, source.wait()).await.unwrap();
        let Err(Denied::Refused(refusal)) = denied else {
            panic!("{denied:?}")
        };
        assert_eq!(refusal.reason, "invalid_grant");
        assert_eq!(oauth.requests(), 1);
    }

    #[tokio::test]
    async fn an_answer_that_is_no_token_is_not_quoted() {
        let oauth = OAuth::start([Grant::Status(200, r#""ya29.s3cret""#)]).await;
        let source =
            TokenSource::start(&account(&oauth.uri), &Proxy::default(), &Metrics::default());
        let mut state = source.state.subscribe();
        let failed = state.wait_for(|state| state.trouble.is_some());
        tokio::time::timeout(AMPLE, failed).await.unwrap().unwrap();
        let trouble = source.trouble().unwrap();
        assert_eq!(trouble, "the answer holds no access token");
        assert!(!source.is_ready());
    }

    #[tokio::test]
    async fn requests_are_counted_by_what_came_of_them() {
        let no = r#"{"error":"invalid_grant"}"#;
        let script = [
            Grant::Status(503, ""),
            Grant::Status(400, no),
            Grant::Token(3600),
        ];
        let oauth = OAuth::start(script).await;
        let metrics = Metrics::default();
        let timing = Timing {
            refused: Duration::from_millis(10),
            ..Timing::default()
        };
        let source =
            TokenSource::start_with(&account(&oauth.uri), timing, &Proxy::default(), &metrics);
        let mut state = source.state.subscribe();
        let granted = state.wait_for(|state| state.token.is_some());
        tokio::time::timeout(AMPLE, granted).await.unwrap().unwrap();
        let text = metrics.render(&crate::metrics::LaneGauges::default());
        for result in ["granted", "unavailable", "refused"] {
            let line = format!("ringpush_oauth_requests_total{{result=\"{result}\"}} 1\n");
            assert!(text.contains(&line), "{line} is not in {text}");
        }
    }

    #[tokio::test]
    async fn asking_while_all_is_well_fetches_nothing() {
        let oauth = OAuth::start([Grant::Token(3600)]).await;
        let source =
            TokenSource::start(&account(&oauth.uri), &Proxy::default(), &Metrics::default());
        source.wait().await.unwrap();
        source.retry_now();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(oauth.requests(), 1);
    }
}
