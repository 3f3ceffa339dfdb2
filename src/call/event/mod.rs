//! Call events: bytes are decoded once, into types that cannot hold an event
//! that breaks a rule.
//!
//! A valid event is decoded straight into them (`wire`). One that breaks a
//! rule is read again, slowly, to name the field (`diagnose`).

mod data;
mod decode;
mod diagnose;
mod error;
mod fields;
mod rules;
mod split;
mod targets;
mod types;
mod wire;
mod words;

pub use data::Data;
pub use decode::{MAX_BODY, without_mark};
pub use error::EventError;
pub use split::{MAX_PART, Part, PartNumber, split};
pub use types::{
    Action, BadDevice, Callee, Caller, Conversation, Device, DeviceEntry, Event, Limits, Sealed,
};
pub use wire::MAX_DEVICES;
pub use words::{
    CancelReason, ConversationType, Environment, EnvironmentChoice, EventKind, HandleType, Media,
    Platform, TargetKind,
};

#[cfg(test)]
mod tests;
