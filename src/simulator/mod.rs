//! Strict `APNs`, FCM and OAuth servers over real TLS and HTTP/2 on loopback,
//! for the demo, tests, benchmarks and the command `simulate`.
//!
//! They judge requests by Apple's and Google's documentation and answer with
//! the providers' statuses and error bodies. Nothing here is shared with the
//! clients, or a mistake would cancel itself out.
//!
//! - [`Simulator`]: starts everything, makes keys and certificates, changes
//!   what the services know; `files` writes what a client needs;
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
mod jwt;
mod oauth;
mod play;
mod record;
mod rsa_key;
mod script;
mod server;
mod start;
mod token_connection;
mod wire;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};

pub use accounts::{Device, Environment};
pub use files::Files;
pub use record::{Answer, Claims, Journal, Keep, Record, Tally};
pub use script::{Body, Effect, RetryAfter, Rule, Script, Step, Target};
pub use server::{Server, Stop};

use accounts::{Accounts, AuthKey, ServiceAccount};
use certificates::Certificates;
use rsa_key::RsaKey;
use script::Player;

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

/// Ports to listen on; 0 takes a free one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ports {
    /// `APNs` production.
    pub apns_production: u16,
    /// `APNs` sandbox.
    pub apns_sandbox: u16,
    /// FCM.
    pub fcm: u16,
    /// OAuth.
    pub oauth: u16,
}

/// How a simulator is set up. The defaults fit the app `com.example.calls`.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address of every server.
    pub listen: IpAddr,
    /// Their ports.
    pub ports: Ports,
    /// Apple's team id.
    pub team_id: String,
    /// The id of the team's first key.
    pub key_id: String,
    /// The team's apps; the first is the client certificate's.
    pub bundle_ids: Vec<String>,
    /// The FCM project of the first service account.
    pub project_id: String,
    /// Streams of an `APNs` connection once its sender is known.
    pub max_streams: u32,
    /// Streams of an FCM connection.
    pub fcm_max_streams: u32,
    /// A second provider token on a connection sooner than this is
    /// `TooManyProviderTokenUpdates`.
    pub provider_token_window: Duration,
    /// How long access tokens live.
    pub access_token_life: Duration,
    /// How much is kept on record.
    pub keep: Keep,
    /// What is played from the start.
    pub script: Script,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: Ipv4Addr::LOCALHOST.into(),
            ports: Ports::default(),
            team_id: "ABCDE12345".to_owned(),
            key_id: "FGHIJ67890".to_owned(),
            bundle_ids: vec!["com.example.calls".to_owned()],
            project_id: "ringpush-sim".to_owned(),
            max_streams: 1_000,
            fcm_max_streams: 100,
            provider_token_window: Duration::from_secs(20 * 60),
            access_token_life: Duration::from_secs(3_599),
            keep: Keep::Records(100_000),
            script: Script::default(),
        }
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

/// Four servers and what a client needs to use them. Dropped, it resets every
/// connection.
pub struct Simulator {
    world: Arc<World>,
    certificates: Certificates,
    auth_key: String,
    service_account: String,
    apns_production: Arc<Server>,
    apns_sandbox: Arc<Server>,
    fcm: Arc<Server>,
    oauth: Arc<Server>,
}

impl Simulator {
    /// One of the servers, to stop and start it.
    #[must_use]
    pub fn server(&self, kind: ServerKind) -> &Arc<Server> {
        match kind {
            ServerKind::ApnsProduction => &self.apns_production,
            ServerKind::ApnsSandbox => &self.apns_sandbox,
            ServerKind::Fcm => &self.fcm,
            ServerKind::Oauth => &self.oauth,
        }
    }

    /// Base URL of `APNs` production.
    #[must_use]
    pub fn apns_production_url(&self) -> String {
        self.apns_production.url()
    }

    /// Base URL of the `APNs` sandbox.
    #[must_use]
    pub fn apns_sandbox_url(&self) -> String {
        self.apns_sandbox.url()
    }

    /// Base URL of FCM.
    #[must_use]
    pub fn fcm_url(&self) -> String {
        self.fcm.url()
    }

    /// The `token_uri` of service accounts.
    #[must_use]
    pub fn token_url(&self) -> String {
        self.oauth.url() + "/token"
    }

    /// The authority that signed the servers' certificates, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.certificates.ca_pem
    }

    /// The team's key as Apple's .p8 file holds it. A secret, of this process.
    #[must_use]
    pub fn auth_key_pem(&self) -> &str {
        &self.auth_key
    }

    /// The service-account file, JSON. A secret, of this process.
    #[must_use]
    pub fn service_account_json(&self) -> &str {
        &self.service_account
    }

    /// Client certificate and key, PEM.
    #[must_use]
    pub fn client_pem(&self) -> &str {
        &self.certificates.client_pem
    }

    /// The same as PKCS#12, and its password.
    #[must_use]
    pub fn client_p12(&self) -> (&[u8], &str) {
        (
            &self.certificates.client_p12,
            &self.certificates.p12_password,
        )
    }

    /// How it was set up.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.world.options
    }

    /// What arrived.
    #[must_use]
    pub fn record(&self) -> &Journal {
        &self.world.journal
    }

    /// Plays this script from its beginning, instead of the one under way.
    ///
    /// # Errors
    /// A step does not fit its server.
    pub fn script(&self, script: Script) -> Result<(), Error> {
        script.check()?;
        self.world.player.play(script);
        Ok(())
    }

    /// Tells the services about a device token.
    pub fn register(&self, token: &str, device: Device) {
        self.world.accounts.register(token, device);
    }

    /// The app behind this token was removed at `since`.
    pub fn unregister(&self, token: &str, since: DateTime<Utc>) {
        let device = self.world.accounts.device(token);
        self.register(
            token,
            Device {
                unregistered_since: Some(since),
                ..device
            },
        );
    }

    /// The token is as good as any again.
    pub fn forget(&self, token: &str) {
        self.world.accounts.forget(token);
    }

    /// Gives a team one more app.
    pub fn add_bundle_id(&self, team: &str, bundle_id: &str) {
        let mut state = self.world.accounts.write();
        state
            .teams
            .entry(team.to_owned())
            .or_default()
            .insert(bundle_id.to_owned());
    }

    /// Makes a key for a team (of one environment, or of both) and gives its
    /// .p8. A key with the same id is replaced.
    ///
    /// # Errors
    /// The key cannot be made.
    pub fn add_auth_key(
        &self,
        team: &str,
        key_id: &str,
        environment: Option<Environment>,
    ) -> Result<String, Error> {
        let (pem, point) = certificates::auth_key()?;
        let mut state = self.world.accounts.write();
        state.teams.entry(team.to_owned()).or_default();
        state.keys.insert(
            key_id.to_owned(),
            AuthKey {
                team: team.to_owned(),
                point,
                environment,
            },
        );
        Ok(pem)
    }

    /// Revokes a team's key: `InvalidProviderToken` from now on.
    pub fn remove_auth_key(&self, key_id: &str) {
        self.world.accounts.write().keys.remove(key_id);
    }

    /// Adds an FCM project that no account may use yet.
    pub fn add_project(&self, project_id: &str) {
        self.world
            .accounts
            .write()
            .projects
            .insert(project_id.to_owned());
    }

    /// Makes a service account with a key of its own that may send for a
    /// project (added if need be), and gives its file.
    ///
    /// # Errors
    /// The key cannot be made.
    pub async fn add_service_account(
        &self,
        email: &str,
        project_id: &str,
    ) -> Result<String, Error> {
        let key = RsaKey::generate().await?;
        Ok(self
            .world
            .add_service_account(email, project_id, &key, &self.token_url()))
    }

    /// Deletes a service account: `invalid_grant` from now on.
    pub fn remove_service_account(&self, email: &str) {
        self.world.accounts.write().service_accounts.remove(email);
    }

    /// Makes every access token issued so far invalid.
    pub fn revoke_access_tokens(&self) {
        self.world.accounts.revoke_grants();
    }

    /// Ends every server.
    pub async fn stop(&self, how: Stop) {
        tokio::join!(
            self.apns_production.end(how),
            self.apns_sandbox.end(how),
            self.fcm.end(how),
            self.oauth.end(how)
        );
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        for server in [
            &self.apns_production,
            &self.apns_sandbox,
            &self.fcm,
            &self.oauth,
        ] {
            server.abandon();
        }
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator")
            .field("apns_production", &self.apns_production_url())
            .field("apns_sandbox", &self.apns_sandbox_url())
            .field("fcm", &self.fcm_url())
            .field("token", &self.token_url())
            .finish_non_exhaustive()
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
