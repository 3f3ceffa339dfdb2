//! The access token of the machine's own account, from the metadata server of
//! Google's clouds ("About VM metadata").

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Response};
use http_body_util::Full;

use super::super::account::is_project;
use super::oauth::{Granted, exchange, judge, unavailable};
use super::token::{Refusal, Trouble};
use crate::providers::endpoint::Endpoint;
use crate::providers::http2::proxy::Proxy;

const TOKEN: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
const PROJECT: &str = "/computeMetadata/v1/project/project-id";
/// Goes both ways: a request that was led astray has it as little as an answer
/// of something else.
const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");

/// The server, for people.
pub(super) fn place(server: &Endpoint) -> String {
    format!("the metadata server {server}")
}

/// The token, and the project if that is wanted.
pub(super) async fn token(
    server: &Endpoint,
    project: bool,
) -> Result<(Granted, Option<Arc<str>>), Trouble> {
    let project = if project {
        let answer = get(server, PROJECT).await?;
        let id = String::from_utf8_lossy(answer.body()).trim().to_owned();
        if !answer.status().is_success() || !is_project(&id) {
            return Err(unavailable(format!(
                "{} names no project (status {}); set `project_id` for the app",
                place(server),
                answer.status().as_u16()
            )));
        }
        Some(id.into())
    } else {
        None
    };
    let answer = get(server, TOKEN).await?;
    match answer.status().as_u16() {
        status @ (403 | 404) => Err(Trouble::Refused(Refusal {
            reason: "oauth_refused".to_owned(),
            detail: Some(format!(
                "{} has no account for this machine (status {status}); attach a service account to \
                 it that may send messages (GKE: workload identity for the pod's account)",
                place(server)
            )),
        })),
        status => Ok((judge(status, answer.body())?, project)),
    }
}

async fn get(server: &Endpoint, path: &'static str) -> Result<Response<Bytes>, Trouble> {
    let request = Request::get(server.at(PathAndQuery::from_static(path)))
        .header(FLAVOR.0, FLAVOR.1)
        .body(Full::default())
        .map_err(|error| unavailable(error.to_string()))?;
    let asked = exchange(server.clone(), &Proxy::default(), request).await;
    let answer = asked.map_err(|trouble| match trouble {
        Trouble::Unavailable(why) => unavailable(format!(
            "{}: {why}; credentials = \"metadata\" is for GCE, GKE and Cloud Run: elsewhere set \
             service_account_file, or GCE_METADATA_HOST",
            place(server)
        )),
        Trouble::Refused(_) => trouble,
    })?;
    if answer
        .headers()
        .get(FLAVOR.0)
        .is_none_or(|said| said != FLAVOR.1)
    {
        return Err(unavailable(format!(
            "what answers at {server} is no metadata server (no header Metadata-Flavor); mend \
             GCE_METADATA_HOST, or set service_account_file"
        )));
    }
    Ok(answer)
}
