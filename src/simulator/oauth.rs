//! Google's token endpoint for service accounts, by "Using OAuth 2.0 for
//! server to server applications".

use std::collections::HashMap;

use bytes::Bytes;
use http::Method;
use http::request::Parts;
use ring::signature::RSA_PKCS1_2048_8192_SHA256;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::accounts::Grant;
use super::exchange::{Judged, Reply};
use super::jwt::{Jwt, LENIENT};
use super::record::Claims;
use super::world::World;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Either scope lets an account send messages.
const MESSAGING: [&str; 2] = [
    "https://www.googleapis.com/auth/firebase.messaging",
    "https://www.googleapis.com/auth/cloud-platform",
];
/// What Google's own libraries put into `aud`, whatever the file says.
const AUDIENCES: [&str; 3] = [
    "https://oauth2.googleapis.com/token",
    "https://accounts.google.com/o/oauth2/token",
    "https://www.googleapis.com/oauth2/v4/token",
];
const MAX_LIFE: i64 = 60 * 60;
/// How far clocks may differ, in seconds.
const SKEW: i64 = 5 * 60;

/// An OAuth error: its word and description.
type Refusal = (&'static str, String);

/// Judges a token request and issues the token.
pub(super) fn judge(world: &World, head: &Parts, body: &Bytes) -> Judged {
    if head.uri.path() != "/token" {
        return Judged::new(Reply::new(404, "Not Found"), Some("not_found"));
    }
    if head.method != Method::POST {
        let reply = Reply::new(405, "Method Not Allowed");
        return Judged::new(reply, Some("method_not_allowed"));
    }
    let form = form(body);
    let mut claims = None;
    match grant(world, &form, &mut claims) {
        Err((error, description)) => {
            let reply = refusal(400, error, &description);
            Judged {
                claims,
                ..Judged::new(reply, Some(error))
            }
        }
        Ok(grant) => {
            let [one, two] = [(); 2].map(|()| Uuid::new_v4().simple());
            let token = format!("ya29.{one}{two}");
            world.accounts.grant(token.clone(), grant);
            let body = json!({
                "access_token": token,
                "expires_in": world.options.access_token_life.as_secs(),
                "token_type": "Bearer",
            });
            let mut judged = Judged::new(Reply::json(200, &body), None);
            (judged.claims, judged.sound, judged.authenticated) = (claims, true, true);
            judged
        }
    }
}

fn grant(
    world: &World,
    form: &HashMap<String, String>,
    claims: &mut Option<Claims>,
) -> Result<Grant, Refusal> {
    let given = |name: &str| {
        let missing = || format!("Required parameter is missing: {name}");
        form.get(name).ok_or_else(|| ("invalid_request", missing()))
    };
    let kind = given("grant_type")?;
    if kind != GRANT_TYPE {
        let text = format!("Invalid grant_type: {kind}");
        return Err(("unsupported_grant_type", text));
    }
    let assertion = given("assertion")?;
    let invalid = |text: &str| ("invalid_grant", text.to_owned());
    let jwt = Jwt::parse(assertion, &LENIENT).ok_or_else(|| invalid("Invalid JWT."))?;
    *claims = Some(jwt.claimed());
    let issuer = jwt.claim_text("iss").unwrap_or_default();
    let state = world.accounts.read();
    let account = state
        .service_accounts
        .get(issuer)
        .ok_or_else(|| invalid("Invalid grant: account not found"))?;
    let kid = jwt.header_text("kid");
    let known_key = kid.is_none_or(|kid| kid == account.key_id);
    let signed = jwt.header_text("alg") == Some("RS256")
        && jwt.is_signed(&RSA_PKCS1_2048_8192_SHA256, &account.key);
    if !known_key || !signed {
        return Err(invalid("Invalid JWT Signature."));
    }
    check_claims(world, &jwt)?;
    let scope = jwt.claim_text("scope").unwrap_or_default();
    if scope.trim().is_empty() {
        let text = "Empty or missing scope not allowed.".to_owned();
        return Err(("invalid_scope", text));
    }
    Ok(Grant {
        account: issuer.to_owned(),
        messaging: scope.split(' ').any(|one| MESSAGING.contains(&one)),
        expires: Instant::now() + world.options.access_token_life,
    })
}

fn check_claims(world: &World, jwt: &Jwt<'_>) -> Result<(), Refusal> {
    let now = world.accounts.now().timestamp();
    let times = jwt.claim_seconds("iat").zip(jwt.claim_seconds("exp"));
    let in_time = times.is_some_and(|(issued, expires)| {
        issued <= now + SKEW
            && expires > now - SKEW
            && expires > issued
            && expires - issued <= MAX_LIFE
    });
    if !in_time {
        let text = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a \
                    reasonable timeframe. Check your iat and exp values in the JWT claim.";
        return Err(("invalid_grant", text.to_owned()));
    }
    let audience = jwt.claim_text("aud").unwrap_or_default();
    let ours = world
        .token_urls
        .get()
        .is_some_and(|urls| urls.iter().any(|url| url == audience));
    if ours || AUDIENCES.contains(&audience) {
        return Ok(());
    }
    let text = "Invalid JWT: Failed audience check.".to_owned();
    Err(("invalid_grant", text))
}

/// `application/x-www-form-urlencoded`.
fn form(body: &[u8]) -> HashMap<String, String> {
    form_urlencoded::parse(body).into_owned().collect()
}

/// An error in OAuth's form, as a script asks for it.
pub(super) fn error(status: u16, word: Option<&str>) -> Reply {
    let Some(word) = word else {
        return Reply::new(status, Bytes::new());
    };
    refusal(status, word, "Asked for by a script.")
}

fn refusal(status: u16, error: &str, description: &str) -> Reply {
    let body = json!({ "error": error, "error_description": description });
    Reply::json(status, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients escape the grant type and the assertion in their own ways.
    #[test]
    fn forms_are_decoded() {
        let form = form(b"grant_type=urn%3Aietf%3aparams&assertion=a.b%2Dc&x=1+2&broken=%4");
        assert_eq!(form["grant_type"], "urn:ietf:params");
        assert_eq!(form["assertion"], "a.b-c");
        assert_eq!((form["x"].as_str(), form["broken"].as_str()), ("1 2", "%4"));
    }
}
