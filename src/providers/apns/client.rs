//! The client of one app and environment: one attempt at one push.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::uri::PathAndQuery;
use http::{HeaderValue, StatusCode};
use rustls::RootCertStore;
use tokio::time::Instant;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::call::event::{Environment, TargetKind};
use crate::call::payload::Payload;
use crate::call::push::{Answer, Attempt, Class, Gate, PushClient, PushKind};
use crate::call::secret::Secret;
use crate::metrics::Metrics;
use crate::providers::http2::proxy::Proxy;
use crate::providers::http2::{self, HostError, Pool, Reply, Status, Tuning};
use crate::providers::tls::{self, TlsError};

use super::answer;
use super::credentials::Credentials;
use super::reason::Known;
use super::request::{Requests, path};
use super::settings::Settings;

/// No device has this token: Apple's are hexadecimal.
const NOBODY: &str = "ringpushcheck";

/// An answer's body is a line of JSON; more than this is not read.
const BODY_LIMIT: usize = 4096;

/// What a client is made from.
#[derive(Debug)]
pub struct Options<'a> {
    /// `[apns]`.
    pub settings: &'a Settings,
    /// Which half of `APNs`.
    pub environment: Environment,
    /// The app's bundle id.
    pub bundle_id: &'a str,
    /// Key or certificate.
    pub credentials: &'a Credentials,
    /// The roots to trust ([`tls::roots_from`] of `apns.ca_file`).
    pub roots: RootCertStore,
    /// The way out.
    pub proxy: &'a Proxy,
    /// Where connections are counted.
    pub metrics: &'a Metrics,
    /// Times; the default suits.
    pub tuning: Tuning,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The TLS set-up failed.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The host cannot be named in TLS.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The bundle id cannot stand in a header.
    #[error("`bundle_id`: must be the app's bundle id, such as com.example.calls")]
    BundleId,
}

/// Sends pushes of one app to one environment over its own warm connections.
///
/// Two teams never share a connection, and neither do two keys: each client
/// has connections of its own, only the signer is shared by those of one key.
#[derive(Debug)]
pub struct Client {
    pool: Pool,
    requests: Requests,
    credentials: Credentials,
    attempt_timeout: Duration,
    /// When all connections were replaced because the credential was refused.
    renewed: Mutex<Option<Instant>>,
}

impl Client {
    /// A client that connects when it is told to or with its first push. Needs
    /// a tokio runtime.
    ///
    /// # Errors
    ///
    /// When certificate, host or bundle id cannot be used.
    pub fn new(options: Options<'_>) -> Result<Self, ClientError> {
        let endpoint = options.settings.endpoint(options.environment).clone();
        let identity = options.credentials.identity();
        let tls = tls::client_config(options.roots, identity, &[b"h2"])?;
        let expiration = options.settings.expiration;
        let requests =
            Requests::new(&endpoint, options.bundle_id, expiration).ok_or(ClientError::BundleId)?;
        let wanted = http2::Options {
            provider: "APNs",
            platform: "ios",
            connections: options.settings.connections,
            attempt_timeout: options.settings.attempt_timeout,
            // Apple says how many it takes.
            streams_at_most: usize::MAX,
            head_is_enough: Some(StatusCode::OK),
            body_limit: BODY_LIMIT,
            tuning: options.tuning,
        };
        Ok(Self {
            requests,
            pool: Pool::new(endpoint, tls, options.proxy, wanted, options.metrics)?,
            credentials: options.credentials.clone(),
            attempt_timeout: options.settings.attempt_timeout,
            renewed: Mutex::default(),
        })
    }

    /// Begins to connect, if it has not yet and its credential can be used.
    pub fn connect(&self) {
        if self.credentials.fault().is_none() {
            self.pool.connect();
        }
    }

    /// Waits, at most `limit`, until each connection is up or has failed once,
    /// and says how they are. Failed ones go on being tried.
    pub async fn warm(&self, limit: Duration) -> Status {
        self.pool.warm(limit).await
    }

    /// How the connections are.
    #[must_use]
    pub fn status(&self) -> Status {
        self.pool.status()
    }

    /// The credential in use.
    #[must_use]
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Asks with a token that cannot exist: whether the credential and the topic
    /// are taken shows in what Apple complains about.
    pub async fn prove(&self, limit: Duration) -> Answer {
        let ask = || async {
            let attempt = Attempt {
                id: Uuid::new_v4(),
                kind: PushKind::Call,
                token: &Secret::from(NOBODY),
                target: TargetKind::Token,
                payload: &Payload::Ios(Bytes::from_static(b"{\"aps\":{}}")),
                deadline: SystemTime::now().into(),
                time_left: limit,
                gate: &Gate::default(),
            };
            self.attempt(&attempt).await
        };
        match ask().await {
            // It has been renewed.
            answer if answer.class == Class::StaleCredential => ask().await,
            answer => answer,
        }
    }

    /// Closes the connections and waits for every task of this client. Pushes
    /// that are under way end as unclear.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn attempt(&self, attempt: &Attempt<'_>) -> Answer {
        let Payload::Ios(body) = attempt.payload else {
            return own_fault("a payload for another platform came to APNs");
        };
        let token = attempt.token.expose();
        let mut first = path(token);
        if first.is_none() {
            return own_fault("the device token cannot stand in a path").because("invalid_token");
        }
        if let Some(fault) = self.credentials.fault() {
            let mut answer = Answer::new(Class::CredentialFault)
                .because(fault.reason())
                .unstarted();
            answer.detail = Some(fault.to_string());
            return answer;
        }
        let until = Instant::now() + self.attempt_timeout.min(attempt.time_left);
        let mut authorization = None;
        let mut request = || {
            authorization = self.credentials.signer().map(|signer| signer.header());
            let path = first.take().or_else(|| path(token));
            let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
            let head = self.requests.build(attempt, path, authorization.clone());
            (head, body.clone())
        };
        match self.pool.exchange(attempt.gate, until, &mut request).await {
            Ok(reply) => {
                let answer = answer::read(&reply.head, &reply.body, attempt.id);
                self.learn(&answer, &reply, authorization.as_ref());
                answer
            }
            Err(answer) => answer,
        }
    }

    /// What an answer says about its connection and its credential.
    fn learn(&self, answer: &Answer, reply: &Reply, shown: Option<&HeaderValue>) {
        let reason = answer.reason.as_deref();
        let is = |known: Known| reason == Some(known.word());
        if is(Known::ExpiredProviderToken) {
            self.renew(shown);
            self.renew_connections(reply);
        } else if is(Known::UnrelatedKeyIdInToken) {
            // All connections of that time belong to the other key.
            self.renew_connections(reply);
        } else if is(Known::IdleTimeout) {
            reply.retire();
        } else {
            reply.answered(answer.class == Class::Unavailable);
            if is(Known::Shutdown) {
                reply.retire();
            }
        }
    }

    /// A new token, unless Apple's 20 minutes forbid it: then a fresh
    /// connection is all there is to try.
    fn renew(&self, shown: Option<&HeaderValue>) {
        let (Some(signer), Some(stale)) = (self.credentials.signer(), shown) else {
            return;
        };
        match signer.renew(stale) {
            Ok(renewal) => debug!(?renewal, key_id = signer.key_id(), "provider token refused"),
            Err(error) => warn!(%error, key_id = signer.key_id(), "no new provider token"),
        }
    }

    /// Connections that have never carried the refused credential: those that
    /// have were seen to go on refusing. One that was opened for this reason
    /// and refuses all the same is kept, for the fault is in the key or the
    /// clock, and one connection after the other would end without use.
    fn renew_connections(&self, reply: &Reply) {
        reply.refused();
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        match *renewed {
            // Retired then.
            Some(last) if reply.opened() < last => {}
            Some(_) if !reply.is_trusted() => {}
            Some(_) | None => {
                let now = Instant::now();
                *renewed = Some(now);
                self.pool.retire_older_than(now);
            }
        }
    }
}

impl PushClient for Client {
    fn send<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Answer> {
        async move { self.attempt(&attempt).await }.boxed()
    }

    fn why_not_ready(&self) -> Option<String> {
        if let Some(fault) = self.credentials.fault() {
            return Some(fault.to_string());
        }
        let trouble = self.status().trouble()?;
        Some(format!("no connection to APNs: {trouble}"))
    }

    fn is_used(&self) -> bool {
        self.status().wanted > 0 || self.credentials.fault().is_some()
    }
}

fn own_fault(detail: &str) -> Answer {
    let mut answer = Answer::new(Class::OwnFault).unstarted();
    answer.detail = Some(detail.to_owned());
    answer
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
