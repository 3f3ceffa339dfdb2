//! The running simulator, as its user holds it.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::accounts::{AuthKey, Device, Environment};
use super::certificates::{self, Certificates};
use super::record::Journal;
use super::rsa_key::RsaKey;
use super::script::Script;
use super::server::{Server, Stop};
use super::{Error, Options, ServerKind, World};

/// Four servers and what a client needs to use them. Dropped, it resets every
/// connection.
pub struct Simulator {
    pub(super) world: Arc<World>,
    pub(super) certificates: Certificates,
    pub(super) auth_key: String,
    pub(super) service_account: String,
    pub(super) apns_production: Arc<Server>,
    pub(super) apns_sandbox: Arc<Server>,
    pub(super) fcm: Arc<Server>,
    pub(super) oauth: Arc<Server>,
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
