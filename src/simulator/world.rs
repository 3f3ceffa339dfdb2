//! What all servers share.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{KeyPair, PublicKeyData as _};

use super::accounts::{Accounts, ServiceAccount};
use super::options::Options;
use super::record::Journal;
use super::script::Player;

/// See the module.
pub(super) struct World {
    pub(super) options: Options,
    pub(super) accounts: Accounts,
    pub(super) player: Player,
    pub(super) journal: Journal,
    pub(super) connections: AtomicU64,
    /// The audiences that mean the token server, once it listens.
    pub(super) token_urls: OnceLock<Vec<String>>,
}

impl World {
    /// The number of one more connection, from 1.
    pub(super) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds an account that may send for a project, added if need be, and
    /// gives its file.
    pub(super) fn add_service_account(
        &self,
        email: &str,
        project: &str,
        key: &KeyPair,
        token_url: &str,
    ) -> String {
        let key_id = uuid::Uuid::new_v4().simple().to_string();
        let account = ServiceAccount {
            key: key.der_bytes().to_vec(),
            key_id: key_id.clone(),
            projects: [project.to_owned()].into(),
        };
        let mut state = self.accounts.write();
        state.add_project(project);
        state.service_accounts.insert(email.to_owned(), account);
        drop(state);
        let file = serde_json::json!({
            "type": "service_account",
            "project_id": project,
            "private_key_id": key_id,
            "private_key": key.serialize_pem(),
            "client_email": email,
            "client_id": "100000000000000000001",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": token_url,
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
            "universe_domain": "googleapis.com",
        });
        format!("{file:#}\n")
    }
}
