//! What the configuration says about FCM.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::providers::endpoint::{Endpoint, EndpointFault};

/// Messages in flight that one connection carries. Google's servers announce
/// 100 streams.
pub(super) const STREAMS_PER_CONNECTION: usize = 100;

/// More connections than any sender of calls needs: 6 400 pushes in flight.
const MAX_CONNECTIONS: usize = 64;

/// Longer than any ring.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// The table `[fcm]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where FCM is: https, or plain http (HTTP/2 without TLS) to loopback.
    pub url: String,
    /// Warm connections per project.
    pub connections: usize,
    /// Pushes in flight per project; at most 100 a connection.
    pub in_flight: usize,
    /// How long one attempt may take, access token and answer included.
    #[serde(with = "humantime_serde")]
    pub attempt_timeout: Duration,
    /// PEM certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: "https://fcm.googleapis.com".to_owned(),
            connections: 2,
            in_flight: 200,
            attempt_timeout: Duration::from_secs(5),
            ca_file: None,
        }
    }
}

/// A value in `[fcm]` that cannot be used. Names the key and the cure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// An address without TLS, or none at all.
    #[error("fcm.url {0}")]
    Url(EndpointFault),
    /// No connection, or absurdly many.
    #[error("fcm.connections is {0}: choose 1 to {MAX_CONNECTIONS}")]
    Connections(usize),
    /// Nothing could ever be sent.
    #[error("fcm.in_flight is 0: choose 1 to 100 per connection")]
    NoneInFlight,
    /// More than the connections carry.
    #[error(
        "fcm.in_flight is {in_flight}, but a connection carries at most 100: raise \
         fcm.connections to {needed} or lower fcm.in_flight to {room}"
    )]
    InFlight {
        /// What was asked for.
        in_flight: usize,
        /// Connections for that many.
        needed: usize,
        /// What the configured connections carry.
        room: usize,
    },
    /// Not a time-out.
    #[error("fcm.attempt_timeout is {0:?}: choose more than 0s and at most 60s")]
    AttemptTimeout(Duration),
}

impl Settings {
    /// Where FCM is.
    ///
    /// # Errors
    /// The address cannot be used.
    pub fn endpoint(&self) -> Result<Endpoint, SettingsError> {
        Endpoint::parse(&self.url).map_err(SettingsError::Url)
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn validate(&self) -> Result<(), SettingsError> {
        self.endpoint()?;
        if !(1..=MAX_CONNECTIONS).contains(&self.connections) {
            return Err(SettingsError::Connections(self.connections));
        }
        if self.in_flight == 0 {
            return Err(SettingsError::NoneInFlight);
        }
        let room = self.connections * STREAMS_PER_CONNECTION;
        if self.in_flight > room {
            return Err(SettingsError::InFlight {
                in_flight: self.in_flight,
                needed: self.in_flight.div_ceil(STREAMS_PER_CONNECTION),
                room,
            });
        }
        if self.attempt_timeout.is_zero() || self.attempt_timeout > MAX_TIMEOUT {
            return Err(SettingsError::AttemptTimeout(self.attempt_timeout));
        }
        Ok(())
    }
}

/// The table `[apps."…".android]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AndroidSettings {
    /// Where access tokens come from.
    #[serde(default)]
    pub credentials: CredentialSource,
    /// The JSON key file of a service account that may send messages, or that
    /// of a federated identity.
    pub service_account_file: Option<PathBuf>,
    /// The Firebase project, if it is not the key file's own.
    #[serde(default)]
    pub project_id: Option<String>,
    /// Deliver before the phone's first unlock.
    #[serde(default)]
    pub direct_boot_ok: bool,
    /// Deliver over networks of constrained bandwidth.
    #[serde(default)]
    pub bandwidth_constrained_ok: bool,
    /// Deliver over restricted satellite networks.
    #[serde(default)]
    pub restricted_satellite_ok: bool,
    /// The package that the token must belong to.
    #[serde(default)]
    pub restricted_package_name: Option<String>,
}

/// What stands in every message to an app beside priority and lifespan:
/// members of its object `android`, each with a comma before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AndroidOptions(pub(super) String);

impl AndroidSettings {
    /// What is sent of it.
    #[must_use]
    pub fn options(&self) -> AndroidOptions {
        let allowed = [
            ("direct_boot_ok", self.direct_boot_ok),
            ("bandwidth_constrained_ok", self.bandwidth_constrained_ok),
            ("restricted_satellite_ok", self.restricted_satellite_ok),
        ];
        let allowed = allowed.into_iter().filter(|(_, on)| *on);
        let mut members: Vec<(&str, Value)> = allowed.map(|(key, on)| (key, on.into())).collect();
        let package = self.restricted_package_name.as_deref();
        members.extend(package.map(|name| ("restricted_package_name", name.into())));
        let mut text = String::new();
        for (key, value) in members {
            // Into memory: it cannot fail.
            let _ = write!(text, r#","{key}":{value}"#);
        }
        AndroidOptions(text)
    }

    /// Checks `restricted_package_name`.
    ///
    /// # Errors
    /// What it must be.
    pub fn check_package(&self) -> Result<(), &'static str> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
        match &self.restricted_package_name {
            Some(name) if name.is_empty() || !name.chars().all(plain) => {
                Err("must be the app's applicationId, such as com.example.calls")
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// `credentials`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialSource {
    /// `service_account_file`.
    #[default]
    File,
    /// The metadata server of GCE, GKE and Cloud Run.
    Metadata,
}

impl AndroidSettings {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// The key and the cure.
    pub const fn validate(&self) -> Result<(), &'static str> {
        match (self.credentials, &self.service_account_file) {
            (CredentialSource::File, None) => Err(
                "service_account_file is missing; name the key file, or on Google's clouds set \
                 credentials = \"metadata\"",
            ),
            (CredentialSource::Metadata, Some(_)) => Err(
                "credentials is \"metadata\", and service_account_file is set too; remove one of \
                 them",
            ),
            (CredentialSource::File, Some(_)) | (CredentialSource::Metadata, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    fn fault(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.validate().unwrap_err().to_string()
    }

    #[test]
    fn an_empty_table_gives_the_documented_defaults() {
        let settings: Settings = read("{}").unwrap();
        assert_eq!(settings, Settings::default());
        assert_eq!(settings.url, "https://fcm.googleapis.com");
        assert_eq!((settings.connections, settings.in_flight), (2, 200));
        assert_eq!(settings.attempt_timeout, Duration::from_secs(5));
        assert_eq!(settings.validate(), Ok(()));
    }

    #[test]
    fn unknown_keys_and_unreadable_times_are_refused() {
        assert!(read::<Settings>(r#"{"conections":2}"#).is_err());
        assert!(read::<AndroidSettings>(r#"{"service_account_file":"a","x":1}"#).is_err());
        assert!(read::<AndroidSettings>("{}").unwrap().validate().is_err());
        let settings: Settings = read(r#"{"attempt_timeout":"1500ms"}"#).unwrap();
        assert_eq!(settings.attempt_timeout, Duration::from_millis(1500));
    }

    #[test]
    fn errors_name_the_key_and_the_cure() {
        let error = fault(|s| s.in_flight = 450);
        for part in ["fcm.in_flight is 450", "fcm.connections to 5", "to 200"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(fault(|s| s.in_flight = 0).contains("fcm.in_flight"));
        assert!(fault(|s| s.connections = 0).contains("fcm.connections"));
        assert!(fault(|s| s.connections = usize::MAX).contains("fcm.connections"));
        assert!(fault(|s| s.attempt_timeout = Duration::ZERO).contains("fcm.attempt_timeout"));
        assert!(fault(|s| s.url = "http://fcm.googleapis.com".into()).contains("fcm.url must"));
        let port = fault(|s| s.url = "https://gw:84430".into());
        assert!(port.contains("fcm.url names the port 84430"), "{port}");
    }
}
