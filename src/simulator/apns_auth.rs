//! Who sends on an `APNs` connection, by Apple's "Establishing a token-based
//! connection to `APNs`" and its certificate-based sibling.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use ring::signature::ECDSA_P256_SHA256_FIXED;
use tokio::time::Instant;

use super::accounts::Accounts;
use super::jwt::{Jwt, STRICT};
use super::kind::Environment;
use super::record::Claims;

/// A provider token is good for an hour after it was issued.
const MAX_AGE: i64 = 60 * 60;
/// How far a provider's clock may run ahead, in seconds.
const MAX_AHEAD: i64 = 60;
/// Tokens of one connection that stay accepted side by side while a renewal
/// spreads over a provider's senders.
const SIDE_BY_SIDE: usize = 4;

/// Why a provider token is refused: Apple's word and status.
pub(super) type Refusal = (u16, &'static str);

const MISSING: Refusal = (403, "MissingProviderToken");
const INVALID: Refusal = (403, "InvalidProviderToken");
const EXPIRED: Refusal = (403, "ExpiredProviderToken");
const UNRELATED: Refusal = (403, "UnrelatedKeyIdInToken");
const OTHER_ENVIRONMENT: Refusal = (403, "BadEnvironmentKeyIdInToken");
const TOO_MANY: Refusal = (429, "TooManyProviderTokenUpdates");

/// Whose pushes these are.
#[derive(Clone)]
pub(super) enum Sender {
    /// A team by its token, and the apps that its key is bound to.
    Team(String, Option<Vec<String>>),
    /// The topics of a client certificate.
    Topics(Vec<String>),
}

/// The authentication state of one connection.
pub(super) struct Auth {
    environment: Environment,
    /// The topics of the client's certificate, if it showed one.
    certificate: Option<Vec<String>>,
    /// How long a new token must wait after the one before.
    window: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    accepted: Vec<Accepted>,
    last_update: Option<Instant>,
    /// Team and key of the first token: they stay for the connection.
    bound: Option<(String, String)>,
}

struct Accepted {
    bytes: Bytes,
    claims: Claims,
    sender: Sender,
    issued: i64,
    generation: u64,
}

/// What a good token says.
struct Verified {
    team: String,
    key: String,
    /// The apps that its key is bound to.
    apps: Option<Vec<String>>,
    issued: i64,
}

impl Auth {
    pub(super) fn new(
        environment: Environment,
        certificate: Option<Vec<String>>,
        window: Duration,
    ) -> Self {
        Self {
            environment,
            certificate,
            window,
            state: Mutex::default(),
        }
    }

    /// Whether the streams are limited to one until a token was accepted.
    pub(super) fn has_certificate(&self) -> bool {
        self.certificate.is_some()
    }

    /// Judges a request's `authorization`. The same bytes are verified once
    /// per connection, then only their age is looked at.
    pub(super) fn judge(
        &self,
        headers: &HeaderMap,
        accounts: &Accounts,
    ) -> (Option<Claims>, Result<Sender, Refusal>) {
        let Some(value) = headers.get(AUTHORIZATION) else {
            let sender = self.certificate.clone().map(Sender::Topics).ok_or(MISSING);
            return (None, sender);
        };
        let now = accounts.apns_now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = accounts.generation();
        let known = state
            .accepted
            .iter()
            .find(|a| a.generation == generation && a.bytes == value.as_bytes());
        if let Some(known) = known {
            let sender = if now - known.issued > MAX_AGE {
                Err(EXPIRED)
            } else {
                Ok(known.sender.clone())
            };
            return (Some(known.claims.clone()), sender);
        }
        let Some(text) = bearer(value.as_bytes()) else {
            return (None, Err(MISSING));
        };
        let Some(jwt) = Jwt::parse(text, &STRICT) else {
            return (None, Err(INVALID));
        };
        let claims = jwt.claimed();
        let verified = self.verify(&jwt, accounts, now);
        let sender = verified.and_then(|verified| {
            let Verified {
                team,
                key,
                apps,
                issued,
            } = verified;
            state.admit(&team, &key, value.as_bytes(), self.window)?;
            let sender = Sender::Team(team, apps);
            state.remember(Accepted {
                bytes: Bytes::copy_from_slice(value.as_bytes()),
                claims: claims.clone(),
                sender: sender.clone(),
                issued,
                generation,
            });
            Ok(sender)
        });
        (Some(claims), sender)
    }

    /// A token that is good by itself.
    fn verify(&self, jwt: &Jwt<'_>, accounts: &Accounts, now: i64) -> Result<Verified, Refusal> {
        if jwt.header_text("alg") != Some("ES256") {
            return Err(INVALID);
        }
        let kid = jwt.header_text("kid").ok_or(INVALID)?;
        let team = jwt.claim_text("iss").ok_or(INVALID)?;
        let issued = jwt.claim_seconds("iat").ok_or(INVALID)?;
        let state = accounts.read();
        let key = state
            .keys
            .get(kid)
            .filter(|key| key.team == team)
            .ok_or(INVALID)?;
        if !jwt.is_signed(&ECDSA_P256_SHA256_FIXED, &key.point) || issued - now > MAX_AHEAD {
            return Err(INVALID);
        }
        if key.environment.is_some_and(|only| only != self.environment) {
            return Err(OTHER_ENVIRONMENT);
        }
        if now - issued > MAX_AGE {
            return Err(EXPIRED);
        }
        Ok(Verified {
            team: team.to_owned(),
            key: kid.to_owned(),
            apps: key.apps.clone(),
            issued,
        })
    }
}

impl State {
    /// The rules between the tokens of one connection: one team, one key, and
    /// no new token sooner than the window after the last.
    fn admit(
        &mut self,
        team: &str,
        key: &str,
        bytes: &[u8],
        window: Duration,
    ) -> Result<(), Refusal> {
        if let Some((bound_team, bound_key)) = &self.bound {
            if bound_team != team {
                return Err(INVALID);
            }
            if bound_key != key {
                return Err(UNRELATED);
            }
        }
        let now = Instant::now();
        let seen = self.accepted.iter().any(|a| a.bytes == bytes);
        if !seen {
            if self
                .last_update
                .is_some_and(|last| now.duration_since(last) < window)
            {
                return Err(TOO_MANY);
            }
            self.last_update = Some(now);
        }
        self.bound
            .get_or_insert_with(|| (team.to_owned(), key.to_owned()));
        Ok(())
    }

    fn remember(&mut self, accepted: Accepted) {
        self.accepted.retain(|a| a.bytes != accepted.bytes);
        if self.accepted.len() >= SIDE_BY_SIDE {
            self.accepted.remove(0);
        }
        self.accepted.push(accepted);
    }
}

/// The token after `bearer`, which Apple takes in any case.
fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
