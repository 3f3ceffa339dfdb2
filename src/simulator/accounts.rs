//! What Apple and Google know of their customers: teams, keys, topics,
//! projects, service accounts, devices. Changed at run time by tests.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderValue;
use tokio::time::Instant;

use super::kind::Environment;

/// What a service knows of one device token or installation id. One that was
/// never registered is taken as valid everywhere.
#[derive(Debug, Clone, Default)]
pub struct Device {
    /// Valid in this `APNs` environment only.
    pub environment: Option<Environment>,
    /// Valid for this `APNs` topic only, such as `com.example.calls.voip`.
    pub topic: Option<String>,
    /// Belongs to this FCM project.
    pub project: Option<String>,
    /// Not registered any more since then.
    pub unregistered_since: Option<DateTime<Utc>>,
    /// 410 `ExpiredToken` instead of `Unregistered`.
    pub expired: bool,
    /// Not a token of this kind at all: `BadDeviceToken`, or FCM's 400.
    pub invalid: bool,
    /// Of an installation id: the registration token of the same phone, which is
    /// unregistered by the first message that reaches the phone under the id.
    pub replaces: Option<String>,
}

impl Device {
    /// An installation id of the phone that had this registration token.
    #[must_use]
    pub fn replacing(token: impl Into<String>) -> Self {
        Self {
            replaces: Some(token.into()),
            ..Self::default()
        }
    }
}

/// A team's signing key for provider tokens.
pub(super) struct AuthKey {
    pub(super) team: String,
    pub(super) point: Vec<u8>,
    pub(super) environment: Option<Environment>,
    /// The bundle ids that it is bound to; all of its team's if none.
    pub(super) apps: Option<Vec<String>>,
}

/// A service account's public key and what it may do.
pub(super) struct ServiceAccount {
    /// As `RSAPublicKey`, RFC 8017.
    pub(super) key: Vec<u8>,
    pub(super) key_id: String,
    pub(super) projects: HashSet<String>,
}

/// An access token that was issued.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) account: String,
    /// Whether its scopes allow sending messages.
    pub(super) messaging: bool,
    pub(super) expires: Instant,
}

/// See the module.
#[derive(Default)]
pub(super) struct Accounts {
    state: RwLock<State>,
    generation: AtomicU64,
    /// Milliseconds that the services' clocks are ahead of this machine's.
    ahead: AtomicI64,
    /// Seconds that `APNs`' is ahead of those.
    apns_ahead: AtomicI64,
}

/// Who and what there is.
#[derive(Default)]
pub(super) struct State {
    /// Bundle ids by team.
    pub(super) teams: HashMap<String, HashSet<String>>,
    /// By key id.
    pub(super) keys: HashMap<String, AuthKey>,
    /// The ids of FCM projects, by id and by number: Google takes either.
    pub(super) projects: HashMap<String, String>,
    /// By e-mail address.
    pub(super) service_accounts: HashMap<String, ServiceAccount>,
    /// By token.
    pub(super) devices: HashMap<String, Device>,
    /// By access token.
    pub(super) grants: HashMap<String, Grant>,
}

impl State {
    /// Adds an FCM project and numbers it, unless it is there already.
    pub(super) fn add_project(&mut self, id: &str) {
        if !self.projects.contains_key(id) {
            let number = FIRST_PROJECT + self.projects.len() as u64 / 2;
            for name in [id.to_owned(), number.to_string()] {
                self.projects.insert(name, id.to_owned());
            }
        }
    }
}

/// The number of the first FCM project; others follow.
const FIRST_PROJECT: u64 = 100_000_000_001;

impl Accounts {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes, and makes every connection verify its token anew.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rises with each change.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What time it is there.
    pub(super) fn now(&self) -> DateTime<Utc> {
        let ahead = TimeDelta::try_milliseconds(self.ahead.load(Ordering::Acquire));
        let now = Utc::now();
        now.checked_add_signed(ahead.unwrap_or_default())
            .unwrap_or(now)
    }

    /// The header `date` (RFC 9110, 6.6.1).
    pub(super) fn date(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&httpdate::fmt_http_date(self.now().into())).ok()
    }

    /// What Apple's clock shows, in seconds since 1970.
    pub(super) fn apns_now(&self) -> i64 {
        self.now().timestamp() + self.apns_ahead.load(Ordering::Acquire)
    }

    /// Sets all clocks ahead of this machine's, or behind it.
    pub(super) fn set_clock(&self, ahead: TimeDelta) {
        self.ahead
            .store(ahead.num_milliseconds(), Ordering::Release);
    }

    /// Sets `APNs`' clock so many seconds ahead of the others.
    pub(super) fn set_apns_clock(&self, seconds: i64) {
        self.apns_ahead.store(seconds, Ordering::Release);
        drop(self.write());
    }

    pub(super) fn device(&self, token: &str) -> Device {
        self.read().devices.get(token).cloned().unwrap_or_default()
    }

    /// FCM has delivered a message to this device.
    pub(super) fn delivered(&self, token: &str) {
        let known = |state: &State| state.devices.get(token)?.replaces.clone();
        let replaced = known(&self.read());
        if let Some(old) = replaced {
            let now = self.now();
            let mut state = self.write();
            let old = state.devices.entry(old).or_default();
            old.unregistered_since.get_or_insert(now);
        }
    }

    pub(super) fn grant(&self, token: String, grant: Grant) {
        let now = Instant::now();
        let mut state = self.write();
        state.grants.retain(|_, grant| grant.expires > now);
        state.grants.insert(token, grant);
    }
}
