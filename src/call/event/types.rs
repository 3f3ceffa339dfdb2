//! An event and what is in it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::data::Data;
use super::error::EventError;
use super::words::{
    CancelReason, ConversationType, EnvironmentChoice, EventKind, HandleType, Media, Platform,
    TargetKind,
};
use crate::call::from_text::filled;
use crate::call::secret::Secret;
use crate::call::time::Timestamp;

/// How long a ring may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From `sent_at`, if the event does not say.
    pub ttl: Duration,
    /// At most, whatever the event says.
    pub max_ttl: Duration,
}
/// Who calls. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Caller {
    /// The service's id of the person; not empty.
    #[serde(deserialize_with = "filled")]
    pub id: String,
    /// Display name.
    pub name: Option<String>,
    /// Address to call back.
    pub handle: Option<String>,
    /// What kind of address that is.
    pub handle_type: Option<HandleType>,
    /// Picture.
    pub avatar_url: Option<String>,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caller([redacted])")
    }
}

/// Who is called. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callee {
    /// The service's id of the person; not empty.
    #[serde(deserialize_with = "filled")]
    pub id: String,
    /// Display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl fmt::Debug for Callee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callee([redacted])")
    }
}

/// The conversation that the call belongs to. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Conversation {
    /// One to one or group; `type` in events.
    #[serde(rename = "type")]
    pub kind: ConversationType,
    /// The service's id; not empty.
    #[serde(deserialize_with = "filled")]
    pub id: String,
    /// Display name.
    pub name: Option<String>,
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Conversation([redacted])")
    }
}

/// A payload that the producer encrypted for one device; relayed as it is.
/// `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Sealed {
    /// Which key opens it; not empty.
    #[serde(deserialize_with = "filled")]
    pub kid: String,
    /// The ciphertext, as text; not empty.
    #[serde(deserialize_with = "filled")]
    pub ct: String,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed([redacted])")
    }
}

/// A phone that can be pushed to: its platform is known and its token usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The service's id of the device.
    pub id: Arc<str>,
    /// [`Platform::Ios`] or [`Platform::Android`].
    pub platform: Platform,
    /// The app, a key of the configuration's `[apps]`.
    pub app: Arc<str>,
    /// The push token: hex on iOS, opaque on Android; or the installation id.
    pub token: Secret,
    /// Which of the two it is.
    pub target: TargetKind,
    /// The environment that the event asks for, if it does; iOS only.
    pub environment: Option<EnvironmentChoice>,
    /// When the app registered the token.
    pub registered_at: Option<Timestamp>,
    /// The ordinary (non-VoIP) token of an iOS app, or what is wrong with it:
    /// that matters only where a push goes to it.
    pub alert_token: Option<Result<Secret, EventError>>,
    /// The event's `data` with the device's own merged over it.
    pub data: Data,
    /// Instead of a rendered payload.
    pub sealed: Option<Sealed>,
    /// What was wrong with the event or the device and left out, a sentence
    /// for its outcome.
    pub ignored: Option<Arc<str>>,
}

impl Device {
    /// Where a background push to this device goes.
    ///
    /// # Errors
    /// Why it cannot go anywhere: the word for the outcome and a sentence.
    pub fn background_token(&self) -> Result<&Secret, (&'static str, String)> {
        match &self.alert_token {
            Some(Ok(token)) => Ok(token),
            Some(Err(error)) => Err(("invalid_alert_token", error.to_string())),
            None => Err((
                "missing_alert_token",
                "cancels go out as background pushes, which need alert_token".to_owned(),
            )),
        }
    }
}

/// A device that cannot be pushed to and why; it is reported as `rejected`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadDevice {
    /// Its id, if that is usable.
    pub id: Option<Arc<str>>,
    /// Its platform, as far as known.
    pub platform: Platform,
    /// Its app, as the event has it.
    pub app: Option<Arc<str>>,
    /// `unknown_platform`, `invalid_token`, `duplicate_device`,
    /// `duplicate_token` or `invalid_device`.
    pub reason: &'static str,
    /// Path and problem.
    pub error: EventError,
}

/// One entry of an event's `devices`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceEntry {
    /// The device, or what is wrong with it.
    pub device: Result<Arc<Device>, Box<BadDevice>>,
}

/// What a ring and a cancel have in common, and what is theirs alone as
/// [`Event::action`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Unique per event; the key of de-duplication.
    pub event_id: Uuid,
    /// The service's id of the call.
    pub call_id: Arc<str>,
    /// The id that `CallKit` knows the call by.
    pub call_uuid: Uuid,
    /// When the producer sent it.
    pub sent_at: Timestamp,
    /// The ring's deadline, clamped to what the configuration allows after
    /// `sent_at`. A worker clamps once more, to what it allows from now.
    pub expires_at: Timestamp,
    /// Audio or video.
    pub media: Media,
    /// Ring or cancel.
    pub action: Action,
    /// Who is called.
    pub callee: Option<Callee>,
    /// The conversation it belongs to.
    pub conversation: Option<Conversation>,
    /// The payload profile, if the event names one.
    pub profile: Option<Arc<str>>,
    /// The event's own opaque fields; a device's are in [`Device::data`].
    pub data: Data,
    /// What was wrong with it and left out; for its devices' outcomes,
    /// [`Device::ignored`] says it again.
    pub ignored: Option<Arc<str>>,
    pub(super) devices: Vec<DeviceEntry>,
}

/// What an event wants, with the fields that only that has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make phones ring; there is at least one device and somebody who calls.
    Ring {
        /// Who calls.
        caller: Caller,
    },
    /// Stop the ring: on the devices given, or if none is on all but the excepted.
    Cancel {
        /// Who called, if the producer repeats it.
        caller: Option<Caller>,
        /// Why.
        reason: Option<CancelReason>,
        /// Devices, by id, that ring on; none where devices are given.
        except: Vec<Arc<str>>,
    },
}

impl Event {
    /// Ring or cancel.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        match self.action {
            Action::Ring { .. } => EventKind::Ring,
            Action::Cancel { .. } => EventKind::Cancel,
        }
    }

    /// Who calls; always there in a ring.
    #[must_use]
    pub const fn caller(&self) -> Option<&Caller> {
        match &self.action {
            Action::Ring { caller } => Some(caller),
            Action::Cancel { caller, .. } => caller.as_ref(),
        }
    }

    /// Why it was cancelled.
    #[must_use]
    pub const fn reason(&self) -> Option<CancelReason> {
        match &self.action {
            Action::Ring { .. } => None,
            Action::Cancel { reason, .. } => *reason,
        }
    }

    /// The devices that a cancel of the whole call leaves alone.
    #[must_use]
    pub fn except(&self) -> &[Arc<str>] {
        match &self.action {
            Action::Ring { .. } => &[],
            Action::Cancel { except, .. } => except,
        }
    }

    /// The devices, in the event's order, bad ones included. Never empty for
    /// a ring.
    #[must_use]
    pub fn devices(&self) -> &[DeviceEntry] {
        &self.devices
    }
}
