//! What Apple and Google know of their customers: teams, keys, topics,
//! projects, service accounts, devices. Changed at run time by tests.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use chrono::{DateTime, Utc};
use ring::signature::RsaPublicKeyComponents;
use tokio::time::Instant;

use super::Simulator;

/// One of Apple's two push environments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Environment {
    /// The app store's.
    Production,
    /// Builds run from Xcode.
    Sandbox,
}

/// What a service knows of one device token. A token that was never
/// registered is taken as valid everywhere.
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
}

/// A team's signing key for provider tokens.
pub(super) struct AuthKey {
    pub(super) team: String,
    pub(super) point: Vec<u8>,
    pub(super) environment: Option<Environment>,
}

/// A service account's public key and what it may do.
pub(super) struct ServiceAccount {
    pub(super) key: RsaPublicKeyComponents<Vec<u8>>,
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
    /// What time it is there.
    pub(super) clock: super::clock::Clock,
    state: RwLock<State>,
    devices: RwLock<HashMap<String, Device>>,
    grants: RwLock<HashMap<String, Grant>>,
    generation: AtomicU64,
    /// Seconds that `APNs`' clock is ahead of this machine's.
    clock_ahead: AtomicI64,
}

/// The parts that requests only read.
#[derive(Default)]
pub(super) struct State {
    /// Bundle ids by team.
    pub(super) teams: HashMap<String, HashSet<String>>,
    /// By key id.
    pub(super) keys: HashMap<String, AuthKey>,
    /// FCM projects.
    pub(super) projects: HashSet<String>,
    /// By e-mail address.
    pub(super) service_accounts: HashMap<String, ServiceAccount>,
}

impl Accounts {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes, and makes every connection verify its token anew.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What Apple's clock shows when this machine's shows `now`.
    pub(super) fn apns_clock(&self, now: i64) -> i64 {
        now + self.clock_ahead.load(Ordering::Acquire)
    }

    /// Rises with each change.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn register(&self, token: &str, device: Device) {
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        devices.insert(token.to_owned(), device);
    }

    pub(super) fn forget(&self, token: &str) {
        self.devices
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(token);
    }

    pub(super) fn device(&self, token: &str) -> Device {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        devices.get(token).cloned().unwrap_or_default()
    }

    pub(super) fn grant(&self, token: String, grant: Grant) {
        let now = Instant::now();
        let mut grants = self.grants.write().unwrap_or_else(PoisonError::into_inner);
        grants.retain(|_, grant| grant.expires > now);
        grants.insert(token, grant);
    }

    pub(super) fn granted(&self, token: &str) -> Option<Grant> {
        self.grants
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(token)
            .cloned()
    }

    pub(super) fn revoke_grants(&self) {
        self.grants
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl Simulator {
    /// Sets `APNs`' clock so many seconds ahead of this machine's (behind, if
    /// negative): to the sender, its own clock is wrong by that.
    pub fn set_apns_clock_ahead(&self, seconds: i64) {
        let accounts = &self.world.accounts;
        accounts.clock_ahead.store(seconds, Ordering::Release);
        accounts.generation.fetch_add(1, Ordering::AcqRel);
    }
}
