//! The provider token: a JWT that says which team is pushing.
//!
//! "Establishing a token-based connection to APNs": ES256, `kid` is the key's
//! id, `iss` the team's, `iat` the time of signing; renewed no more than once
//! in 20 minutes and no less than once in 60.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::json;

/// A JWT is replaced at its first use after this long; Apple refuses it after 60 minutes.
const RENEW_AFTER: Duration = Duration::from_secs(50 * 60);
/// Apple refuses new ones that come sooner than this.
const KEEP_AT_LEAST: Duration = Duration::from_secs(20 * 60);
/// A wall clock that has moved this much against the monotonic one was set.
const CLOCK_STEP: Duration = Duration::from_secs(60);

/// The curve's name in DER.
const P256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";

/// Why no token could be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The key is not a P-256 private key in PKCS#8.
    #[error(
        "not a P-256 (prime256v1) private key in PKCS#8; APNs keys are P-256 as downloaded from \
         developer.apple.com (Keys)"
    )]
    Key,
    /// It is one, as other programs write it.
    #[error(
        "its public half is missing or compressed; add it: openssl ec -in <file> -conv_form \
         uncompressed | openssl pkcs8 -topk8 -nocrypt -out new.p8"
    )]
    PublicHalf,
    /// The signature failed: no randomness.
    #[error("signing the provider token failed")]
    Signature,
}

/// What [`Signer::renew`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// There is a new token.
    Signed,
    /// Somebody else had replaced the refused token already.
    AlreadyNew,
    /// The refused token stays: Apple's 20 minutes are not over, and a new
    /// signature would carry the same time and be refused for the same reason.
    Kept,
}

/// Signs provider tokens for one key and keeps the current one. Shared by all
/// clients of that key; neither its `Debug` nor its errors show key or token.
pub struct Signer {
    key: EcdsaKeyPair,
    random: SystemRandom,
    key_id: String,
    team_id: String,
    current: RwLock<Token>,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    /// `iat`.
    signed: SystemTime,
    /// The same moment on the clock that nobody can set.
    since: Instant,
}

impl Token {
    /// The larger of both clocks' ideas of its age. The monotonic clock stands
    /// still while a machine sleeps; the wall clock can be set back.
    fn age(&self, now: Now) -> Duration {
        let wall = now.wall.duration_since(self.signed).unwrap_or_default();
        wall.max(now.monotonic.saturating_duration_since(self.since))
    }

    /// Whether the wall clock was set since: then `iat` was wrong, or is now.
    fn clock_stepped(&self, now: Now) -> bool {
        let elapsed = now.monotonic.saturating_duration_since(self.since);
        let expected = self.signed + elapsed;
        let step = match now.wall.duration_since(expected) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        };
        step >= CLOCK_STEP
    }

    /// Whether a new signature is allowed and of use. Apple's 20 minutes count
    /// from the token before; they are overridden only when the clock was set,
    /// for then the token carries a time at which Apple refuses it for good.
    fn may_be_replaced(&self, now: Now) -> bool {
        now.monotonic.saturating_duration_since(self.since) >= KEEP_AT_LEAST
            || self.clock_stepped(now)
    }

    fn is_due(&self, now: Now) -> bool {
        let from_the_future = self.signed > now.wall + CLOCK_STEP;
        (self.age(now) >= RENEW_AFTER || from_the_future) && self.may_be_replaced(now)
    }
}

/// Both clocks, read together.
#[derive(Clone, Copy)]
struct Now {
    wall: SystemTime,
    monotonic: Instant,
}

impl Now {
    fn read() -> Self {
        Self {
            wall: SystemTime::now(),
            monotonic: Instant::now(),
        }
    }
}

impl Signer {
    /// A signer with its first token. `pkcs8` is the DER of the key's PKCS#8.
    ///
    /// # Errors
    ///
    /// When the key is not one for ES256, or signing fails.
    pub fn new(
        team_id: impl Into<String>,
        key_id: impl Into<String>,
        pkcs8: &[u8],
    ) -> Result<Self, SignError> {
        Self::at(Now::read(), team_id.into(), key_id.into(), pkcs8)
    }

    fn at(now: Now, team_id: String, key_id: String, pkcs8: &[u8]) -> Result<Self, SignError> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|_| {
                let is_p256 = pkcs8.windows(P256.len()).any(|part| part == P256);
                if is_p256 {
                    SignError::PublicHalf
                } else {
                    SignError::Key
                }
            })?;
        let header = sign(&key, &random, &team_id, &key_id, now.wall)?;
        Ok(Self {
            key,
            random,
            key_id,
            team_id,
            current: RwLock::new(Token {
                header,
                signed: now.wall,
                since: now.monotonic,
            }),
        })
    }

    /// The value of `authorization`, marked sensitive. Signs anew if the
    /// current token is older than 50 minutes.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.header_at(Now::read())
    }

    fn header_at(&self, now: Now) -> HeaderValue {
        let token = self.token();
        if !token.is_due(now) {
            return token.header;
        }
        // Should signing fail, the old token is better than none: it has ten
        // minutes left.
        let _ = self.replace(&token.header, now);
        self.token().header
    }

    /// Replaces `stale`, a token that `APNs` refused as expired. Many requests
    /// may be refused at once; only the first has any effect.
    ///
    /// # Errors
    ///
    /// When signing fails; the old token stays.
    pub fn renew(&self, stale: &HeaderValue) -> Result<Renewal, SignError> {
        self.replace(stale, Now::read())
    }

    fn replace(&self, stale: &HeaderValue, now: Now) -> Result<Renewal, SignError> {
        // Signing takes some 30 µs; whoever comes meanwhile waits for it here
        // and then sees that it is done.
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.header != *stale {
            return Ok(Renewal::AlreadyNew);
        }
        if !current.may_be_replaced(now) {
            return Ok(Renewal::Kept);
        }
        let header = sign(
            &self.key,
            &self.random,
            &self.team_id,
            &self.key_id,
            now.wall,
        )?;
        *current = Token {
            header,
            signed: now.wall,
            since: now.monotonic,
        };
        Ok(Renewal::Signed)
    }

    /// How old the current token is.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.token().age(Now::read())
    }

    /// The key's id.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The team's id.
    #[must_use]
    pub fn team_id(&self) -> &str {
        &self.team_id
    }

    fn token(&self) -> Token {
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("team_id", &self.team_id)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

fn sign(
    key: &EcdsaKeyPair,
    random: &SystemRandom,
    team_id: &str,
    key_id: &str,
    now: SystemTime,
) -> Result<HeaderValue, SignError> {
    let issued = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let header = json!({"alg": "ES256", "kid": key_id}).to_string();
    let claims = json!({"iss": team_id, "iat": issued}).to_string();
    let mut token = String::from("bearer ");
    URL_SAFE_NO_PAD.encode_string(header, &mut token);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let signed = &token.as_bytes()["bearer ".len()..];
    let signature = key.sign(random, signed).map_err(|_| SignError::Signature)?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    let mut value = HeaderValue::try_from(token).map_err(|_| SignError::Signature)?;
    // HPACK then writes it as a literal that is never indexed, and `Debug`
    // shows nothing of it.
    value.set_sensitive(true);
    Ok(value)
}

/// All signers of a worker: one per team, key id and key, however many apps
/// use it, because Apple counts a key's tokens and not an app's.
#[derive(Debug, Default)]
pub struct Signers {
    known: Mutex<HashMap<Identity, Weak<Signer>>>,
}

/// Team, key id and the key's SHA-256.
type Identity = (String, String, Vec<u8>);

impl Signers {
    /// The signer of this key; the one in use, if there is one.
    ///
    /// # Errors
    ///
    /// As [`Signer::new`].
    pub fn get(&self, team: &str, key_id: &str, pkcs8: &[u8]) -> Result<Arc<Signer>, SignError> {
        let hash = digest(&SHA256, pkcs8).as_ref().to_vec();
        let identity = (team.to_owned(), key_id.to_owned(), hash);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signer) = known.get(&identity).and_then(Weak::upgrade) {
            return Ok(signer);
        }
        let signer = Arc::new(Signer::new(team, key_id, pkcs8)?);
        known.retain(|_, signer| signer.strong_count() > 0);
        known.insert(identity, Arc::downgrade(&signer));
        Ok(signer)
    }
}

#[cfg(test)]
#[path = "signer_tests.rs"]
pub(super) mod tests;
