//! The words that an event may use where only certain ones are allowed.

use serde::{Deserialize, Deserializer};

use crate::call::from_text::from_text;

words! {
    /// A push platform.
    pub enum Platform {
        /// `APNs`, `PushKit`.
        Ios = "ios",
        /// FCM.
        Android = "android",
        /// What a device named and nobody knows; such a device is only reported.
        Unknown = "unknown",
    }
}

words! {
    /// By what a phone is addressed.
    pub enum TargetKind {
        /// The push token.
        Token = "token",
        /// Android: the Firebase installation id, which takes the place of the
        /// registration token.
        Fid = "fid",
    }
}

words! {
    /// The half of `APNs` that a token lives in.
    pub enum Environment {
        /// App Store and `TestFlight` builds.
        Production = "production",
        /// Builds from Xcode.
        Sandbox = "sandbox",
    }
}

impl Environment {
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

impl EnvironmentChoice {
    /// Every name in events.
    pub(super) const NAMES: &[&str] = &["production", "sandbox", "auto"];

    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            _ => Environment::named(name).map(Self::Only),
        }
    }
}

impl<'de> Deserialize<'de> for EnvironmentChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, Self::named)
    }
}

words! {
    /// What an event wants.
    pub enum EventKind {
        /// Make phones ring.
        Ring = "ring",
        /// Stop them.
        Cancel = "cancel",
    }
}

words! {
    /// What is offered.
    pub enum Media {
        /// Sound only.
        Audio = "audio",
        /// Picture and sound.
        Video = "video",
    }
}

words! {
    /// What kind of address a handle is.
    pub enum HandleType {
        /// None of the others.
        Generic = "generic",
        /// A telephone number.
        Phone = "phone",
        /// A mail address.
        Email = "email",
    }
}

words! {
    /// Whether a conversation is between two people.
    pub enum ConversationType {
        /// One to one.
        User = "user",
        /// A group.
        Group = "group",
    }
}

words! {
    /// Why a call was cancelled.
    pub enum CancelReason {
        /// The caller gave up.
        CallerHangup = "caller_hangup",
        /// Another device took it.
        AnsweredElsewhere = "answered_elsewhere",
        /// Another device declined.
        DeclinedElsewhere = "declined_elsewhere",
        /// Nobody answered.
        Timeout = "timeout",
        /// The callee is in another call.
        Busy = "busy",
    }
}
