//! What can be wrong with a profile, and with one payload.

use std::borrow::Cow;
use std::fmt;

/// The most characters of a key that an error repeats. Keys can come from an
/// event's `data`, so their length is not ours to trust.
const SHOWN: usize = 64;

/// Why a profile cannot be used: which one, where in it, and the cure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("profile {profile}: {key}: {problem}")]
pub struct ProfileError {
    /// The profile's name.
    pub profile: String,
    /// Where: a path such as `ring.ios.id`, or `file` for the whole.
    pub key: String,
    /// What is wrong and what to do about it.
    pub problem: Cow<'static, str>,
}

impl ProfileError {
    pub(super) fn new(
        profile: &str,
        key: impl Into<String>,
        problem: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            profile: profile.to_owned(),
            key: key.into(),
            problem: problem.into(),
        }
    }
}

/// Why a device gets no payload. Names keys and sizes, never values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadError {
    /// The provider would refuse it for its size.
    TooLarge {
        /// Its size, in bytes.
        size: usize,
        /// What the provider takes, in bytes.
        limit: usize,
        /// The top-level key that takes the most room.
        largest_key: String,
        /// How much that is with its value, in bytes.
        largest_size: usize,
    },
    /// The event has nothing to fill a key with that the apps need.
    Missing {
        /// The key's path, as `metadata.call_id`.
        key: String,
    },
    /// The apps need a UUID and the event has something else.
    NotUuid {
        /// The key's path.
        key: String,
    },
    /// FCM keeps this key to itself.
    ReservedKey {
        /// The key.
        key: String,
    },
    /// Something else stands where keys are to be spliced in.
    NotObject {
        /// The path of the object, `payload` for the whole.
        key: String,
    },
    /// The profile's expression failed on this event.
    Expression {
        /// The key's path.
        key: String,
        /// In the engine's words; quotes the profile, never the event.
        problem: Cow<'static, str>,
    },
    /// There is nothing in it; a phone could only guess.
    Empty,
    /// The profile pushes no cancel to this platform.
    NoCancel,
    /// The device is on no platform that has payloads.
    UnknownPlatform,
}

impl PayloadError {
    /// The word for reports.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "payload_too_large",
            Self::Missing { .. } => "payload_key_missing",
            Self::NotUuid { .. } => "payload_not_a_uuid",
            Self::ReservedKey { .. } => "payload_reserved_key",
            Self::NotObject { .. } => "payload_not_an_object",
            Self::Expression { .. } => "payload_expression",
            Self::Empty => "payload_empty",
            Self::NoCancel => "no_cancel_payload",
            Self::UnknownPlatform => "unknown_platform",
        }
    }
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge {
                size,
                limit,
                largest_key,
                largest_size,
            } => write!(
                f,
                "the payload has {size} bytes, {} more than the limit of {limit}; \
                 the largest key is `{}` with {largest_size} bytes",
                size - limit,
                Shown(largest_key)
            ),
            Self::Missing { key } => write!(
                f,
                "the apps need `{}`, and the event has nothing to fill it with",
                Shown(key)
            ),
            Self::NotUuid { key } => write!(f, "`{}` must be a UUID with hyphens", Shown(key)),
            Self::ReservedKey { key } => {
                write!(f, "`{}` is a key that FCM reserves for itself", Shown(key))
            }
            Self::NotObject { key } => write!(f, "`{}` must be an object", Shown(key)),
            Self::Expression { key, problem } => {
                write!(f, "the expression of `{}` failed: {problem}", Shown(key))
            }
            Self::Empty => f.write_str("the payload is empty"),
            Self::NoCancel => f.write_str("the profile pushes no cancel to this platform"),
            Self::UnknownPlatform => f.write_str("the device's platform has no payloads"),
        }
    }
}

impl std::error::Error for PayloadError {}

/// A key, cut and without control characters.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().take(SHOWN) {
            write!(f, "{}", c.escape_debug())?;
        }
        if self.0.chars().nth(SHOWN).is_some() {
            f.write_str("…")?;
        }
        Ok(())
    }
}
