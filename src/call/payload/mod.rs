//! What a phone gets: profiles turn an event and a device into a payload.

mod check;
mod error;
mod expression;
mod json;
mod profile;
mod profiles;
mod redact;
mod render;
mod reserved;
mod scope;
mod spec;
mod tree;
mod variable;
mod write;

use std::fmt;

use bytes::Bytes;
use serde::ser::{Error, Serialize, Serializer};
use serde_json::value::RawValue;

pub use error::{PayloadError, ProfileError};
pub use profile::Profile;
pub use profiles::Profiles;
pub use spec::CancelMode;

/// `APNs`' limit for a `VoIP` payload, in bytes ("Generating a remote notification").
pub const IOS_LIMIT: usize = 5120;

/// `APNs`' limit for every other payload, in bytes; a cancel in mode
/// `background` is one.
pub const BACKGROUND_LIMIT: usize = 4096;

/// FCM's limit for the keys and values of `data` together, in bytes.
pub const ANDROID_LIMIT: usize = 4096;

/// A rendered payload within its provider's limits. `Debug` shows its size only.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// The JSON dictionary that becomes the body of an `APNs` request.
    Ios(Bytes),
    /// The `data` of an FCM message; no key is reserved.
    Android(AndroidData),
}

impl Payload {
    /// The size that the provider counts, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Ios(body) => body.len(),
            Self::Android(data) => data.size,
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ios(body) => write!(f, "Ios({} bytes)", body.len()),
            Self::Android(data) => data.fmt(f),
        }
    }
}

/// The `data` of an FCM message, written once: a JSON object of strings in the
/// profile's order. `Debug` shows its size only.
#[derive(Clone, PartialEq, Eq)]
pub struct AndroidData {
    json: String,
    size: usize,
}

impl AndroidData {
    /// The JSON object.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.json
    }
}

impl<const N: usize> From<[(&str, &str); N]> for AndroidData {
    fn from(entries: [(&str, &str); N]) -> Self {
        let mut json = String::from("{");
        for (key, value) in entries {
            write::begin_key(&mut json, key);
            json::write_string(&mut json, value);
        }
        json.push('}');
        let sizes = entries.map(|(key, value)| key.len() + value.len());
        Self {
            json,
            size: sizes.iter().sum(),
        }
    }
}

/// Written into other JSON as it is.
impl Serialize for AndroidData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json: &RawValue = serde_json::from_str(&self.json).map_err(S::Error::custom)?;
        json.serialize(serializer)
    }
}

impl fmt::Debug for AndroidData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AndroidData({} bytes)", self.size)
    }
}

#[cfg(test)]
mod tests;
