//! One attempt at one push.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, RETRY_AFTER};
use tokio::time::{Instant, timeout_at};

use super::access::{AccessToken, Denied, TokenSource};
use super::account::ServiceAccount;
use super::endpoint::{self, EndpointFault};
use super::keeper::Rhythm;
use super::message::{self, Draft, Target};
use super::pool::{Pool, Seat};
use super::settings::Settings;
use super::{error, failure};
use crate::call::payload::Payload;
use crate::call::push::{Answer, Attempt, Class, PushClient};
use crate::call::time::Timestamp;
use crate::metrics::Metrics;
use crate::providers::tls::{self, TlsError};

/// FCM's answers have some hundred bytes; no more than this is read of one.
const MAX_ANSWER: usize = 64 * 1024;

/// An attempt that ended sooner than this, for want of time, says nothing
/// about its connection.
const SUSPICIOUS: Duration = Duration::from_secs(1);

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be used.
    #[error("fcm.url {0}")]
    Url(EndpointFault),
    /// The certificates cannot be used.
    #[error("{}", .0.in_table("fcm"))]
    Tls(#[from] TlsError),
    /// The HTTP client could not be set up.
    #[error("FCM's HTTP client could not be set up: {0}")]
    Http(#[from] reqwest::Error),
}

/// Sends data messages in one Firebase project.
///
/// Everything goes out with high priority, whatever [`Attempt::kind`] says:
/// Android holds anything less back while the phone dozes, also the news that
/// a call is over.
pub struct Client {
    send_url: String,
    pool: Pool,
    tokens: Arc<TokenSource>,
    attempt_timeout: Duration,
}

impl Client {
    /// A client that has no connection yet. Reads `fcm.ca_file`.
    ///
    /// # Errors
    /// Names the key of the configuration.
    pub fn new(
        settings: &Settings,
        account: &ServiceAccount,
        tokens: Arc<TokenSource>,
        metrics: &Metrics,
    ) -> Result<Self, ClientError> {
        endpoint::parse(&settings.url).map_err(ClientError::Url)?;
        let base = settings.url.trim_end_matches('/');
        let tls = tls::client_config(
            tls::roots_from(settings.ca_file.as_deref())?,
            None,
            &[b"h2"],
        )?;
        Ok(Self {
            send_url: format!("{base}/v1/projects/{}/messages:send", account.project_id()),
            pool: Pool::new(
                settings.connections,
                tls,
                format!("{base}/"),
                settings.attempt_timeout,
                metrics.connections.clone(),
            )?,
            tokens,
            attempt_timeout: settings.attempt_timeout,
        })
    }

    /// Opens the connections and waits for the access token, before the first
    /// ring. Ends within the attempt's time-out, whether it succeeded or not.
    pub async fn warm(&self) {
        let token = tokio::time::timeout(self.attempt_timeout, self.tokens.wait());
        // Whoever cares for how it went asks the token source and the pool.
        let _ = tokio::join!(self.pool.warm(), token);
    }

    /// From now on connections that have failed are opened again by
    /// themselves, not only by the next push.
    pub fn keep_connected(&self) {
        self.pool.keep(Rhythm::default());
    }

    /// How many connections answered their last request.
    #[must_use]
    pub fn ready_connections(&self) -> usize {
        self.pool.ready()
    }

    /// How many connections there are, and how many of them are ready.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        (self.pool.size(), self.pool.ready())
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
        self.attempt(attempt, true).await
    }

    /// Waits for the client's own tasks. The token source is closed by whoever
    /// started it; other clients may use it.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn attempt(&self, attempt: Attempt<'_>, validate_only: bool) -> Answer {
        let Payload::Android(data) = attempt.payload else {
            let mut answer = Answer::new(Class::OwnFault).unstarted();
            answer.detail = Some("the payload is not one for Android".to_owned());
            return answer;
        };
        let begun = Instant::now();
        let until = begun + self.attempt_timeout.min(attempt.time_left);
        let (token, waited) = match self.tokens.current() {
            Some(token) => (token, Duration::ZERO),
            None => match self.next_token(until).await {
                Ok(token) => (token, begun.elapsed()),
                Err(answer) => return answer,
            },
        };
        let draft = Draft {
            target: Target::Token(attempt.token.expose()),
            data,
            time_left: attempt.time_left.saturating_sub(waited),
            validate_only,
        };
        match draft.encode() {
            // The caller may have hung up while this waited for a token.
            Ok(_) if !attempt.gate.pass() => Answer::new(Class::NotProcessed).unstarted(),
            Ok(body) => self.exchange(body.into(), &token, until).await,
            Err(_) => Answer::new(Class::OwnFault).unstarted(),
        }
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

    async fn exchange(&self, body: Bytes, token: &AccessToken, until: Instant) -> Answer {
        let begun = Instant::now();
        // A time-out polls what it limits once, even when the time is up.
        let Some(seat) = self.pool.pick().filter(|_| until > begun) else {
            return Answer::new(Class::NotProcessed)
                .because("timeout")
                .unstarted();
        };
        match timeout_at(until, self.post(&seat, body, token)).await {
            Ok(Ok(answer)) => {
                seat.channel().answered();
                if answer.class == Class::StaleCredential {
                    self.tokens.refuse(token);
                }
                answer
            }
            Ok(Err(error)) => {
                seat.channel().broken();
                failure::classify(&error)
            }
            Err(_) => {
                if begun.elapsed() >= SUSPICIOUS.min(self.attempt_timeout) {
                    self.pool.suspect(seat.channel());
                }
                failure::timed_out()
            }
        }
    }

    async fn post(&self, seat: &Seat, body: Bytes, token: &AccessToken) -> reqwest::Result<Answer> {
        let response = seat
            .http()
            .post(&self.send_url)
            .headers(message::headers(body.len()))
            .header(AUTHORIZATION, token.header.clone())
            .body(body)
            .send()
            .await?;
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| error::retry_after(value, SystemTime::now()));
        let body = read_body(response).await?;
        Ok(error::classify(status, &body, retry_after))
    }
}

impl PushClient for Client {
    fn send<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Answer> {
        Box::pin(self.attempt(attempt, false))
    }

    fn hindrance(&self) -> Option<String> {
        if self.tokens.current().is_none() {
            let trouble = self.tokens.trouble();
            return Some(trouble.unwrap_or_else(|| "no access token yet".to_owned()));
        }
        let trouble = self.pool.trouble()?;
        Some(format!("no connection to FCM: {trouble}"))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("send_url", &self.send_url)
            .finish_non_exhaustive()
    }
}

/// Reads an answer's body, cut off at [`MAX_ANSWER`]: what is longer is not
/// from a service that is known here.
pub(super) async fn read_body(mut response: reqwest::Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = MAX_ANSWER - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests;
