//! A request as a person may see it.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

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

impl fmt::Debug for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Preview({} bytes)", self.payload_bytes)
    }
}
