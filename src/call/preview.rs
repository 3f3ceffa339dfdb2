//! A request as a person may see it.

use std::fmt;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use serde::Serialize;
use serde_json::Value;

use super::payload::Payload;
use super::secret::Secret;

/// A push's request, for whoever asked to see it: the device token shortened,
/// no credential. It holds the payload, so `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Serialize)]
pub struct Preview {
    /// The method.
    pub method: &'static str,
    /// Where it goes.
    pub url: String,
    /// Names and values, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Value,
    /// What the provider counts against its limit, in bytes.
    pub payload_bytes: usize,
}

impl Preview {
    /// Of a request that carries this device token. The credential goes out in
    /// `authorization`, which is shown as this text instead.
    #[must_use]
    pub fn of(
        request: &Request<Bytes>,
        token: &Secret,
        payload: &Payload,
        authorization: Option<&str>,
    ) -> Self {
        let short = token.shortened();
        let shown = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), value.to_str().unwrap_or("?").to_owned())
        };
        let credential = authorization.map(|text| ("authorization".to_owned(), text.to_owned()));
        let mut body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        for target in ["/message/token", "/message/fid"] {
            if let Some(target) = body.pointer_mut(target) {
                *target = Value::String(short.clone());
            }
        }
        Self {
            method: "POST",
            url: request.uri().to_string().replace(token.expose(), &short),
            headers: credential
                .into_iter()
                .chain(request.headers().iter().map(shown))
                .collect(),
            body,
            payload_bytes: payload.size(),
        }
    }
}

impl fmt::Debug for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Preview({} bytes)", self.payload_bytes)
    }
}
