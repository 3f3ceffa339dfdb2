//! The `[amqp]` table.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use crate::call::secret::Secret;

use super::error::AmqpError;

/// Longest prefix: the longest name made from it stays below AMQP's 255 bytes.
const MAX_PREFIX: usize = 200;

/// Where cancels are read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelSource {
    /// A stream that keeps them for an hour: a worker that starts or comes
    /// back learns of those it missed.
    #[default]
    Stream,
    /// An exclusive queue per worker, for brokers without streams: misses what
    /// was sent before the worker started.
    Queue,
}

/// The `[amqp]` table of the configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `amqp://` or `amqps://`, with user and password.
    #[serde(deserialize_with = "secret")]
    pub url: Secret,
    /// First part of every exchange's and queue's name.
    pub prefix: String,
    /// Whether exchanges and queues are declared, or only looked for.
    pub declare: bool,
    /// Messages taken from each queue and not yet settled, at most.
    pub prefetch: u16,
    /// Where cancels are read from.
    pub cancels: CancelSource,
    /// PEM file with CAs to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with a client certificate and its chain.
    pub client_cert_file: Option<PathBuf>,
    /// PEM file with that certificate's key.
    pub client_key_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: Secret::from("amqp://guest:guest@127.0.0.1:5672/%2f"),
            prefix: "ringpush".to_owned(),
            declare: true,
            prefetch: 1000,
            cancels: CancelSource::default(),
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
        }
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::from)
}

impl Settings {
    /// Makes relative paths relative to this folder (the configuration file's).
    pub fn resolve(&mut self, folder: &Path) {
        for file in [
            &mut self.ca_file,
            &mut self.client_cert_file,
            &mut self.client_key_file,
        ]
        .into_iter()
        .flatten()
        {
            *file = crate::files::beside(folder, file);
        }
    }

    /// Checks everything that can be checked without files and network;
    /// [`Connector::new`](super::connect::Connector::new) checks the URL and the files.
    ///
    /// # Errors
    /// [`AmqpError::Setting`] with the key, what is wrong and the cure.
    pub fn validate(&self) -> Result<(), AmqpError> {
        if self.prefix.is_empty() || self.prefix.len() > MAX_PREFIX {
            return Err(AmqpError::Setting {
                key: "prefix",
                problem: format!("has {} characters", self.prefix.len()),
                cure: "use 1 to 200",
            });
        }
        if let Some(bad) = self
            .prefix
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')))
        {
            return Err(AmqpError::Setting {
                key: "prefix",
                problem: format!("holds {bad:?}"),
                cure: "use letters, digits, '.', '-' and '_'",
            });
        }
        if self.prefix.starts_with("amq.") {
            return Err(AmqpError::Setting {
                key: "prefix",
                problem: "begins with \"amq.\", which the broker keeps for itself".to_owned(),
                cure: "choose another one",
            });
        }
        if self.prefetch == 0 {
            return Err(AmqpError::Setting {
                key: "prefetch",
                problem: "is 0, which means without limit".to_owned(),
                cure: "use 1 to 65535; 1000 is a good start",
            });
        }
        let (key, missing) = match (&self.client_cert_file, &self.client_key_file) {
            (Some(_), None) => ("client_cert_file", "amqp.client_key_file"),
            (None, Some(_)) => ("client_key_file", "amqp.client_cert_file"),
            (Some(_), Some(_)) | (None, None) => return Ok(()),
        };
        Err(AmqpError::Setting {
            key,
            problem: format!("is set and {missing} is not"),
            cure: "give both or none",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.to_string())
    }

    #[test]
    fn an_empty_table_has_the_documented_defaults() {
        let settings = parse("").expect("defaults");
        assert_eq!(
            settings.url.expose(),
            "amqp://guest:guest@127.0.0.1:5672/%2f"
        );
        assert_eq!(settings.prefix, "ringpush");
        assert!(settings.declare);
        assert_eq!(settings.prefetch, 1000);
        assert_eq!(settings.cancels, CancelSource::Stream);
        settings.validate().expect("valid");
    }

    #[test]
    fn unknown_keys_and_values_are_refused_by_name() {
        let error = parse("prefetch_count = 5").expect_err("unknown key");
        assert!(error.contains("prefetch_count"), "{error}");
        let error = parse("cancels = \"topic\"").expect_err("unknown value");
        assert!(error.contains("topic"), "{error}");
        assert_eq!(
            parse("cancels = \"queue\"").map(|s| s.cancels),
            Ok(CancelSource::Queue)
        );
    }

    #[test]
    fn what_cannot_work_is_refused_with_key_and_cure() {
        for (text, expected) in [
            ("prefix = \"\"", "amqp.prefix: has 0 characters; use 1"),
            ("prefix = \"a b\"", "amqp.prefix: holds ' '; use letters"),
            ("prefix = \"amq.x\"", "amqp.prefix: begins with"),
            ("prefetch = 0", "amqp.prefetch: is 0"),
            (
                "client_cert_file = \"a.pem\"",
                "amqp.client_cert_file: is set and amqp.client_key_file is not",
            ),
            (
                "client_key_file = \"a.pem\"",
                "amqp.client_key_file: is set and",
            ),
        ] {
            let error = parse(text)
                .expect("readable")
                .validate()
                .expect_err("invalid");
            assert!(error.to_string().starts_with(expected), "{error}");
            assert!(error.is_configuration());
        }
    }

    #[test]
    fn debug_shows_no_password_and_paths_are_relative_to_the_file() {
        let mut settings =
            parse("url = \"amqp://u:hunter2@h/%2f\"\nca_file = \"ca.pem\"").expect("readable");
        assert!(!format!("{settings:?}").contains("hunter2"));
        settings.resolve(Path::new("/etc/ringpush"));
        assert_eq!(
            settings.ca_file.as_deref(),
            Some(Path::new("/etc/ringpush/ca.pem"))
        );
    }
}
