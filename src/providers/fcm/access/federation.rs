//! A token of the machine's own becomes one of Google's (RFC 8693), and that a
//! service account's.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::federation::{Federation, Subject};
use super::oauth::{Granted, SCOPE, exchange, judge, post_form, unavailable};
use super::token::Trouble;
use crate::call::secret::Secret;
use crate::call::time::Timestamp;
use crate::providers::endpoint::Endpoint;
use crate::providers::http2::proxy::Proxy;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// What it takes to become a service account.
const PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// An access token that may send.
pub(super) async fn token(federation: &Federation, proxy: &Proxy) -> Result<Granted, Trouble> {
    let subject = subject(federation, proxy).await?;
    let scope = match federation.impersonation {
        Some(_) => PLATFORM,
        None => SCOPE,
    };
    let form = [
        ("grant_type", GRANT),
        ("audience", &federation.audience),
        ("scope", scope),
        ("requested_token_type", ACCESS_TOKEN),
        ("subject_token", subject.expose()),
        ("subject_token_type", &federation.subject_token_type),
    ];
    let granted = post_form(&federation.token_url, proxy, &form).await?;
    match &federation.impersonation {
        Some(server) => impersonate(server, &granted, federation.lifetime, proxy).await,
        None => Ok(granted),
    }
}

/// The machine's own token, read anew each time: whoever put it there renews it.
async fn subject(federation: &Federation, proxy: &Proxy) -> Result<Secret, Trouble> {
    let (place, bytes) = match &federation.subject {
        Subject::File(file) => {
            let place = format!("the subject token's file {}", file.display());
            let file = file.clone();
            let read = tokio::task::spawn_blocking(move || crate::files::read(file)).await;
            let read = read.map_err(|error| unavailable(error.to_string()))?;
            let bytes = read.map_err(|error| {
                unavailable(format!(
                    "{place} cannot be read ({error}); mend credential_source in the credentials \
                     file, or mount it"
                ))
            })?;
            (place, bytes)
        }
        Subject::Url {
            server,
            path,
            headers,
        } => {
            let place = format!("the subject token's server {server}");
            let mut request = Request::get(server.at(path.clone()));
            for (name, value) in headers {
                request = request.header(name, value.expose());
            }
            let request = request.body(Full::<Bytes>::default());
            let request = request.map_err(|error| unavailable(error.to_string()))?;
            let answer = exchange(server.clone(), proxy, request).await?;
            if !answer.status().is_success() {
                let status = answer.status().as_u16();
                return Err(unavailable(format!(
                    "{place} answers with status {status}; mend credential_source in the \
                     credentials file, or what this machine may ask of it"
                )));
            }
            (place, answer.body().to_vec())
        }
    };
    let text = String::from_utf8(bytes).ok();
    let token = match &federation.field {
        None => text.map(|text| text.trim().to_owned()),
        Some(field) => text.and_then(|text| {
            let json: Value = serde_json::from_str(&text).ok()?;
            json.get(&**field)?.as_str().map(str::to_owned)
        }),
    };
    let token = token.filter(|token| !token.is_empty()).ok_or_else(|| {
        unavailable(format!(
            "{place} holds no token; compare credential_source.format in the credentials file with \
             what is there"
        ))
    })?;
    Ok(token.into())
}

/// What the account's token comes in.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impersonated {
    access_token: String,
    expire_time: String,
}

async fn impersonate(
    server: &Endpoint,
    as_self: &Granted,
    lifetime: u64,
    proxy: &Proxy,
) -> Result<Granted, Trouble> {
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", as_self.access_token))
        .map_err(|_| unavailable("the exchanged token is not fit for a header".to_owned()))?;
    bearer.set_sensitive(true);
    let body = json!({"scope": [SCOPE], "lifetime": format!("{lifetime}s")});
    let request = Request::post(server.uri())
        .header(AUTHORIZATION, bearer)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::from(body.to_string()))
        .map_err(|error| unavailable(error.to_string()))?;
    let answer = exchange(server.clone(), proxy, request).await?;
    if !answer.status().is_success() {
        // Its errors have the form of the token server's.
        return judge(answer.status().as_u16(), answer.body());
    }
    let problem =
        || unavailable("the answer of the impersonation holds no access token".to_owned());
    let token: Impersonated = serde_json::from_slice(answer.body()).map_err(|_| problem())?;
    let until = Timestamp::parse(&token.expire_time).ok_or_else(problem)?;
    let life = until.since(Timestamp::from(SystemTime::now()));
    Ok(Granted {
        access_token: token.access_token,
        expires_in: life.as_secs().into(),
    })
}
