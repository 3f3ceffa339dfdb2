//! The clients and lanes of a configuration.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::call::push::{Answer, PushClient as _};
use crate::engine::lane::Lane;
use crate::providers::http2::Status;
use crate::providers::{apns, fcm};

/// A provider's client.
#[derive(Clone, Debug)]
pub(super) enum Client {
    Apns(Arc<apns::Client>),
    Fcm(Arc<fcm::Client>),
}

impl Client {
    pub(super) async fn warm(&self, limit: Duration) {
        match self {
            Self::Apns(client) => client.warm(limit).await,
            Self::Fcm(client) => client.warm(limit).await,
        };
    }

    /// Begins to connect, if it has not yet.
    pub(super) fn connect(&self) {
        match self {
            Self::Apns(client) => client.connect(),
            // It does so by itself.
            Self::Fcm(_) => {}
        }
    }

    /// Whether it is connected or connects.
    pub(super) fn is_used(&self) -> bool {
        match self {
            Self::Apns(client) => client.is_used(),
            Self::Fcm(client) => client.is_used(),
        }
    }

    /// Asks its provider for nobody's sake whether the credential is taken.
    pub(super) async fn prove(&self, limit: Duration) -> Answer {
        match self {
            Self::Apns(client) => client.prove(limit).await,
            Self::Fcm(client) => client.prove(limit).await,
        }
    }

    /// How its connections are.
    pub(super) fn status(&self) -> Status {
        match self {
            Self::Apns(client) => client.status(),
            Self::Fcm(client) => client.status(),
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Apns(client) => client.close().await,
            Self::Fcm(client) => client.close().await,
        }
    }

    /// Tries again now what failed and waits for its next turn.
    pub(super) fn retry_now(&self) {
        match self {
            // It connects by itself, and quickly.
            Self::Apns(_) => {}
            Self::Fcm(client) => client.tokens().retry_now(),
        }
    }

    /// Whether anybody but the holder of this value has it.
    pub(super) fn in_use(&self) -> bool {
        match self {
            Self::Apns(client) => Arc::strong_count(client) > 1,
            Self::Fcm(client) => Arc::strong_count(client) > 1,
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Apns(one), Self::Apns(two)) => Arc::ptr_eq(one, two),
            (Self::Fcm(one), Self::Fcm(two)) => Arc::ptr_eq(one, two),
            (Self::Apns(_) | Self::Fcm(_), _) => false,
        }
    }
}

/// What an app's lanes on one platform are built from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Account {
    /// Of Apple: bundle id, and the credentials for production and sandbox.
    Apns(String, [apns::Credentials; 2]),
    /// Of Google, and what stands in the app's messages.
    Fcm(fcm::ServiceAccount, fcm::AndroidOptions),
}

/// An app's lanes on one platform; the same after a reload that changes
/// nothing about its account.
#[derive(Clone, Debug)]
pub(super) struct Built {
    pub(super) account: Account,
    pub(super) clients: Vec<Client>,
    pub(super) lanes: Vec<Arc<Lane>>,
}

/// All lanes of a configuration, by app and platform.
#[derive(Clone, Debug, Default)]
pub struct Lanes {
    built: HashMap<(String, &'static str), Built>,
}

impl Lanes {
    pub(super) fn insert(&mut self, key: (String, &'static str), built: Built) {
        self.built.insert(key, built);
    }

    /// What was built for this account, by app and platform.
    pub(super) fn of(&self, key: &(String, &'static str), account: &Account) -> Option<Built> {
        let built = self.built.get(key);
        built.filter(|built| built.account == *account).cloned()
    }

    /// Whether there is anything for an app on a platform.
    pub(super) fn has(&self, app: &str, platform: &'static str) -> bool {
        self.built.contains_key(&(app.to_owned(), platform))
    }

    /// Apps and platforms that `other` does not have.
    pub(super) fn apps_not_in(&self, other: &Self) -> Vec<(String, &'static str)> {
        let keys = self.built.keys();
        let gone = keys.filter(|(app, platform)| !other.has(app, platform));
        gone.cloned().collect()
    }

    pub(super) fn clients(&self) -> Vec<Client> {
        self.built
            .values()
            .flat_map(|built| built.clients.iter().cloned())
            .collect()
    }

    /// The clients that `other` does without.
    pub(super) fn not_in(&self, other: &Self) -> Vec<Client> {
        let kept = other.clients();
        let mut clients = self.clients();
        clients.retain(|client| !kept.iter().any(|other| client.is(other)));
        clients
    }

    /// Every lane with its client, by app, platform and environment.
    pub(super) fn by_label(&self) -> Vec<(Arc<Lane>, Client)> {
        let mut lanes: Vec<(Arc<Lane>, Client)> = self
            .built
            .values()
            .flat_map(|built| built.lanes.iter().zip(&built.clients))
            .map(|(lane, client)| (Arc::clone(lane), client.clone()))
            .collect();
        lanes.sort_by(|(one, _), (two, _)| {
            let key = |lane: &Lane| {
                let labels = lane.labels();
                (labels.app.clone(), labels.platform, labels.environment)
            };
            key(one).cmp(&key(two))
        });
        lanes
    }
}
