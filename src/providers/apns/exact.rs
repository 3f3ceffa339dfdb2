//! A request shown instead of sent.

use bytes::Bytes;
use http::Request;

use crate::call::event::Environment;
use crate::call::payload::Payload;
use crate::call::push::Attempt;

use super::request::{Requests, path};
use super::settings::Settings;

/// The request that a client with these settings would make for this attempt,
/// byte for byte, except that `authorization` is made when it goes out.
///
/// `None` if there is none: the payload is another platform's, or token or
/// bundle id cannot stand in a request.
#[must_use]
pub fn exact_request(
    settings: &Settings,
    environment: Environment,
    bundle_id: &str,
    attempt: &Attempt<'_>,
) -> Option<Request<Bytes>> {
    let Payload::Ios(body) = attempt.payload else {
        return None;
    };
    let endpoint = settings.endpoint(environment);
    let requests = Requests::new(endpoint, bundle_id, settings.expiration)?;
    let path = path(attempt.token.expose())?;
    let request = requests.build(attempt, &path, None);
    Some(request.map(|()| body.clone()))
}
