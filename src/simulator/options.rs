//! How a simulator is set up.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::record::Keep;
use super::script::Script;

/// Ports to listen on; 0 takes a free one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ports {
    /// `APNs` production.
    pub apns_production: u16,
    /// `APNs` sandbox.
    pub apns_sandbox: u16,
    /// FCM.
    pub fcm: u16,
    /// OAuth.
    pub oauth: u16,
}

/// How a simulator is set up. The defaults fit the app `com.example.calls`.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address of every server.
    pub listen: IpAddr,
    /// What else they are called in their certificate.
    pub names: Vec<String>,
    /// Their ports.
    pub ports: Ports,
    /// Apple's team id.
    pub team_id: String,
    /// The id of the team's first key.
    pub key_id: String,
    /// The team's apps; the first is the client certificate's.
    pub bundle_ids: Vec<String>,
    /// The FCM project of the first service account.
    pub project_id: String,
    /// Streams of an `APNs` connection once its sender is known.
    pub max_streams: u32,
    /// Streams of an FCM connection.
    pub fcm_max_streams: u32,
    /// A second provider token on a connection sooner than this is
    /// `TooManyProviderTokenUpdates`.
    pub provider_token_window: Duration,
    /// How long access tokens live.
    pub access_token_life: Duration,
    /// How much is kept on record.
    pub keep: Keep,
    /// What is played from the start.
    pub script: Script,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: Ipv4Addr::LOCALHOST.into(),
            names: Vec::new(),
            ports: Ports::default(),
            team_id: "ABCDE12345".to_owned(),
            key_id: "FGHIJ67890".to_owned(),
            bundle_ids: vec!["com.example.calls".to_owned()],
            project_id: "ringpush-sim".to_owned(),
            max_streams: 1_000,
            fcm_max_streams: 100,
            provider_token_window: Duration::from_secs(20 * 60),
            access_token_life: Duration::from_secs(3_599),
            keep: Keep::Records(100_000),
            script: Script::default(),
        }
    }
}
