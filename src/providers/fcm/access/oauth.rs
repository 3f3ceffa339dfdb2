//! Fetching one access token ("Using OAuth 2.0 for Server to Server
//! Applications").

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request};
use http_body_util::Full;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::super::account::{KeyFile, key_pair};
use super::token::{AccessToken, Refusal, Trouble};
use crate::call::time::Timestamp;
use crate::providers::endpoint::Endpoint;
use crate::providers::http1;
use crate::providers::http2::dial::Target;
use crate::providers::http2::proxy::Proxy;
use crate::providers::tls;

/// The right to send messages, and no other.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";

const NO_TOKEN: &str = "the answer holds no access token";

/// How long a token lives if the answer does not say: as long as all of
/// Google's do.
const USUAL_LIFE: f64 = 3600.0;
/// The longest that Google gives one. What is said to live longer is renewed
/// after that.
const LONGEST_LIFE: f64 = 12.0 * 3600.0;

/// The answer that brings a token (RFC 6749, 5.1).
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    expires_in: Value,
}

impl Granted {
    /// Servers were seen to write the number as a text, and any number may
    /// come.
    fn life(&self) -> Duration {
        let text = || self.expires_in.as_str()?.trim().parse().ok();
        let seconds = self.expires_in.as_f64().or_else(text);
        let seconds = seconds.filter(|s| !s.is_nan()).unwrap_or(USUAL_LIFE);
        Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_LIFE))
    }
}

/// Fetches access tokens for one account.
pub(super) struct Fetcher {
    pub(super) key: KeyFile,
    pub(super) proxy: Proxy,
    pub(super) limit: Duration,
}

impl Fetcher {
    /// One token, in no more than the time-out.
    pub(super) async fn fetch(&self, serial: u64) -> Result<AccessToken, Trouble> {
        let token = tokio::time::timeout(self.limit, self.ask())
            .await
            .map_err(|_| unavailable(format!("no answer within {:?}", self.limit)))??;
        access_token(&token, serial)
    }

    async fn ask(&self) -> Result<Granted, Trouble> {
        let body = format!("grant_type={GRANT}&assertion={}", assertion(&self.key)?);
        let request = Request::post("/")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(body))
            .map_err(|error| unavailable(error.to_string()))?;
        let answer = exchange(self.key.token_uri.clone(), &self.proxy, request).await?;
        judge(answer.status().as_u16(), answer.body())
    }
}

/// Makes a request of an endpoint, at its own path.
async fn exchange(
    endpoint: Endpoint,
    proxy: &Proxy,
    mut request: Request<Full<Bytes>>,
) -> Result<http::Response<Bytes>, Trouble> {
    *request.uri_mut() = endpoint.uri();
    // Reads the system's certificates, so not on a thread that serves calls.
    let proxy = proxy.clone();
    let target = tokio::task::spawn_blocking(move || {
        let tls = tls::roots(None)
            .and_then(|roots| tls::client_config(roots, None, &[b"http/1.1"]))
            .map_err(|error| error.to_string())?;
        Target::new(endpoint, tls, &proxy).map_err(|error| error.to_string())
    });
    let target = target
        .await
        .map_err(|error| unavailable(error.to_string()))?
        .map_err(unavailable)?;
    Box::pin(http1::ask(&target, request))
        .await
        .map_err(|error| unavailable(error.to_string()))
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

/// What the token server's answer means.
fn judge(status: u16, body: &[u8]) -> Result<Granted, Trouble> {
    match status {
        200..=299 => serde_json::from_slice(body).map_err(|_| unavailable(NO_TOKEN.to_owned())),
        // Asked too often or too slowly: says nothing about the account.
        408 | 429 => Err(unavailable(format!("status {status}"))),
        400..=499 => Err(refusal(status, body).map_or_else(
            || {
                unavailable(format!(
                    "status {status}, not from the token server: its errors are JSON; look at what \
                     stands on the way (proxy, firewall)"
                ))
            },
            Trouble::Refused,
        )),
        _ => Err(unavailable(format!("status {status}"))),
    }
}

/// What a token server says (RFC 6749, 5.2), or Google in its place. A page
/// of a proxy or a firewall is no word on the account.
fn refusal(status: u16, body: &[u8]) -> Option<Refusal> {
    let json: Value = serde_json::from_slice(body).ok()?;
    json.get("error")
        .filter(|e| e.is_string() || e.is_object())?;
    let text = |key: &str| json.get(key).and_then(Value::as_str);
    let is_word = |w: &&str| {
        (1..=64).contains(&w.len()) && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let description = text("error_description").map(|text| {
        let printable = text.chars().filter(|c| !c.is_control());
        printable.take(200).collect()
    });
    Some(Refusal {
        reason: text("error")
            .filter(is_word)
            .unwrap_or("oauth_refused")
            .to_owned(),
        detail: Some(description.unwrap_or_else(|| format!("status {status}"))),
    })
}

fn access_token(token: &Granted, serial: u64) -> Result<AccessToken, Trouble> {
    let mut header = HeaderValue::try_from(format!("Bearer {}", token.access_token))
        .map_err(|_| unavailable("the access token is not fit for a header".to_owned()))?;
    header.set_sensitive(true);
    let life = token.life();
    if life.is_zero() {
        return Err(unavailable(
            "the access token is expired already".to_owned(),
        ));
    }
    Ok(AccessToken {
        header,
        valid_until: Instant::now() + life,
        expires_at: Timestamp::from(SystemTime::now() + life),
        serial,
    })
}

const fn unavailable(detail: String) -> Trouble {
    Trouble::Unavailable(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> Refusal {
        match judge(status, body.as_bytes()).map(|_| ()).unwrap_err() {
            Trouble::Refused(refusal) => refusal,
            Trouble::Unavailable(detail) => panic!("{detail}"),
        }
    }

    #[test]
    fn a_4xx_is_a_refusal_in_the_servers_own_word() {
        let refusal = refused(
            400,
            r#"{"error":"invalid_grant","error_description":"Bad\u0000 key"}"#,
        );
        assert_eq!(refusal.reason, "invalid_grant");
        assert_eq!(refusal.detail.as_deref(), Some("Bad key"));
        assert_eq!(
            refused(401, r#"{"error":"invalid_client"}"#).reason,
            "invalid_client"
        );
        for body in [r#"{"error":{"code":404}}"#, r#"{"error":"a b"}"#] {
            assert_eq!(refused(404, body).reason, "oauth_refused", "{body}");
        }
    }

    #[test]
    fn what_says_nothing_about_the_account_is_no_refusal() {
        for (status, body) in [
            (500, ""),
            (503, "{}"),
            (429, ""),
            (408, ""),
            (302, ""),
            (200, "<html>"),
            (403, ""),
            (403, "<html>Blocked by the firewall</html>"),
            (407, "Proxy Authentication Required"),
            (404, "[]"),
            (401, r#"{"message":"no"}"#),
        ] {
            let trouble = judge(status, body.as_bytes()).map(|_| ()).unwrap_err();
            assert!(matches!(trouble, Trouble::Unavailable(_)), "{status}");
        }
    }

    #[test]
    fn a_token_is_never_shown_and_one_without_a_life_is_none() {
        let token = judge(200, br#"{"access_token":"ya29.s3cret","expires_in":3599}"#).unwrap();
        let token = access_token(&token, 7).unwrap();
        assert!(token.header.is_sensitive());
        assert_eq!(token.header.to_str().unwrap(), "Bearer ya29.s3cret");
        assert!(!format!("{token:?}").contains("s3cret"));
        for bad in [
            r#"{"access_token":"x","expires_in":0}"#,
            r#"{"access_token":"x","expires_in":-1}"#,
            r#"{"access_token":"x","expires_in":"-1e300"}"#,
            r#"{"access_token":"a\nb","expires_in":10}"#,
        ] {
            let token = judge(200, bad.as_bytes()).unwrap();
            assert!(access_token(&token, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn whatever_is_said_of_a_tokens_life_it_is_one_that_can_be_waited_for() {
        let life = |said: &str| {
            let answer = format!(r#"{{"access_token":"x"{said}}}"#);
            let token = judge(200, answer.as_bytes()).unwrap();
            drop(access_token(&token, 0).unwrap());
            token.life().as_secs()
        };
        for (said, seconds) in [
            (r#","expires_in":3599"#, 3599),
            (r#","expires_in":3599.9"#, 3599),
            (r#","expires_in":"3599""#, 3599),
            (r#","expires_in":9007199254740991"#, 12 * 3600),
            (r#","expires_in":18446744073709551615"#, 12 * 3600),
            (r#","expires_in":1e300"#, 12 * 3600),
            (r#","expires_in":"inf""#, 12 * 3600),
            (r#","expires_in":"NaN""#, 3600),
            (r#","expires_in":"soon""#, 3600),
            (r#","expires_in":[1]"#, 3600),
            (r#","expires_in":null"#, 3600),
            ("", 3600),
        ] {
            assert_eq!(life(said), seconds, "{said}");
        }
    }
}
