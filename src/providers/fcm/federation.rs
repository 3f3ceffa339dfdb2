//! A key file without a key: where a machine's own identity is found, and who
//! exchanges it for a token of Google's (workload identity federation, type
//! `external_account`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;

use crate::call::secret::Secret;
use crate::providers::endpoint::Endpoint;

/// Where a token of the machine's own comes from, and what it is exchanged for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Federation {
    pub(super) audience: Arc<str>,
    pub(super) subject_token_type: Arc<str>,
    pub(super) token_url: Endpoint,
    pub(super) subject: Subject,
    /// The key of a JSON object that the token is in; else it is all there is.
    pub(super) field: Option<Arc<str>>,
    /// Where the federated identity becomes a service account.
    pub(super) impersonation: Option<Endpoint>,
    pub(super) lifetime: u64,
}

/// Where the machine's own token is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// Such as Kubernetes puts it there, and renews it.
    File(PathBuf),
    /// Such as Azure's metadata server.
    Url {
        server: Endpoint,
        path: PathAndQuery,
        headers: Vec<(HeaderName, Secret)>,
    },
}

/// The file, as far as it is of use.
#[derive(Deserialize)]
struct File {
    audience: String,
    subject_token_type: String,
    token_url: String,
    credential_source: CredentialSource,
    service_account_impersonation_url: Option<String>,
    #[serde(default)]
    service_account_impersonation: Lifetime,
    quota_project_id: Option<String>,
}

#[derive(Default, Deserialize)]
struct Lifetime {
    token_lifetime_seconds: Option<u64>,
}

#[derive(Deserialize)]
struct CredentialSource {
    file: Option<PathBuf>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    format: Format,
    environment_id: Option<String>,
}

#[derive(Default, Deserialize)]
struct Format {
    #[serde(default, rename = "type")]
    kind: String,
    subject_token_field_name: Option<String>,
}

impl Format {
    fn field(&self) -> Result<Option<Arc<str>>, &'static str> {
        match (&*self.kind, &self.subject_token_field_name) {
            ("" | "text", _) => Ok(None),
            ("json", Some(field)) => Ok(Some(field.as_str().into())),
            ("json", None) => Err("`subject_token_field_name` is missing"),
            _ => Err("`format.type` is neither `text` nor `json`"),
        }
    }
}

/// What Google gives a token that does not ask for another life.
const USUAL_LIFETIME: u64 = 3600;

impl Federation {
    /// Reads a file that says it is one; the project that stands in it as well.
    /// Relative paths in it are relative to it.
    ///
    /// # Errors
    /// What is wrong with it, quoting nothing.
    pub(super) fn parse(file: &Path, bytes: &[u8]) -> Result<(Self, Option<String>), String> {
        let read: File = serde_json::from_slice(bytes).map_err(|error| {
            let text = error.to_string();
            // Of a value serde quotes what stands there.
            let key = text.strip_prefix("missing field ");
            match key.and_then(|rest| rest.split_once(" at line")) {
                Some((key, _)) => format!("{key} is missing"),
                None => format!(
                    "a value before line {}, column {}, is of the wrong type",
                    error.line(),
                    error.column()
                ),
            }
        })?;
        let secure =
            |key: &str, url: &str| Endpoint::parse(url).map_err(|fault| format!("`{key}` {fault}"));
        let url = read.service_account_impersonation_url.as_deref();
        let impersonation = url
            .map(|url| secure("service_account_impersonation_url", url))
            .transpose()?;
        let token_url = secure("token_url", &read.token_url)?;
        let field = read.credential_source.format.field()?;
        let lifetime = read.service_account_impersonation.token_lifetime_seconds;
        let federation = Self {
            audience: read.audience.into(),
            subject_token_type: read.subject_token_type.into(),
            token_url,
            subject: subject(file, read.credential_source)?,
            field,
            impersonation,
            lifetime: lifetime.unwrap_or(USUAL_LIFETIME),
        };
        Ok((federation, read.quota_project_id))
    }

    /// The service account that it becomes, or the identity's own audience.
    pub(super) fn who(&self) -> &str {
        let path = self.impersonation.as_ref().map(Endpoint::path);
        let account = path.and_then(|path| path.rsplit('/').next()?.split(':').next());
        account.unwrap_or(&self.audience)
    }
}

fn subject(beside: &Path, source: CredentialSource) -> Result<Subject, String> {
    if source.environment_id.is_some() {
        return Err(
            "`credential_source` is AWS's signed request, which is not supported; use an OIDC \
             token in a file"
                .to_owned(),
        );
    }
    let Some(url) = source.url else {
        let file = source.file.ok_or(
            "`credential_source` names neither a `file` nor a `url`; programs and certificates \
             are not supported",
        )?;
        return Ok(Subject::File(crate::files::beside(
            beside.parent().unwrap_or(Path::new("")),
            &file,
        )));
    };
    let (address, query) = url
        .split_once('?')
        .map_or((&*url, None), |(a, q)| (a, Some(q)));
    let server = Endpoint::parse_near(address);
    let server = server.map_err(|fault| format!("`credential_source.url` {fault}"))?;
    let path = match query {
        Some(query) => format!("{}?{query}", server.uri().path()),
        None => server.uri().path().to_owned(),
    };
    let path = path
        .try_into()
        .map_err(|_| "`credential_source.url` is not a URL".to_owned())?;
    let headers = source.headers.iter().map(|(name, value)| {
        let name = name.parse().ok()?;
        HeaderValue::from_str(value).ok()?;
        Some((name, Secret::from(value.as_str())))
    });
    let headers: Option<Vec<_>> = headers.collect();
    let headers = headers.ok_or("`credential_source.headers` holds what is no header")?;
    Ok(Subject::Url {
        server,
        path,
        headers,
    })
}
