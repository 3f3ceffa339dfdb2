//! From bytes to an [`Event`].

use super::diagnose::diagnose;
use super::error::EventError;
use super::types::{Event, Limits};
use super::wire;

/// The longest body, in bytes.
pub const MAX_BODY: usize = 512 * 1024;

impl Event {
    /// Decodes a message body.
    ///
    /// # Errors
    /// The first rule that the event as a whole breaks. A rule that a single
    /// device breaks is in that device's entry instead.
    pub fn decode(body: &[u8], limits: Limits) -> Result<Self, EventError> {
        if body.len() > MAX_BODY {
            return Err(EventError::new("body", "longer than 512 KiB"));
        }
        let body = without_mark(body);
        wire::read(body, limits).map_or_else(|| diagnose(body, limits), Ok)
    }
}

/// A body without the byte-order mark that .NET's writers and some editors
/// put before it.
#[must_use]
pub fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body)
}
