//! An access token, or why there is none.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use tokio::time::Instant;

use crate::call::time::Timestamp;

/// An access token. `Debug` shows nothing of it.
pub(in crate::providers::fcm) struct AccessToken {
    /// `Bearer …`, marked as sensitive.
    pub(in crate::providers::fcm) header: HeaderValue,
    /// Until when it is valid, as far as its server said.
    pub(in crate::providers::fcm) valid_until: Instant,
    /// The same for people.
    pub(in crate::providers::fcm) expires_at: Timestamp,
    /// The project, where the token's server said it too.
    pub(in crate::providers::fcm) project: Option<Arc<str>>,
    /// Tells one token from the next.
    pub(in crate::providers::fcm) serial: u64,
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("serial", &self.serial)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// OAuth's word for why this account gets no token, such as `invalid_grant`
/// ("The OAuth 2.0 Authorization Framework", 5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::providers::fcm) struct Refusal {
    pub(in crate::providers::fcm) reason: String,
    pub(in crate::providers::fcm) detail: Option<String>,
}

/// Why there is no new token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::providers::fcm) enum Trouble {
    /// OAuth is away, hangs or stumbles; it may come back at any moment.
    Unavailable(String),
    /// OAuth says no: waiting will not help a ring.
    Refused(Refusal),
}

/// What the task tells the senders.
#[derive(Debug, Default)]
pub(in crate::providers::fcm) struct State {
    pub(in crate::providers::fcm) token: Option<Arc<AccessToken>>,
    /// How the latest fetch failed, if it did.
    pub(in crate::providers::fcm) trouble: Option<Trouble>,
}

impl State {
    pub(in crate::providers::fcm) fn usable(&self) -> Option<Arc<AccessToken>> {
        let token = self.token.as_ref()?;
        (token.valid_until > Instant::now()).then(|| Arc::clone(token))
    }
}
