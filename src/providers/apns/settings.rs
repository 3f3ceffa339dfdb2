//! `[apns]` and `[apps.….ios]` of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::call::event::{Environment, EnvironmentChoice};
use crate::call::payload::CancelMode;
use crate::providers::endpoint::{Endpoint, EndpointFault};

/// Most connections per app and environment: Apple takes many at once for an attack.
const MAX_CONNECTIONS: usize = 50;

/// `[apns]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where pushes for App Store and `TestFlight` builds go.
    #[serde(deserialize_with = "read_endpoint")]
    pub production_url: Endpoint,
    /// Where pushes for builds from Xcode go.
    #[serde(deserialize_with = "read_endpoint")]
    pub sandbox_url: Endpoint,
    /// Warm connections per app and environment.
    pub connections: usize,
    /// Pushes under way per app and environment.
    pub in_flight: usize,
    /// How long one attempt may take.
    #[serde(with = "humantime_serde")]
    pub attempt_timeout: Duration,
    /// What `apns-expiration` says.
    pub expiration: Expiration,
    /// PEM file of the CAs to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for Settings {
    /// Hosts: "Sending notification requests to APNs".
    fn default() -> Self {
        Self {
            production_url: Endpoint::https("api.push.apple.com"),
            sandbox_url: Endpoint::https("api.sandbox.push.apple.com"),
            connections: 2,
            in_flight: 1000,
            attempt_timeout: Duration::from_secs(3),
            expiration: Expiration::Deadline,
            ca_file: None,
        }
    }
}

/// How long `APNs` keeps a push for a phone that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expiration {
    /// Until the ring is over.
    Deadline,
    /// Not at all: `apns-expiration` 0.
    Now,
}

/// A value that cannot work. Names the key and the cure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {cure}")]
pub struct SettingsError {
    /// The key, within its table.
    pub key: String,
    /// What to write instead.
    pub cure: String,
}

impl SettingsError {
    pub(super) fn new(key: impl Into<String>, cure: impl Into<String>) -> Self {
        let (key, cure) = (key.into(), cure.into());
        Self { key, cure }
    }
}

impl Settings {
    /// Checks what the types cannot.
    ///
    /// # Errors
    ///
    /// The first value that cannot work.
    pub fn validate(&self) -> Result<(), SettingsError> {
        if !(1..=MAX_CONNECTIONS).contains(&self.connections) {
            let cure = format!("must be 1 to {MAX_CONNECTIONS}; 2 is enough for most");
            return Err(SettingsError::new("connections", cure));
        }
        if self.in_flight == 0 {
            return Err(SettingsError::new("in_flight", "must be at least 1"));
        }
        let sensible = Duration::from_millis(50)..=Duration::from_secs(60);
        if !sensible.contains(&self.attempt_timeout) {
            let cure = "must be between \"50ms\" and \"60s\"; \"3s\" suits a ring";
            return Err(SettingsError::new("attempt_timeout", cure));
        }
        Ok(())
    }

    /// Where an environment's pushes go.
    #[must_use]
    pub fn endpoint(&self, environment: Environment) -> &Endpoint {
        match environment {
            Environment::Production => &self.production_url,
            Environment::Sandbox => &self.sandbox_url,
        }
    }
}

/// Reads `https://host[:port]`, which is all that `APNs` is.
///
/// # Errors
/// A sentence that says what is allowed.
pub fn endpoint(url: &str) -> Result<Endpoint, String> {
    let wrong = |what: &str| format!("{what}; write it as \"https://api.push.apple.com\"");
    if url.contains('@') {
        return Err(wrong("must not hold a user name"));
    }
    let endpoint = Endpoint::parse(url).map_err(|fault| wrong(&fault.to_string()))?;
    if !endpoint.is_secure() {
        return Err(wrong(&EndpointFault::Scheme.to_string()));
    }
    if !endpoint.path().is_empty() {
        return Err(wrong("must be host and port only, without a path"));
    }
    Ok(endpoint)
}

fn read_endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Endpoint, D::Error> {
    endpoint(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// `[apps.….ios]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppSettings {
    /// The app's bundle id; `.voip` is added to it for calls.
    pub bundle_id: String,
    /// For devices that do not say.
    #[serde(default)]
    pub environment: DefaultEnvironment,
    /// How a ring is cancelled on its phones, instead of as the profile says.
    #[serde(default)]
    pub cancel: Option<CancelMode>,
    /// The ten characters of the team, for a key.
    pub team_id: Option<String>,
    /// The ten characters of the key.
    pub key_id: Option<String>,
    /// The `.p8` file.
    pub key_file: Option<PathBuf>,
    /// Instead of a key: a `.p12`, or a PEM with certificate and key.
    pub certificate_file: Option<PathBuf>,
    /// A file that holds the password of the `.p12`.
    pub certificate_password_file: Option<PathBuf>,
    /// What differs for App Store and `TestFlight` builds.
    #[serde(default)]
    pub production: CredentialSettings,
    /// What differs for builds from Xcode.
    #[serde(default)]
    pub sandbox: CredentialSettings,
}

/// What an app shows in one environment; as `[apps.….ios.production]` and
/// `[apps.….ios.sandbox]` what differs there from `[apps.….ios]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CredentialSettings {
    /// As in `[apps.….ios]`.
    pub team_id: Option<String>,
    /// As in `[apps.….ios]`.
    pub key_id: Option<String>,
    /// As in `[apps.….ios]`.
    pub key_file: Option<PathBuf>,
    /// As in `[apps.….ios]`.
    pub certificate_file: Option<PathBuf>,
    /// As in `[apps.….ios]`.
    pub certificate_password_file: Option<PathBuf>,
}

/// `environment` of an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultEnvironment {
    /// App Store and `TestFlight`.
    #[default]
    Production,
    /// Xcode.
    Sandbox,
    /// Production first, then the sandbox.
    Auto,
}

impl From<DefaultEnvironment> for EnvironmentChoice {
    fn from(environment: DefaultEnvironment) -> Self {
        match environment {
            DefaultEnvironment::Production => Self::Only(Environment::Production),
            DefaultEnvironment::Sandbox => Self::Only(Environment::Sandbox),
            DefaultEnvironment::Auto => Self::Auto,
        }
    }
}

impl AppSettings {
    /// Checks the keys against each other, before any file is read.
    ///
    /// # Errors
    ///
    /// The first key that is missing, superfluous or malformed.
    pub fn validate(&self) -> Result<(), SettingsError> {
        self.check_bundle()?;
        for environment in [Environment::Production, Environment::Sandbox] {
            self.credential(environment)
                .validate()
                .map_err(|error| self.placed(environment, error))?;
        }
        Ok(())
    }

    /// The overrides of an environment.
    const fn own(&self, environment: Environment) -> &CredentialSettings {
        match environment {
            Environment::Production => &self.production,
            Environment::Sandbox => &self.sandbox,
        }
    }

    /// What is shown in an environment: what its own table says, else what the
    /// app's says. A certificate in a key's place is not asked for the key's
    /// team, and the other way round.
    #[must_use]
    pub fn credential(&self, environment: Environment) -> CredentialSettings {
        let own = self.own(environment).clone();
        let mut all = CredentialSettings {
            team_id: self.team_id.clone(),
            key_id: self.key_id.clone(),
            key_file: self.key_file.clone(),
            certificate_file: self.certificate_file.clone(),
            certificate_password_file: self.certificate_password_file.clone(),
        };
        if own.certificate_file.is_some() {
            (all.team_id, all.key_id, all.key_file) = (None, None, None);
        }
        if own.key_file.is_some() {
            (all.certificate_file, all.certificate_password_file) = (None, None);
        }
        CredentialSettings {
            team_id: own.team_id.or(all.team_id),
            key_id: own.key_id.or(all.key_id),
            key_file: own.key_file.or(all.key_file),
            certificate_file: own.certificate_file.or(all.certificate_file),
            certificate_password_file: own
                .certificate_password_file
                .or(all.certificate_password_file),
        }
    }

    /// Names the environment's own table if it has one.
    fn placed(&self, environment: Environment, error: SettingsError) -> SettingsError {
        if self.own(environment).is_empty() {
            return error;
        }
        let key = format!("{}.{}", environment.name(), error.key);
        SettingsError { key, ..error }
    }

    /// Whether an environment has a table of its own.
    #[must_use]
    pub const fn differs(&self) -> bool {
        !self.production.is_empty() || !self.sandbox.is_empty()
    }

    /// Whether an environment is the app's own or has a table of its own.
    #[must_use]
    pub fn is_meant(&self, environment: Environment) -> bool {
        let default = match EnvironmentChoice::from(self.environment) {
            EnvironmentChoice::Only(only) => only == environment,
            EnvironmentChoice::Auto => true,
        };
        default || !self.own(environment).is_empty()
    }

    /// Every file that is named.
    pub fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let tables = [&mut self.production, &mut self.sandbox];
        let own = [
            &mut self.key_file,
            &mut self.certificate_file,
            &mut self.certificate_password_file,
        ];
        let theirs = tables.into_iter().flat_map(|table| {
            [
                &mut table.key_file,
                &mut table.certificate_file,
                &mut table.certificate_password_file,
            ]
        });
        own.into_iter().chain(theirs).filter_map(Option::as_mut)
    }

    fn check_bundle(&self) -> Result<(), SettingsError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        if self.bundle_id.is_empty() || !self.bundle_id.chars().all(plain) {
            let cure = "must be the app's bundle id, such as com.example.calls";
            return Err(SettingsError::new("bundle_id", cure));
        }
        if self.bundle_id.split('.').next_back() == Some("voip") {
            let cure = "leave .voip off; it is added for calls";
            return Err(SettingsError::new("bundle_id", cure));
        }
        Ok(())
    }
}

impl CredentialSettings {
    const fn is_empty(&self) -> bool {
        self.team_id.is_none()
            && self.key_id.is_none()
            && self.key_file.is_none()
            && self.certificate_file.is_none()
            && self.certificate_password_file.is_none()
    }

    /// Checks the keys against each other, before any file is read.
    ///
    /// # Errors
    ///
    /// The first key that is missing, superfluous or malformed.
    pub fn validate(&self) -> Result<(), SettingsError> {
        match (&self.key_file, &self.certificate_file) {
            (Some(_), Some(_)) => Err(SettingsError::new(
                "certificate_file",
                "there is a `key_file` as well; keep one of the two, the key if possible",
            )),
            (None, None) => Err(SettingsError::new(
                "key_file",
                "missing; name the .p8 from developer.apple.com (Keys), or a `certificate_file`",
            )),
            (Some(_), None) => self.check_key(),
            (None, Some(_)) => self.check_certificate(),
        }
    }

    fn check_key(&self) -> Result<(), SettingsError> {
        if self.certificate_password_file.is_some() {
            let cure = "belongs to `certificate_file`; a .p8 has no password";
            return Err(SettingsError::new("certificate_password_file", cure));
        }
        check_id("team_id", self.team_id.as_deref(), "Membership details")?;
        check_id("key_id", self.key_id.as_deref(), "Keys")
    }

    fn check_certificate(&self) -> Result<(), SettingsError> {
        for (key, value) in [("team_id", &self.team_id), ("key_id", &self.key_id)] {
            if value.is_some() {
                let cure = "belongs to `key_file`; a certificate needs none";
                return Err(SettingsError::new(key, cure));
            }
        }
        Ok(())
    }
}

fn check_id(key: &'static str, id: Option<&str>, page: &str) -> Result<(), SettingsError> {
    let wrong = |what: String| {
        let cure = format!("{what}; copy the ten characters from developer.apple.com ({page})");
        Err(SettingsError::new(key, cure))
    };
    match id {
        None => wrong("missing".to_owned()),
        Some(id) if !id.chars().all(|c| c.is_ascii_alphanumeric()) => {
            wrong("must be letters and digits only".to_owned())
        }
        Some(id) if id.len() != 10 => wrong(format!("has {} characters", id.len())),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn settings(value: Value) -> Result<Settings, String> {
        let settings: Settings = serde_json::from_value(value).map_err(|e| e.to_string())?;
        settings.validate().map_err(|e| e.to_string())?;
        Ok(settings)
    }

    fn app(changes: &Value) -> Result<AppSettings, String> {
        let mut value = json!({
            "bundle_id": "com.example.calls", "team_id": "ABCDE12345",
            "key_id": "FGHIJ67890", "key_file": "key.p8",
        });
        for (key, change) in changes.as_object().unwrap() {
            value[key] = change.clone();
        }
        let app: AppSettings = serde_json::from_value(value).map_err(|e| e.to_string())?;
        app.validate().map_err(|e| e.to_string())?;
        Ok(app)
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let settings = settings(json!({})).unwrap();
        assert_eq!(
            settings.production_url.to_string(),
            "https://api.push.apple.com"
        );
        assert_eq!(
            settings.sandbox_url.to_string(),
            "https://api.sandbox.push.apple.com"
        );
        assert_eq!(settings.endpoint(Environment::Sandbox).port(), 443);
        assert_eq!((settings.connections, settings.in_flight), (2, 1000));
        assert_eq!(settings.attempt_timeout, Duration::from_secs(3));
        assert_eq!(settings.expiration, Expiration::Deadline);
    }

    #[test]
    fn values_are_read_as_documented() {
        let settings = settings(json!({
            "production_url": "https://localhost:2197", "attempt_timeout": "1500ms",
            "expiration": "now", "ca_file": "ca.pem",
        }))
        .unwrap();
        let endpoint = settings.endpoint(Environment::Production);
        assert_eq!((endpoint.host(), endpoint.port()), ("localhost", 2197));
        assert_eq!(settings.attempt_timeout, Duration::from_millis(1500));
        assert_eq!(settings.expiration, Expiration::Now);
        let six = super::endpoint("https://[::1]:8443").unwrap();
        assert_eq!((six.host(), six.port()), ("::1", 8443));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let cases = [
            (json!({"production_url": "http://localhost"}), "https://"),
            (
                json!({"production_url": "https://h/3/device"}),
                "without a path",
            ),
            (json!({"production_url": "https://u:p@h"}), "user name"),
            (
                json!({"sandbox_url": "https://gw:84430"}),
                "names the port 84430",
            ),
            (json!({"connections": 0}), "`connections`"),
            (json!({"connections": 51}), "`connections`"),
            (json!({"in_flight": 0}), "`in_flight`"),
            (json!({"attempt_timeout": "0s"}), "`attempt_timeout`"),
            (json!({"expiration": "later"}), "later"),
            (json!({"in_fligth": 3}), "in_fligth"),
        ];
        for (value, part) in cases {
            let error = settings(value.clone()).unwrap_err();
            assert!(error.contains(part), "{value}: {error}");
        }
    }

    #[test]
    fn an_app_has_either_a_key_or_a_certificate() {
        assert!(app(&json!({})).is_ok());
        let certificate = json!({
            "key_file": null, "team_id": null, "key_id": null, "certificate_file": "voip.p12",
        });
        assert!(app(&certificate).is_ok());
        let cases = [
            (
                json!({"certificate_file": "voip.p12"}),
                "`certificate_file`",
            ),
            (json!({"key_file": null}), "`key_file`"),
            (json!({"team_id": null}), "`team_id`: missing"),
            (json!({"team_id": "ABCDE1234"}), "`team_id`: has 9"),
            (json!({"key_id": "ABCDE-2345"}), "`key_id`"),
            (
                json!({"certificate_password_file": "p"}),
                "`certificate_password_file`",
            ),
            (
                json!({"key_file": null, "certificate_file": "x.p12"}),
                "`team_id`",
            ),
            (
                json!({"bundle_id": "com.example.calls.voip"}),
                "`bundle_id`",
            ),
            (json!({"bundle_id": ""}), "`bundle_id`"),
            (json!({"environment": "staging"}), "staging"),
        ];
        for (changes, part) in cases {
            let error = app(&changes).unwrap_err();
            assert!(error.contains(part), "{changes}: {error}");
        }
    }
}
