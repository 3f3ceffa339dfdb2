//! One attempt at one push.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::access::{AccessToken, Denied, TokenSource};
use super::account::ServiceAccount;
use super::error;
use super::message::{Draft, Requests};
use super::settings::{AndroidOptions, STREAMS_PER_CONNECTION, Settings, SettingsError};
use crate::call::event::TargetKind;
use crate::call::payload::Payload;
use crate::call::push::{Answer, Attempt, Class, Gate, PushClient, PushKind};
use crate::call::secret::Secret;
use crate::call::time::Timestamp;
use crate::metrics::Metrics;
use crate::providers::endpoint::Endpoint;
use crate::providers::http2::proxy::Proxy;
use crate::providers::http2::{HostError, Options, Pool, Status, Tuning};
use crate::providers::tls::{self, TlsError};

/// No app has this token.
const NOBODY: &str = "ringpush-check";

/// FCM's answers have some hundred bytes; no more than this is read of one.
const BODY_LIMIT: usize = 64 * 1024;

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be used.
    #[error(transparent)]
    Url(#[from] SettingsError),
    /// The certificates cannot be used.
    #[error("{}", .0.in_table("fcm"))]
    Tls(#[from] TlsError),
    /// The host cannot be named in TLS.
    #[error("fcm.url: {0}")]
    Host(#[from] HostError),
    /// The project cannot stand in a path.
    #[error("`project_id` {0:?} is not a project's id: it is the one in the console")]
    Project(String),
}

/// Sends data messages in one Firebase project.
///
/// Everything goes out with high priority, whatever [`Attempt::kind`] says:
/// Android holds anything less back while the phone dozes, also the news that
/// a call is over.
#[derive(Debug)]
pub struct Client {
    pool: Pool,
    endpoint: Endpoint,
    project_id: Option<Arc<str>>,
    /// Made with the first token where that brings the project.
    requests: OnceLock<Requests>,
    tokens: Arc<TokenSource>,
    attempt_timeout: Duration,
    options: AndroidOptions,
}

impl Client {
    /// A client that begins to connect at once. Needs a tokio runtime. Reads
    /// `fcm.ca_file`.
    ///
    /// # Errors
    /// Names the key of the configuration.
    pub fn new(
        settings: &Settings,
        account: &ServiceAccount,
        tokens: Arc<TokenSource>,
        proxy: &Proxy,
        metrics: &Metrics,
    ) -> Result<Self, ClientError> {
        let tuning = Tuning::default();
        Self::tuned(settings, account, tokens, proxy, metrics, tuning)
    }

    fn tuned(
        settings: &Settings,
        account: &ServiceAccount,
        tokens: Arc<TokenSource>,
        proxy: &Proxy,
        metrics: &Metrics,
        tuning: Tuning,
    ) -> Result<Self, ClientError> {
        let endpoint = settings.endpoint()?;
        let requests = OnceLock::new();
        if let Some(project) = account.project_id() {
            let made = Requests::new(&endpoint, project);
            let made = made.ok_or_else(|| ClientError::Project(project.to_owned()))?;
            // It is new, so it is empty.
            let _ = requests.set(made);
        }
        let roots = tls::roots_from(settings.ca_file.as_deref())?;
        let tls = tls::client_config(roots, None, &[b"h2"])?;
        let options = Options {
            provider: "FCM",
            platform: "android",
            connections: settings.connections,
            attempt_timeout: settings.attempt_timeout,
            streams_at_most: STREAMS_PER_CONNECTION,
            // The message's name stands in the body.
            head_is_enough: None,
            body_limit: BODY_LIMIT,
            tuning,
        };
        let pool = Pool::new(endpoint.clone(), tls, proxy, options, metrics)?;
        pool.connect();
        Ok(Self {
            pool,
            endpoint,
            project_id: account.project_id().map(Arc::from),
            requests,
            tokens,
            attempt_timeout: settings.attempt_timeout,
            options: AndroidOptions::default(),
        })
    }

    /// The same, with this in every message.
    #[must_use]
    pub fn with(mut self, options: AndroidOptions) -> Self {
        self.options = options;
        self
    }

    /// Waits, at most `limit`, until each connection is up or has failed once
    /// and the access token is there, and says how the connections are.
    pub async fn warm(&self, limit: Duration) -> Status {
        let token = tokio::time::timeout(limit, self.tokens.wait());
        // Whoever cares for how it went asks the token source.
        let (status, _) = tokio::join!(self.pool.warm(limit), token);
        status
    }

    /// How the connections are.
    #[must_use]
    pub fn status(&self) -> Status {
        self.pool.status()
    }

    /// The source of its access tokens.
    #[must_use]
    pub const fn tokens(&self) -> &Arc<TokenSource> {
        &self.tokens
    }

    /// When the current access token expires; for
    /// `ringpush_credential_expiry_seconds` and the status page.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.tokens.expires_at()
    }

    /// Has FCM check a push, which it then does not deliver.
    pub async fn validate(&self, attempt: Attempt<'_>) -> Answer {
        self.attempt(&attempt, true).await
    }

    /// Has FCM check a message to nobody: whether the account may send shows in
    /// what it complains about.
    pub async fn prove(&self, limit: Duration) -> Answer {
        let ask = || async {
            let attempt = Attempt {
                id: Uuid::new_v4(),
                kind: PushKind::Call,
                token: &Secret::from(NOBODY),
                target: TargetKind::Token,
                payload: &Payload::Android([("event", "check")].into()),
                deadline: SystemTime::now().into(),
                time_left: limit,
                gate: &Gate::default(),
            };
            self.attempt(&attempt, true).await
        };
        match ask().await {
            // Another token is on its way.
            answer if answer.class == Class::StaleCredential => ask().await,
            answer => answer,
        }
    }

    /// Closes the connections and waits for the client's own tasks. The token
    /// source is closed by whoever started it; other clients may use it.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn attempt(&self, attempt: &Attempt<'_>, validate_only: bool) -> Answer {
        let Payload::Android(data) = attempt.payload else {
            let mut answer = Answer::new(Class::OwnFault).unstarted();
            answer.detail = Some("the payload is not one for Android".to_owned());
            return answer;
        };
        let begun = Instant::now();
        let until = begun + self.attempt_timeout.min(attempt.time_left);
        let token = match self.tokens.current() {
            Some(token) => token,
            None => match self.next_token(until).await {
                Ok(token) => token,
                Err(answer) => return answer,
            },
        };
        let Some(requests) = self.requests(&token) else {
            let mut answer = Answer::new(Class::OwnFault).unstarted();
            answer.detail = Some("the access token came without its project".to_owned());
            return answer;
        };
        let mut request = || {
            let draft = Draft {
                target: (attempt.target, attempt.token.expose()),
                data,
                // Token and stream may have been waited for.
                time_left: attempt.time_left.saturating_sub(begun.elapsed()),
                options: &self.options,
                validate_only,
            };
            let body = draft.encode();
            let head = requests.build(body.len(), Some(token.header.clone()));
            (head, Bytes::from(body))
        };
        match self.pool.exchange(attempt.gate, until, &mut request).await {
            Ok(reply) => {
                let answer = error::classify(&reply.head, &reply.body);
                reply.answered(answer.class == Class::Unavailable);
                // Whoever says 401 has not taken the token, even if that was
                // not FCM.
                let unwelcome = answer.status == Some(401) && answer.class == Class::Unavailable;
                if answer.class == Class::StaleCredential || unwelcome {
                    self.tokens.refuse(&token);
                }
                answer
            }
            Err(answer) => answer,
        }
    }

    /// The project that messages are sent in, as soon as it is known.
    #[must_use]
    pub fn project_id(&self) -> Option<Arc<str>> {
        let said = || self.tokens.current()?.project.clone();
        self.project_id.clone().or_else(said)
    }

    fn requests(&self, token: &AccessToken) -> Option<&Requests> {
        if let Some(requests) = self.requests.get() {
            return Some(requests);
        }
        let made = Requests::new(&self.endpoint, token.project.as_deref()?)?;
        Some(self.requests.get_or_init(|| made))
    }

    /// Waits for an access token, until then at most.
    async fn next_token(&self, until: Instant) -> Result<Arc<AccessToken>, Answer> {
        match timeout_at(until, self.tokens.wait()).await {
            Ok(Ok(token)) => Ok(token),
            Ok(Err(Denied::Refused(refusal))) => {
                let mut answer = Answer::new(Class::CredentialFault).unstarted();
                answer.reason = Some(refusal.reason);
                answer.detail = refusal.detail;
                Err(answer)
            }
            Ok(Err(Denied::Closed)) | Err(_) => {
                let mut answer = Answer::new(Class::NoCredential)
                    .because("oauth_unavailable")
                    .unstarted();
                answer.detail = self.tokens.trouble();
                Err(answer)
            }
        }
    }
}

impl PushClient for Client {
    fn send<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Answer> {
        async move { self.attempt(&attempt, false).await }.boxed()
    }

    fn why_not_ready(&self) -> Option<String> {
        if !self.tokens.is_ready() {
            let trouble = self.tokens.trouble();
            return Some(trouble.unwrap_or_else(|| "no access token yet".to_owned()));
        }
        let trouble = self.status().trouble()?;
        Some(format!("no connection to FCM: {trouble}"))
    }
}

#[cfg(test)]
mod tests;
