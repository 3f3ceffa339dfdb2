//! Firebase Cloud Messaging (HTTP v1): high-priority data messages to Android.
//!
//! - [`Settings`], [`AndroidSettings`]: what a configuration says;
//!   [`ServiceAccount`]: who an app is at Google, checked; `federation`: a key file
//!   without a key.
//! - [`TokenSource`]: the OAuth access token, renewed ahead of time by a task.
//! - [`Client`]: one attempt at one push.
//! - `message` (push → bytes), `error` (answer → class): pure.
//!
//! A message can only hold data. With a notification block the system would
//! draw it by itself and the app would never be woken to show a call, so
//! there is no type here that could carry one.

mod access;
mod account;
mod client;
mod error;
mod federation;
mod message;
mod settings;
#[cfg(test)]
mod testing;

pub use access::{TokenSource, TokenSources};
pub use account::{AccountError, AccountFault, ServiceAccount};
pub use client::{Client, ClientError};
pub use error::{classify, known_reasons};
pub use message::exact_request;
pub use settings::{AndroidOptions, AndroidSettings, CredentialSource, Settings, SettingsError};
