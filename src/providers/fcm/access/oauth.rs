//! Asking a token server ("The OAuth 2.0 Authorization Framework", RFC 6749) and
//! reading what it says.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::token::{AccessToken, Refusal, Trouble};
use crate::call::time::Timestamp;
use crate::providers::endpoint::Endpoint;
use crate::providers::http1;
use crate::providers::http2::dial::Target;
use crate::providers::http2::proxy::Proxy;
use crate::providers::tls;

/// The right to send messages, and no other.
pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

const NO_TOKEN: &str = "the answer holds no access token";

/// How long a token lives if the answer does not say: as long as all of
/// Google's do.
const USUAL_LIFE: f64 = 3600.0;
/// The longest that Google gives one. What is said to live longer is renewed
/// after that.
const LONGEST_LIFE: f64 = 12.0 * 3600.0;

/// The answer that brings a token (RFC 6749, 5.1).
#[derive(Deserialize)]
pub(super) struct Granted {
    pub(super) access_token: String,
    #[serde(default)]
    pub(super) expires_in: Value,
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

/// Makes a request of a server. Plain http is spoken to what is near only, and
/// never through a proxy.
pub(super) async fn exchange(
    endpoint: Endpoint,
    proxy: &Proxy,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, Trouble> {
    // Reads the system's certificates, so not on a thread that serves calls.
    let proxy = if endpoint.is_secure() {
        proxy.clone()
    } else {
        Proxy::default()
    };
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

/// Posts a form, as token servers want it.
pub(super) async fn post_form(
    server: &Endpoint,
    proxy: &Proxy,
    form: &[(&str, &str)],
) -> Result<Granted, Trouble> {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let request = Request::post(server.uri())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::from(body))
        .map_err(|error| unavailable(error.to_string()))?;
    let answer = exchange(server.clone(), proxy, request).await?;
    judge(answer.status().as_u16(), answer.body())
}

/// What the token server's answer means.
pub(super) fn judge(status: u16, body: &[u8]) -> Result<Granted, Trouble> {
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
    // Google's own form has it inside.
    let inside = json.pointer("/error/message").and_then(Value::as_str);
    let description = text("error_description").or(inside).map(|text| {
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

pub(super) fn access_token(
    token: &Granted,
    project: Option<Arc<str>>,
    serial: u64,
) -> Result<AccessToken, Trouble> {
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
        project,
        serial,
    })
}

pub(super) const fn unavailable(detail: String) -> Trouble {
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
        let token = access_token(&token, None, 7).unwrap();
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
            assert!(access_token(&token, None, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn whatever_is_said_of_a_tokens_life_it_is_one_that_can_be_waited_for() {
        let life = |said: &str| {
            let answer = format!(r#"{{"access_token":"x"{said}}}"#);
            let token = judge(200, answer.as_bytes()).unwrap();
            drop(access_token(&token, None, 0).unwrap());
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
