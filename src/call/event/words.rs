//! The words that an event may use where only certain ones are allowed.

use serde::Serialize;

/// A push platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// `APNs`, `PushKit`.
    Ios,
    /// FCM.
    Android,
    /// What a device named and nobody knows; such a device is only reported.
    Unknown,
}

impl Platform {
    /// The name in events, routing keys and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ios => "ios",
            Self::Android => "android",
            Self::Unknown => "unknown",
        }
    }
}

/// The half of `APNs` that a token lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// App Store and `TestFlight` builds.
    Production,
    /// Builds from Xcode.
    Sandbox,
}

impl Environment {
    /// The name in events, configuration and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Sandbox => "sandbox",
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Production => Self::Sandbox,
            Self::Sandbox => Self::Production,
        }
    }
}

/// Which environment a device asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvironmentChoice {
    /// This one.
    Only(Environment),
    /// Production first; the other one if the token is unknown there.
    Auto,
}

/// What an event wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Make phones ring.
    Ring,
    /// Stop them.
    Cancel,
}

impl EventKind {
    /// The name in events and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Cancel => "cancel",
        }
    }
}

/// What is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// Sound only.
    Audio,
    /// Picture and sound.
    Video,
}

impl Media {
    /// The name in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }
}

/// What kind of address a handle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandleType {
    /// None of the others.
    Generic,
    /// A telephone number.
    Phone,
    /// A mail address.
    Email,
}

impl HandleType {
    /// The name in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Phone => "phone",
            Self::Email => "email",
        }
    }
}

/// Whether a conversation is between two people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConversationType {
    /// One to one.
    User,
    /// A group.
    Group,
}

impl ConversationType {
    /// The name in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }
}

/// Why a call was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// The caller gave up.
    CallerHangup,
    /// Another device took it.
    AnsweredElsewhere,
    /// Another device declined.
    DeclinedElsewhere,
    /// Nobody answered.
    Timeout,
    /// The callee is in another call.
    Busy,
}

impl CancelReason {
    /// The name in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CallerHangup => "caller_hangup",
            Self::AnsweredElsewhere => "answered_elsewhere",
            Self::DeclinedElsewhere => "declined_elsewhere",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
        }
    }
}
