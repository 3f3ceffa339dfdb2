//! The running simulator, as its user holds it.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;

use super::accounts::{AuthKey, Device};
use super::certificates::{self, Certificates};
use super::kind::{Environment, Error, ServerKind};
use super::options::Options;
use super::record::Journal;
use super::rsa_key;
use super::script::Script;
use super::server::{Server, Stop};
use super::world::World;

/// Four servers and what a client needs to use them. Dropped, it resets every
/// connection.
pub struct Simulator {
    pub(super) world: Arc<World>,
    pub(super) certificates: Certificates,
    pub(super) auth_key: String,
    pub(super) service_account: String,
    /// In the order of [`ServerKind`].
    pub(super) servers: [Arc<Server>; 4],
}

impl Simulator {
    /// One of the servers, to stop and start it.
    #[must_use]
    pub fn server(&self, kind: ServerKind) -> &Arc<Server> {
        &self.servers[kind as usize]
    }

    /// Base URL of `APNs` production.
    #[must_use]
    pub fn apns_production_url(&self) -> String {
        self.server(ServerKind::ApnsProduction).url()
    }

    /// Base URL of the `APNs` sandbox.
    #[must_use]
    pub fn apns_sandbox_url(&self) -> String {
        self.server(ServerKind::ApnsSandbox).url()
    }

    /// Base URL of FCM.
    #[must_use]
    pub fn fcm_url(&self) -> String {
        self.server(ServerKind::Fcm).url()
    }

    /// The `token_uri` of service accounts.
    #[must_use]
    pub fn token_url(&self) -> String {
        self.server(ServerKind::Oauth).url() + "/token"
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
        let made = &self.certificates;
        (&made.client_p12, &made.p12_password)
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

    /// Sets all services' clocks ahead of this machine's, or behind it. Times
    /// in signatures are then judged by those, and `date` says so.
    pub fn set_clock(&self, ahead: TimeDelta) {
        self.world.accounts.set_clock(ahead);
    }

    /// Sets `APNs`' clock so many seconds ahead of this machine's (behind, if
    /// negative): to the sender, its own clock is wrong by that.
    pub fn set_apns_clock_ahead(&self, seconds: i64) {
        self.world.accounts.set_apns_clock(seconds);
    }

    /// Tells the services about a device token.
    pub fn register(&self, token: &str, device: Device) {
        let mut state = self.world.accounts.write();
        state.devices.insert(token.to_owned(), device);
    }

    /// The app behind this token was removed at `since`.
    pub fn unregister(&self, token: &str, since: DateTime<Utc>) {
        let mut state = self.world.accounts.write();
        let device = state.devices.entry(token.to_owned()).or_default();
        device.unregistered_since = Some(since);
    }

    /// The token is as good as any again.
    pub fn forget(&self, token: &str) {
        self.world.accounts.write().devices.remove(token);
    }

    /// Gives a team one more app.
    pub fn add_bundle_id(&self, team: &str, bundle_id: &str) {
        let mut state = self.world.accounts.write();
        let apps = state.teams.entry(team.to_owned()).or_default();
        apps.insert(bundle_id.to_owned());
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
        let team = team.to_owned();
        let key = AuthKey {
            team,
            point,
            environment,
            apps: None,
        };
        state.keys.insert(key_id.to_owned(), key);
        Ok(pem)
    }

    /// Binds a team's key to these apps: `TopicDisallowed` for others.
    pub fn bind_auth_key(&self, key_id: &str, bundle_ids: &[&str]) {
        if let Some(key) = self.world.accounts.write().keys.get_mut(key_id) {
            key.apps = Some(bundle_ids.iter().map(|id| (*id).to_owned()).collect());
        }
    }

    /// Revokes a team's key: `InvalidProviderToken` from now on.
    pub fn remove_auth_key(&self, key_id: &str) {
        self.world.accounts.write().keys.remove(key_id);
    }

    /// Adds an FCM project that no account may use yet.
    pub fn add_project(&self, project_id: &str) {
        self.world.accounts.write().add_project(project_id);
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
        let (key, url) = (rsa_key::generate().await?, self.token_url());
        Ok(self
            .world
            .add_service_account(email, project_id, &key, &url))
    }

    /// Deletes a service account: `invalid_grant` from now on.
    pub fn remove_service_account(&self, email: &str) {
        self.world.accounts.write().service_accounts.remove(email);
    }

    /// Makes every access token issued so far invalid.
    pub fn revoke_access_tokens(&self) {
        self.world.accounts.write().grants.clear();
    }

    /// Ends every server.
    pub async fn stop(&self, how: Stop) {
        join_all(self.servers.iter().map(|server| server.end(how))).await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        for server in &self.servers {
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
