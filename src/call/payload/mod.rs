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
mod write;

use std::fmt;

use bytes::Bytes;

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
    /// The `data` of an FCM message, in the profile's order; no key is reserved.
    Android(Vec<(String, String)>),
}

impl Payload {
    /// The size that the provider counts, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Ios(body) => body.len(),
            Self::Android(data) => data
                .iter()
                .map(|(key, value)| key.len() + value.len())
                .sum(),
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Ios(_) => "Ios",
            Self::Android(_) => "Android",
        };
        write!(f, "{name}({} bytes)", self.size())
    }
}

#[cfg(test)]
mod tests;
