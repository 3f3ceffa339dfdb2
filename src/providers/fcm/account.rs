//! Who an app is at Google: a service account's key file, a federated
//! identity, or the account of the machine itself.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::rsa::KeyPair;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Map, Value};

use super::federation::Federation;
use super::settings::{AndroidSettings, CredentialSource};
use crate::call::secret::Secret;
use crate::providers::endpoint::{Endpoint, EndpointFault};

/// Credentials that were read and found usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    source: Source,
    /// None where the metadata server says it.
    project_id: Option<Arc<str>>,
}

/// Where access tokens come from. The same for every project.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// A key signs.
    Key(KeyFile),
    /// A token of the machine's own is exchanged.
    Federation(Box<Federation>),
    /// The metadata server of Google's clouds has them.
    Metadata {
        /// Where it is.
        server: Endpoint,
        /// Whether it is asked for the project too.
        project: bool,
    },
}

/// Where the metadata server is, if not where Google has it.
const METADATA_HOST: &str = "GCE_METADATA_HOST";
const USUAL_METADATA_HOST: &str = "metadata.google.internal";

/// What access tokens are asked for with: the file without all that was not
/// checked. The same for every project.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyFile {
    pub(super) client_email: Arc<str>,
    /// RSA, PKCS#8 in PEM.
    pub(super) private_key: Secret,
    pub(super) token_uri: Endpoint,
}

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", file.display())]
pub struct AccountError {
    /// Which one.
    pub file: PathBuf,
    /// Why, and the cure.
    pub fault: AccountFault,
}

/// Why a key file cannot be used, and what to do about it. Never quotes what
/// stands in the file: it may be a key.
#[derive(Debug, thiserror::Error)]
pub enum AccountFault {
    /// It is not there or may not be read.
    #[error("cannot be read ({0}): check the path and the file's permissions")]
    Unreadable(#[source] io::Error),
    /// Not a JSON object.
    #[error(
        "is not a JSON object (line {line}, column {column}): download the key again from the \
         Firebase console, Project settings, Service accounts"
    )]
    NotJson {
        /// Where reading stopped, from 1.
        line: usize,
        /// Where in that line.
        column: usize,
    },
    /// Credentials of some other kind.
    #[error(
        "`type` is {0}, neither `service_account` nor `external_account`: a person's login cannot be \
         used, create a key in the Firebase console, Project settings, Service accounts"
    )]
    WrongType(String),
    /// A key is not there, or not a text.
    #[error("`{0}` is missing or not a text: download the key file again and do not edit it")]
    Missing(&'static str),
    /// No project anywhere.
    #[error(
        "`project_id` is missing: download the key file again, or set `project_id` for the app"
    )]
    MissingProject,
    /// No project in a file that has no key either.
    #[error(
        "names no project: set `project_id` for the app (the id in the console, such as \
         `calls-1a2b`)"
    )]
    NoProject,
    /// A file of the type `external_account` that cannot be used.
    #[error("{0}: make the file again (gcloud iam workload-identity-pools create-cred-config)")]
    Federation(String),
    /// The settings name no file.
    #[error("is not set: name the key file, or set `credentials` to `metadata`")]
    Unset,
    /// The variable holds no host.
    #[error("GCE_METADATA_HOST {0}: set it to a host or host:port, or unset it")]
    MetadataHost(EndpointFault),
    /// Not what a project is called.
    #[error(
        "`project_id` is not a project's id: it is the one in the console, such as `calls-1a2b`"
    )]
    BadProject,
    /// The key is none.
    #[error(
        "`private_key` is not an RSA key in PKCS#8 PEM (BEGIN PRIVATE KEY): download the key file \
         again and keep its line breaks as \\n"
    )]
    BadKey,
    /// The assertion would go somewhere unsafe.
    #[error("`token_uri` {0}: download the key file again and do not edit it")]
    TokenUri(EndpointFault),
    /// The file that an Android app is built with.
    #[error(
        "is an app's google-services.json, which holds no key: create one in the Firebase console, \
         Project settings, Service accounts"
    )]
    AppFile,
}

impl ServiceAccount {
    /// Reads what an app's settings name. Their `project_id` wins over the
    /// file's.
    ///
    /// # Errors
    /// Names the file, the key in it and the cure.
    pub fn load(settings: &AndroidSettings) -> Result<Self, AccountError> {
        let project = settings.project_id.as_deref();
        let file = settings.service_account_file.as_deref();
        let file = file.unwrap_or(Path::new("service_account_file"));
        let loaded = match (settings.credentials, &settings.service_account_file) {
            (CredentialSource::Metadata, _) => {
                let host = std::env::var(METADATA_HOST).unwrap_or_default();
                Self::of_metadata_server(&host, project)
            }
            (CredentialSource::File, None) => Err(AccountFault::Unset),
            (CredentialSource::File, Some(file)) => crate::files::read(file)
                .map_err(AccountFault::Unreadable)
                .and_then(|bytes| Self::check(file, &bytes, project)),
        };
        loaded.map_err(|fault| AccountError {
            file: file.to_owned(),
            fault,
        })
    }

    /// Set to nothing, the variable is not set.
    fn of_metadata_server(host: &str, project: Option<&str>) -> Result<Self, AccountFault> {
        let host = if host.is_empty() {
            USUAL_METADATA_HOST
        } else {
            host
        };
        Ok(Self {
            source: Source::Metadata {
                server: Endpoint::plain(host).map_err(AccountFault::MetadataHost)?,
                project: project.is_none(),
            },
            project_id: project.map(checked_project).transpose()?,
        })
    }

    /// The same of bytes that were read already; `file` only names them.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(
        file: &Path,
        bytes: &[u8],
        project_id: Option<&str>,
    ) -> Result<Self, AccountError> {
        Self::check(file, bytes, project_id).map_err(|fault| AccountError {
            file: file.to_owned(),
            fault,
        })
    }

    fn check(file: &Path, bytes: &[u8], project_id: Option<&str>) -> Result<Self, AccountFault> {
        let object: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|e| AccountFault::NotJson {
                line: e.line(),
                column: e.column(),
            })?;
        if object.contains_key("project_info") && object.contains_key("client") {
            return Err(AccountFault::AppFile);
        }
        match text(&object, "type")? {
            "service_account" => (),
            "external_account" => return Self::federated(file, bytes, project_id),
            other => return Err(AccountFault::WrongType(quoted_word(other))),
        }
        let token_uri =
            Endpoint::parse(text(&object, "token_uri")?).map_err(AccountFault::TokenUri)?;
        let (client_email, private_key) = (
            text(&object, "client_email")?,
            text(&object, "private_key")?,
        );
        key_pair(private_key).ok_or(AccountFault::BadKey)?;
        let project = project_id
            .or_else(|| object.get("project_id").and_then(Value::as_str))
            .filter(|id| !id.is_empty())
            .ok_or(AccountFault::MissingProject)?;
        Ok(Self {
            project_id: Some(checked_project(project)?),
            source: Source::Key(KeyFile {
                client_email: client_email.into(),
                private_key: private_key.into(),
                token_uri,
            }),
        })
    }

    fn federated(
        file: &Path,
        bytes: &[u8],
        project_id: Option<&str>,
    ) -> Result<Self, AccountFault> {
        let (federation, own) = Federation::parse(file, bytes).map_err(AccountFault::Federation)?;
        let project = project_id
            .or(own.as_deref())
            .ok_or(AccountFault::NoProject)?;
        Ok(Self {
            project_id: Some(checked_project(project)?),
            source: Source::Federation(Box::new(federation)),
        })
    }

    /// The Firebase project that messages are sent in; none if the metadata
    /// server has to say.
    #[must_use]
    pub fn project_id(&self) -> Option<&str> {
        self.project_id.as_deref()
    }

    /// Who is to be granted the right to send.
    #[must_use]
    pub fn who(&self) -> String {
        match &self.source {
            Source::Key(key) => key.client_email.to_string(),
            Source::Federation(federation) => federation.who().to_owned(),
            Source::Metadata { server, .. } => {
                format!("the account of this machine ({server})")
            }
        }
    }

    /// Which server on the internet is asked for access tokens, if one is.
    #[must_use]
    pub fn token_server(&self) -> Option<&Endpoint> {
        match &self.source {
            Source::Key(key) => Some(&key.token_uri),
            Source::Federation(federation) => Some(&federation.token_url),
            Source::Metadata { .. } => None,
        }
    }

    pub(super) const fn source(&self) -> &Source {
        &self.source
    }
}

fn text<'a>(object: &'a Map<String, Value>, key: &'static str) -> Result<&'a str, AccountFault> {
    object
        .get(key)
        .and_then(Value::as_str)
        .filter(|value| !value.is_empty())
        .ok_or(AccountFault::Missing(key))
}

/// A word in quotes; anything longer or stranger might be a secret in the
/// wrong place.
fn quoted_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if text.len() <= 40 && text.chars().all(plain) {
        format!("`{text}`")
    } else {
        "something else".to_owned()
    }
}

pub(super) fn key_pair(pem: &str) -> Option<KeyPair> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).ok()?;
    KeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()
}

fn checked_project(id: &str) -> Result<Arc<str>, AccountFault> {
    if is_project(id) {
        Ok(id.into())
    } else {
        Err(AccountFault::BadProject)
    }
}

/// Letters, digits and hyphens, with a domain in front in old projects
/// ("example.com:calls"). Anything else would change the request's path.
pub(super) fn is_project(id: &str) -> bool {
    id.len() <= 100
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'_'))
        && id.bytes().any(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::fcm::testing::{account_json, rsa_pem};

    const URI: &str = "https://oauth2.googleapis.com/token";

    fn settings(file: impl Into<PathBuf>) -> AndroidSettings {
        let file: PathBuf = file.into();
        serde_json::from_value(serde_json::json!({ "service_account_file": file })).unwrap()
    }

    fn parse(json: &Value, project: Option<&str>) -> Result<ServiceAccount, String> {
        ServiceAccount::parse(
            Path::new("keys/a.json"),
            json.to_string().as_bytes(),
            project,
        )
        .map_err(|error| error.to_string())
    }

    /// The error that a change of one key makes.
    fn changed(key: &str, value: Value) -> String {
        let mut json = account_json(URI);
        json[key] = value;
        parse(&json, None).unwrap_err()
    }

    #[test]
    fn a_good_file_gives_its_project_unless_the_app_has_one() {
        let account = parse(&account_json(URI), None).unwrap();
        assert_eq!(account.project_id(), Some("calls-test"));
        assert_eq!(account.token_server().unwrap().to_string(), URI);
        let mut json = account_json(URI);
        json["project_id"] = Value::Null;
        let account = parse(&json, Some("example.com:calls")).unwrap();
        assert_eq!(account.project_id(), Some("example.com:calls"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("\u{feff}{}", account_json(URI))).unwrap();
        assert!(ServiceAccount::load(&settings(file.path())).is_ok());
    }

    #[test]
    fn errors_name_the_file_the_key_and_the_cure() {
        for (key, value, parts) in [
            (
                "type",
                "authorized_user".into(),
                ["`type` is `authorized_user`", "create a key"],
            ),
            ("type", Value::Null, ["`type` is missing", "download"]),
            (
                "private_key",
                Value::Null,
                ["`private_key` is missing", "download"],
            ),
            (
                "private_key",
                "".into(),
                ["`private_key` is missing", "download"],
            ),
            (
                "private_key",
                "AAAA".into(),
                ["`private_key` is not an RSA key", "download"],
            ),
            (
                "client_email",
                7.into(),
                ["`client_email` is missing", "download"],
            ),
            (
                "project_id",
                Value::Null,
                ["`project_id` is missing", "set `project_id`"],
            ),
            (
                "project_id",
                "a/../b".into(),
                ["`project_id` is not", "console"],
            ),
            (
                "token_uri",
                Value::Null,
                ["`token_uri` is missing", "download"],
            ),
            (
                "token_uri",
                "http://oauth.example/".into(),
                ["`token_uri` must be https", "127.0.0.1"],
            ),
            (
                "token_uri",
                "https://oauth.example:84430/".into(),
                ["`token_uri` names the port 84430", "1 to 65535"],
            ),
        ] {
            let error = changed(key, value);
            assert!(error.starts_with("keys/a.json: "), "{error}");
            for part in parts {
                assert!(error.contains(part), "{error}");
            }
        }
    }

    #[test]
    fn keys_of_other_kinds_are_refused() {
        let elliptic = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let pkcs1 = rsa_pem().replace("PRIVATE KEY", "RSA PRIVATE KEY");
        let cut = rsa_pem().replacen("MII", "MIIC", 1);
        for pem in [elliptic, pkcs1, cut] {
            assert!(changed("private_key", pem.into()).contains("PKCS#8"));
        }
    }

    #[test]
    fn what_is_not_json_is_located_and_what_is_not_there_is_named() {
        let parse = |text: &str| {
            ServiceAccount::parse(Path::new("a.json"), text.as_bytes(), None)
                .unwrap_err()
                .to_string()
        };
        assert!(parse("{\n  \"type\": oops").contains("line 2, column 11"));
        assert!(parse("[]").contains("not a JSON object"));
        let error = ServiceAccount::load(&settings("/no/such.json")).unwrap_err();
        assert!(
            error.to_string().contains("/no/such.json: cannot be read"),
            "{error}"
        );
    }

    #[test]
    fn no_key_shows_in_errors_and_debug() {
        let account = parse(&account_json(URI), None).unwrap();
        let secret = &rsa_pem()[100..140];
        let Source::Key(key) = account.source() else {
            panic!("{account:?}")
        };
        assert!(key.private_key.expose().contains(secret));
        assert!(!format!("{account:?}").contains("PRIVATE"));
        assert!(!changed("type", rsa_pem().into()).contains(secret));
        assert!(!changed("token_uri", rsa_pem().into()).contains(secret));
        assert!(!changed("project_id", rsa_pem().into()).contains(secret));
    }
}
