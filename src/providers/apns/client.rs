//! The client of one app and environment: one attempt at one push.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant as Moment, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use h2::client::ResponseFuture;
use http::{HeaderValue, response};
use rustls::RootCertStore;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::call::event::Environment;
use crate::call::payload::Payload;
use crate::call::push::{Answer, Attempt, Class, PushClient};
use crate::metrics::Metrics;
use crate::providers::tls::{self, TlsError};

use super::answer;
use super::connect::Target;
use super::credentials::Credentials;
use super::fault;
use super::gauge::Gauges;
use super::link::Link;
use super::pool::{Pool, Slot, Status, Tuning};
use super::reason::Known;
use super::request::{Requests, path};
use super::settings::Settings;

/// An answer's body is a line of JSON; more than this is not read.
const BODY_LIMIT: usize = 4096;
/// So many connections may turn out to be closed before a request is on one.
const UNSENT: usize = 4;
/// Waiting this long for an answer is enough to doubt the connection, even if
/// the ring had no more time than that.
const DOUBT: Duration = Duration::from_secs(1);

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
    #[error("{0} is not a host name")]
    Host(String),
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
    renewed: Mutex<Option<Moment>>,
}

impl Client {
    /// A client that begins to connect at once. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// When certificate, host or bundle id cannot be used.
    pub fn new(options: Options<'_>) -> Result<Self, ClientError> {
        let endpoint = options.settings.endpoint(options.environment).clone();
        let identity = options.credentials.identity();
        let tls = tls::client_config(options.roots, identity, &[b"h2"])?;
        let host = |_| ClientError::Host(endpoint.host().to_owned());
        let expiration = options.settings.expiration;
        let requests =
            Requests::new(&endpoint, options.bundle_id, expiration).ok_or(ClientError::BundleId)?;
        let target = Target::new(endpoint.clone(), tls).map_err(host)?;
        let gauges = Gauges::new(options.metrics);
        Ok(Self {
            requests,
            pool: Pool::new(target, options.settings.connections, options.tuning, gauges),
            credentials: options.credentials.clone(),
            attempt_timeout: options.settings.attempt_timeout,
            renewed: Mutex::default(),
        })
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

    /// Closes the connections and waits for every task of this client. Pushes
    /// that are under way end as unclear.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn attempt(&self, attempt: Attempt<'_>) -> Answer {
        let Payload::Ios(body) = attempt.payload else {
            return own_fault("a payload for another platform came to APNs");
        };
        let Some(path) = path(attempt.token.expose()) else {
            return own_fault("the device token cannot stand in a path").because("invalid_token");
        };
        let until = Instant::now() + self.attempt_timeout.min(attempt.time_left);
        for _ in 0..UNSENT {
            let Some(slot) = self.pool.acquire(until).await else {
                return not_sent(self.why_no_stream());
            };
            // The caller may have hung up while this waited for a stream.
            if !attempt.gate.pass() {
                return Answer::new(Class::NotProcessed).unstarted();
            }
            let authorization = self.credentials.signer().map(|signer| signer.header());
            let request = self.requests.build(&attempt, &path, authorization.clone());
            match slot.connection().open(request) {
                Ok((response, mut stream)) => {
                    // h2 keeps what flow control does not let out yet. Should
                    // the stream be gone already, its response says why.
                    let _ = stream.send_data(body.clone(), true);
                    let exchange = Exchange {
                        slot,
                        id: attempt.id,
                        authorization,
                        sent: Moment::now(),
                    };
                    return self.finish(exchange, response, until).await;
                }
                // It went away between being picked and being used: nothing
                // was sent, so another one may be taken within this attempt.
                Err(error) => {
                    debug!(error = %fault::describe(&error), "APNs connection was closed already");
                    slot.link().retire();
                }
            }
        }
        not_sent("one connection after the other was closed".to_owned())
    }

    async fn finish(&self, exchange: Exchange, response: ResponseFuture, until: Instant) -> Answer {
        match timeout_at(until, receive(response)).await {
            Ok(Ok((head, body))) => {
                let answer = answer::read(&head, &body, exchange.id, SystemTime::now());
                self.learn(&answer, &exchange);
                answer
            }
            Ok(Err(error)) => {
                let mut answer = Answer::new(fault::classify(&error)).because("connection");
                answer.detail = Some(fault::describe(&error));
                answer
            }
            Err(_) => {
                let link = exchange.slot.link();
                if exchange.sent.elapsed() >= self.attempt_timeout.min(DOUBT) {
                    link.timed_out();
                } else {
                    link.ask_probe();
                }
                Answer::new(Class::Unclear).because("timeout")
            }
        }
    }

    /// What an answer says about its connection and its credential.
    fn learn(&self, answer: &Answer, exchange: &Exchange) {
        let link = exchange.slot.link();
        let reason = answer.reason.as_deref();
        let is = |known: Known| reason == Some(known.word());
        if is(Known::ExpiredProviderToken) {
            self.renew(exchange);
            self.renew_connections(link);
        } else if is(Known::UnrelatedKeyIdInToken) {
            // All connections of that time belong to the other key.
            self.renew_connections(link);
        } else if is(Known::IdleTimeout) {
            link.retire();
        } else {
            link.answered(answer.class == Class::Unavailable);
            if is(Known::Shutdown) {
                link.retire();
            }
        }
    }

    /// A new token, unless Apple's 20 minutes forbid it: then a fresh
    /// connection is all there is to try.
    fn renew(&self, exchange: &Exchange) {
        let (Some(signer), Some(stale)) = (self.credentials.signer(), &exchange.authorization)
        else {
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
    fn renew_connections(&self, link: &Link) {
        link.refused();
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        match *renewed {
            // Retired then.
            Some(last) if link.opened < last => {}
            Some(_) if !link.is_trusted() => {}
            Some(_) | None => {
                let now = Moment::now();
                *renewed = Some(now);
                self.pool.retire_older_than(now);
            }
        }
    }

    fn why_no_stream(&self) -> String {
        let status = self.pool.status();
        match status.error {
            Some(error) if status.ready == 0 => error,
            _ if status.ready == 0 => "no connection was up in time".to_owned(),
            _ => "no stream was free in time".to_owned(),
        }
    }
}

impl PushClient for Client {
    fn send<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Answer> {
        self.attempt(attempt).boxed()
    }

    fn hindrance(&self) -> Option<String> {
        let status = self.status();
        if status.ready > 0 {
            return None;
        }
        let error = status.error.unwrap_or_else(|| "connecting".to_owned());
        Some(format!("no connection to APNs: {error}"))
    }
}

/// A request that has been given to HTTP/2.
struct Exchange {
    slot: Slot,
    id: Uuid,
    authorization: Option<HeaderValue>,
    sent: Moment,
}

/// Head and body. Of an acceptance the head is enough.
async fn receive(response: ResponseFuture) -> Result<(response::Parts, Bytes), h2::Error> {
    let (head, mut stream) = response.await?.into_parts();
    if head.status == http::StatusCode::OK {
        return Ok((head, Bytes::new()));
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk?;
        let _ = stream.flow_control().release_capacity(chunk.len());
        let room = BODY_LIMIT - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == BODY_LIMIT {
            break;
        }
    }
    Ok((head, body.freeze()))
}

fn not_sent(detail: String) -> Answer {
    let mut answer = Answer::new(Class::NotProcessed)
        .because("connection")
        .unstarted();
    answer.detail = Some(detail);
    answer
}

fn own_fault(detail: &str) -> Answer {
    let mut answer = Answer::new(Class::OwnFault).unstarted();
    answer.detail = Some(detail.to_owned());
    answer
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
