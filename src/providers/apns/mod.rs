//! `APNs`: `PushKit` `VoIP` pushes over HTTP/2.
//!
//! - [`client`]: one attempt at one push, and what its answer teaches;
//!   `request` builds what it sends, and shows it;
//! - [`signer`]: provider tokens; [`credentials`] and [`certificate`]: files;
//! - [`reason`]: what an answer means, by one table; [`answer`] reads it;
//! - [`settings`]: the configuration.

pub mod answer;
pub mod certificate;
pub mod client;
pub mod credentials;
pub mod reason;
mod request;
pub mod settings;
pub mod signer;

pub use client::{Client, ClientError, Options};
pub use credentials::{CredentialError, Credentials};
pub use request::exact_request;
pub use settings::{AppSettings, CredentialSettings, Settings, endpoint};
pub use signer::Signers;
