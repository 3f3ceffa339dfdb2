//! The four servers by name, and what can go wrong with them.

use std::fmt;

/// One of the four servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerKind {
    /// `APNs` production.
    ApnsProduction,
    /// `APNs` sandbox.
    ApnsSandbox,
    /// FCM HTTP v1.
    Fcm,
    /// Google's OAuth token endpoint.
    Oauth,
}

impl ServerKind {
    /// Which half of `APNs` it is, if any.
    pub(super) const fn environment(self) -> Option<Environment> {
        match self {
            Self::ApnsProduction => Some(Environment::Production),
            Self::ApnsSandbox => Some(Environment::Sandbox),
            Self::Fcm | Self::Oauth => None,
        }
    }
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApnsProduction => "apns-production",
            Self::ApnsSandbox => "apns-sandbox",
            Self::Fcm => "fcm",
            Self::Oauth => "oauth",
        })
    }
}

/// One of Apple's two push environments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Environment {
    /// The app store's.
    Production,
    /// Builds run from Xcode.
    Sandbox,
}

/// What can go wrong with a simulator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port cannot be listened on.
    #[error("cannot listen for {server} on {address}: {source}")]
    Listen {
        /// Which server.
        server: ServerKind,
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A key or certificate cannot be made.
    #[error("cannot make keys: {0}")]
    Key(&'static str),
    /// A certificate cannot be made.
    #[error("cannot make certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A script is wrong.
    #[error("script: {0}")]
    Script(String),
}
