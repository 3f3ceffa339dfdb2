//! Scripts: what the servers do to whom, and in which order. A script is a
//! list of rules; TOML and JSON files have the same shape.

mod player;
mod step;

use std::fmt;
use std::path::Path;

use serde::Deserialize;

pub(super) use player::Player;
pub use step::{Body, Effect, RetryAfter, Step};

use super::kind::{Error, ServerKind};

/// What to play. The first rule that fits a request and still has something to
/// play decides; with none the server answers by its own rules.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// In the order in which they are asked.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
}

/// One rule: for whom, and what.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which server.
    pub server: Target,
    /// Only this device token.
    #[serde(default)]
    pub token: Option<String>,
    /// Only device tokens that begin so; each counts its steps by itself.
    #[serde(default)]
    pub token_prefix: Option<String>,
    /// Played in order, one per request (or as long as the step says).
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Played for ever after the steps; without it the rule is over.
    #[serde(default)]
    pub then: Option<Step>,
}

/// The servers a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// `APNs`, production and sandbox.
    Apns,
    /// `APNs` production.
    ApnsProduction,
    /// `APNs` sandbox.
    ApnsSandbox,
    /// FCM.
    Fcm,
    /// The token server.
    Oauth,
}

impl Target {
    fn includes(self, server: ServerKind) -> bool {
        match self {
            Self::Apns => {
                matches!(server, ServerKind::ApnsProduction | ServerKind::ApnsSandbox)
            }
            Self::ApnsProduction => server == ServerKind::ApnsProduction,
            Self::ApnsSandbox => server == ServerKind::ApnsSandbox,
            Self::Fcm => server == ServerKind::Fcm,
            Self::Oauth => server == ServerKind::Oauth,
        }
    }
}

impl fmt::Debug for Rule {
    /// Without the device token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("server", &self.server)
            .field("steps", &self.steps)
            .field("then", &self.then)
            .finish_non_exhaustive()
    }
}

impl Rule {
    /// A rule for every request to `server`.
    #[must_use]
    pub fn every(server: Target, steps: Vec<Step>) -> Self {
        Self {
            server,
            token: None,
            token_prefix: None,
            steps,
            then: None,
        }
    }

    /// A rule for one device token.
    #[must_use]
    pub fn token(server: Target, token: impl Into<String>, steps: Vec<Step>) -> Self {
        Self {
            token: Some(token.into()),
            ..Self::every(server, steps)
        }
    }

    /// The same rule with something to play for ever after its steps.
    #[must_use]
    pub fn then(self, step: Step) -> Self {
        Self {
            then: Some(step),
            ..self
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.token.is_some() && self.token_prefix.is_some() {
            return Err("token and token_prefix exclude each other".to_owned());
        }
        let by_token = self.token.is_some() || self.token_prefix.is_some();
        if by_token && self.server == Target::Oauth {
            return Err("the token server knows no device tokens".to_owned());
        }
        for step in self.steps.iter().chain(&self.then) {
            if by_token && step.is_for_connections() {
                return Err("stall happens before a device token is known".to_owned());
            }
            if self.server == Target::Oauth && step.needs_http2() {
                return Err(
                    "the token server speaks HTTP/1.1: no reset, goaway, max_streams".to_owned(),
                );
            }
        }
        Ok(())
    }
}

impl Script {
    /// Checks what a type alone does not: which step fits which server.
    ///
    /// # Errors
    /// The number of the rule, from 1, and what is wrong with it.
    pub fn check(&self) -> Result<(), Error> {
        for (index, rule) in self.rules.iter().enumerate() {
            rule.check()
                .map_err(|wrong| Error::Script(format!("rule {}: {wrong}", index + 1)))?;
        }
        Ok(())
    }

    /// Reads a script from a file, JSON if its name ends so, else TOML.
    ///
    /// # Errors
    /// The file cannot be read, or a rule is wrong.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let text = crate::files::read_text(path)
            .map_err(|error| Error::Script(format!("{}: {error}", path.display())))?;
        let parsed = match path.extension() {
            Some(extension) if extension == "json" => Self::from_json(&text),
            Some(_) | None => Self::from_toml(&text),
        };
        parsed.map_err(|error| Error::Script(format!("{}: {error}", path.display())))
    }

    /// Reads a script from TOML.
    ///
    /// # Errors
    /// The text is not a script.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let script: Self = toml::from_str(text).map_err(|e| Error::Script(e.to_string()))?;
        script.check()?;
        Ok(script)
    }

    /// Reads a script from JSON.
    ///
    /// # Errors
    /// The text is not a script.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let script: Self = serde_json::from_str(text).map_err(|e| Error::Script(e.to_string()))?;
        script.check()?;
        Ok(script)
    }
}
