//! Strict `APNs`, FCM and OAuth servers over real TLS and HTTP/2 on loopback,
//! for the demo, tests, benchmarks and the command `simulate`.
//!
//! They judge requests by Apple's and Google's documentation and answer with
//! the providers' statuses and error bodies. Nothing here is shared with the
//! clients, or a mistake would cancel itself out.
//!
//! - [`Simulator`]: starts everything, makes keys and certificates, changes
//!   what the services know; `start` and `files`: how it comes up and what it
//!   writes for a client;
//! - [`Server`]: one listener, which can go down and come back;
//!   `connection`, `token_connection`: what is served on it; `wire`,
//!   `control`, `frames`: HTTP/2 below its library, for SETTINGS and GOAWAY;
//! - `apns`, `apns_rules`, `apns_auth`, `fcm`, `fcm_rules`, `fcm_errors`,
//!   `oauth`, `jwt`, `accounts`: the rules; `exchange`: their verdict;
//! - [`Script`]: faults; `play`: rules and script put together;
//! - [`Journal`]: what arrived; `certificates`, `rsa_key`: made at start.

mod accounts;
mod apns;
mod apns_auth;
mod apns_rules;
mod certificates;
mod clock;
mod connection;
mod control;
mod exchange;
mod fcm;
mod fcm_errors;
mod fcm_rules;
mod files;
mod frames;
mod handle;
mod jwt;
mod oauth;
mod options;
mod play;
mod record;
mod rsa_key;
mod script;
mod server;
mod start;
mod token_connection;
mod wire;

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

pub use accounts::{Device, Environment};
pub use files::Files;
pub use handle::Simulator;
pub use options::{Options, Ports};
pub use record::{Answer, Claims, Journal, Keep, Record, Tally};
pub use script::{Body, Effect, RetryAfter, Rule, Script, Step, Target};
pub use server::{Server, Stop};

use accounts::{Accounts, ServiceAccount};
use rsa_key::RsaKey;
use script::Player;

/// The example in the documentation compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/simulator.md")]
struct Page;

/// What can go wrong with a simulator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port cannot be listened on.
    #[error("cannot listen for {server} on {address}: {source}")]
    Listen {
        /// Which server.
        server: ServerKind,
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A key or certificate cannot be made.
    #[error("cannot make keys: {0}")]
    Key(&'static str),
    /// A certificate cannot be made.
    #[error("cannot make certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A script is wrong.
    #[error("script: {0}")]
    Script(String),
}

/// One of the four servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerKind {
    /// `APNs` production.
    ApnsProduction,
    /// `APNs` sandbox.
    ApnsSandbox,
    /// FCM HTTP v1.
    Fcm,
    /// Google's OAuth token endpoint.
    Oauth,
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApnsProduction => "apns-production",
            Self::ApnsSandbox => "apns-sandbox",
            Self::Fcm => "fcm",
            Self::Oauth => "oauth",
        })
    }
}

/// What all servers share.
struct World {
    options: Options,
    accounts: Accounts,
    player: Player,
    journal: Journal,
    connections: AtomicU64,
    token_urls: OnceLock<Vec<String>>,
}

impl World {
    fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The audiences that mean this token server.
    fn token_urls(&self) -> &[String] {
        self.token_urls.get().map_or(&[], Vec::as_slice)
    }
}

impl World {
    fn add_service_account(&self, email: &str, project: &str, key: &RsaKey, url: &str) -> String {
        let key_id = uuid::Uuid::new_v4().simple().to_string();
        let mut state = self.accounts.write();
        state.projects.insert(project.to_owned());
        let projects = [project.to_owned()].into();
        let account = ServiceAccount {
            key: key.public(),
            key_id: key_id.clone(),
            projects,
        };
        state.service_accounts.insert(email.to_owned(), account);
        drop(state);
        let file = serde_json::json!({
            "type": "service_account",
            "project_id": project,
            "private_key_id": key_id,
            "private_key": key.private_pem(),
            "client_email": email,
            "client_id": "100000000000000000001",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": url,
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
            "universe_domain": "googleapis.com",
        });
        format!("{file:#}\n")
    }
}
