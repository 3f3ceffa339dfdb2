//! Fetching one access token, from wherever an account's come.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;

use super::super::account::{KeyFile, Source, key_pair};
use super::oauth::{Granted, SCOPE, access_token, post_form, unavailable};
use super::token::{AccessToken, Trouble};
use super::{federation, metadata};
use crate::providers::http2::proxy::Proxy;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Fetches access tokens for one account.
pub(super) struct Fetcher {
    pub(super) source: Source,
    pub(super) proxy: Proxy,
    pub(super) limit: Duration,
}

impl Fetcher {
    /// One token, in no more than the time-out.
    pub(super) async fn fetch(&self, serial: u64) -> Result<AccessToken, Trouble> {
        let fetched = tokio::time::timeout(self.limit, self.ask()).await;
        let late = |_| {
            unavailable(format!(
                "no answer from {} within {:?}",
                self.server(),
                self.limit
            ))
        };
        let (token, project) = fetched.map_err(late)??;
        access_token(&token, project, serial)
    }

    fn server(&self) -> String {
        match &self.source {
            Source::Key(key) => key.token_uri.to_string(),
            Source::Federation(federation) => federation.token_url.to_string(),
            Source::Metadata { server, .. } => metadata::place(server),
        }
    }

    async fn ask(&self) -> Result<(Granted, Option<Arc<str>>), Trouble> {
        match &self.source {
            Source::Key(key) => Ok((by_key(key, &self.proxy).await?, None)),
            Source::Federation(federation) => {
                Ok((federation::token(federation, &self.proxy).await?, None))
            }
            Source::Metadata { server, project } => metadata::token(server, *project).await,
        }
    }
}

/// "Using OAuth 2.0 for Server to Server Applications".
async fn by_key(key: &KeyFile, proxy: &Proxy) -> Result<Granted, Trouble> {
    let form = [("grant_type", GRANT), ("assertion", &assertion(key)?)];
    post_form(&key.token_uri, proxy, &form).await
}

/// A signed statement of who asks for what ("JSON Web Token (JWT) Profile for
/// OAuth 2.0", RFC 7523).
fn assertion(key: &KeyFile) -> Result<String, Trouble> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let claims = serde_json::json!({
        "iss": &*key.client_email,
        "scope": SCOPE,
        "aud": key.token_uri.to_string(),
        "iat": now,
        "exp": now + 3600,
    });
    let mut jwt = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut jwt);
    // It was checked when the file was read.
    let signature = key_pair(key.private_key.expose())
        .and_then(|pair| sign(&pair, jwt.as_bytes()))
        .ok_or_else(|| unavailable("the private key does not sign".to_owned()))?;
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut jwt);
    Ok(jwt)
}

fn sign(pair: &KeyPair, text: &[u8]) -> Option<Vec<u8>> {
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        text,
        &mut signature,
    )
    .ok()?;
    Some(signature)
}
