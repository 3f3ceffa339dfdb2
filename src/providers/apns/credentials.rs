//! What an app shows to `APNs`: a key that signs tokens, or a certificate.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::{PemObject, SectionKind};

use crate::call::time::Timestamp;
use crate::providers::tls;

use super::certificate::{self, Certificate, CertificateError, OutOfTime};
use super::settings::{CredentialSettings, SettingsError};
use super::signer::{SignError, Signer, Signers};

/// An app's credential.
#[derive(Clone)]
pub enum Credentials {
    /// A `.p8` key ("Establishing a token-based connection to APNs").
    Key(Arc<Signer>),
    /// A certificate ("Establishing a certificate-based connection to APNs").
    Certificate(Arc<Certificate>),
}

impl Credentials {
    /// Reads the files that `app` names.
    ///
    /// # Errors
    ///
    /// With file, key and cure.
    pub fn load(app: &CredentialSettings, signers: &Signers) -> Result<Self, CredentialError> {
        app.validate()?;
        if let (Some(file), Some(team), Some(id)) = (&app.key_file, &app.team_id, &app.key_id) {
            let read = InFile::new("key_file", file);
            let pem = read.bytes()?;
            let pkcs8 = key_from_pem(&pem).map_err(|problem| read.wrong(problem))?;
            let signer = signers.get(team, id, &pkcs8);
            let signer = signer.map_err(|error| read.wrong(error.into()))?;
            return Ok(Self::Key(signer));
        }
        let Some(file) = &app.certificate_file else {
            // Not reached after `validate`; said again instead of panicking.
            let cure = "missing, and there is no `certificate_file` either";
            return Err(SettingsError::new("key_file", cure).into());
        };
        let password = read_password(app.certificate_password_file.as_deref())?;
        let read = InFile::new("certificate_file", file);
        certificate::read(&read.bytes()?, password.as_deref())
            .map(|certificate| Self::Certificate(Arc::new(certificate)))
            .map_err(|problem| read.wrong(problem.into()))
    }

    /// When it expires: a certificate does, a key does not.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        match self {
            Self::Key(_) => None,
            Self::Certificate(certificate) => Some(certificate.expires()),
        }
    }

    /// Why it cannot be used at this moment, if it cannot: a certificate has an
    /// end and a beginning.
    #[must_use]
    pub fn fault(&self) -> Option<OutOfTime> {
        match self {
            Self::Key(_) => None,
            Self::Certificate(certificate) => certificate.valid_at(SystemTime::now().into()).err(),
        }
    }

    /// A sentence on a certificate that is another app's. Whom a key may push
    /// for only Apple knows.
    #[must_use]
    pub fn foreign_to(&self, bundle_id: &str) -> Option<String> {
        let Self::Certificate(certificate) = self else {
            return None;
        };
        let topics = certificate.foreign_to(bundle_id)?.join(", ");
        Some(format!(
            "the certificate is for {topics}, not for {bundle_id}.voip; mend bundle_id, or make a \
             VoIP Services certificate of this app at developer.apple.com (Certificates)"
        ))
    }

    /// The signer of a key.
    #[must_use]
    pub fn signer(&self) -> Option<&Arc<Signer>> {
        match self {
            Self::Key(signer) => Some(signer),
            Self::Certificate(_) => None,
        }
    }

    /// What TLS shows.
    pub(super) fn identity(&self) -> Option<tls::Identity> {
        match self {
            Self::Key(_) => None,
            Self::Certificate(certificate) => Some(certificate.identity()),
        }
    }
}

/// The same key of the same team, or the same certificate.
impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            // [`Signers`] has one of each.
            (Self::Key(one), Self::Key(two)) => Arc::ptr_eq(one, two),
            (Self::Certificate(one), Self::Certificate(two)) => one == two,
            (Self::Key(_) | Self::Certificate(_), _) => false,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(signer) => signer.fmt(f),
            Self::Certificate(certificate) => certificate.fmt(f),
        }
    }
}

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The keys of the app do not fit together.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A file cannot be read.
    #[error("`{key}` {}: {error}; check the path (relative ones start at the configuration file) and its permissions", file.display())]
    Unreadable {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file holds something else.
    #[error(
        "`{key}` {}: {}",
        file.display(),
        problem.to_string().replace("<file>", &file.display().to_string())
    )]
    Wrong {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong and the cure.
        problem: Problem,
    },
}

/// What is wrong with a file's contents, and the cure. Never shows any of them;
/// `<file>` in a command stands for the file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A `.p8` is needed.
    #[error(
        "this is {0}, not an APNs key; download the .p8 from developer.apple.com (Keys), \
         it begins with BEGIN PRIVATE KEY"
    )]
    NotKey(&'static str),
    /// The key has another curve or form.
    #[error(transparent)]
    Key(#[from] SignError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The password file is empty or not text.
    #[error("holds no password; write it as the file's only line")]
    Password,
}

/// The PKCS#8 of a `.p8` file.
///
/// # Errors
///
/// [`Problem::NotKey`], with what the bytes are instead.
pub fn key_from_pem(pem: &[u8]) -> Result<Vec<u8>, Problem> {
    if certificate::is_encrypted(pem) {
        let encrypted = "an encrypted key (decrypt it: openssl pkcs8 -in <file> -out new.p8)";
        return Err(Problem::NotKey(encrypted));
    }
    if let Some(der) = without_breaks(pem) {
        return Ok(der);
    }
    let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem);
    match sections.next() {
        Some(Ok((SectionKind::PrivateKey, der))) => Ok(der),
        Some(Ok((kind, _))) => Err(Problem::NotKey(name(kind))),
        Some(Err(_)) => Err(Problem::NotKey("a damaged PEM file")),
        None => Err(Problem::NotKey(unlabelled(pem))),
    }
}

/// The key of a file that has lost its line breaks on the way through a
/// variable or a form: all on one line, or with `\n` in letters.
fn without_breaks(pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?.replace("\\n", "\n");
    let body = text.trim().strip_prefix("-----BEGIN PRIVATE KEY-----")?;
    let body = body.strip_suffix("-----END PRIVATE KEY-----")?;
    let body: String = body.split_whitespace().collect();
    STANDARD.decode(body).ok()
}

fn name(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::Certificate => "a certificate (that goes into `certificate_file`)",
        SectionKind::PublicKey => "a public key",
        SectionKind::RsaPrivateKey => "an RSA key",
        SectionKind::EcPrivateKey => {
            "a key in the older SEC1 form (convert it: openssl pkcs8 -topk8 -nocrypt)"
        }
        // `SectionKind` may grow.
        SectionKind::PrivateKey
        | SectionKind::Crl
        | SectionKind::Csr
        | SectionKind::EchConfigList
        | _ => "another kind of PEM file",
    }
}

fn unlabelled(bytes: &[u8]) -> &'static str {
    let text = String::from_utf8_lossy(bytes);
    if text.trim().is_empty() {
        "empty"
    } else if text.contains("-----BEGIN") {
        "another kind of PEM file"
    } else if bytes.first() == Some(&0x30) {
        "a binary file (perhaps a .p12, which goes into `certificate_file`)"
    } else {
        "not a PEM file"
    }
}

fn read_password(file: Option<&Path>) -> Result<Option<String>, CredentialError> {
    let Some(file) = file else { return Ok(None) };
    let read = InFile::new("certificate_password_file", file);
    let text = String::from_utf8(read.bytes()?).map_err(|_| read.wrong(Problem::Password))?;
    let line = text.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        return Err(read.wrong(Problem::Password));
    }
    Ok(Some(line.to_owned()))
}

/// A file and the key that names it, for errors.
struct InFile<'a> {
    key: &'static str,
    file: &'a Path,
}

impl<'a> InFile<'a> {
    const fn new(key: &'static str, file: &'a Path) -> Self {
        Self { key, file }
    }

    fn bytes(&self) -> Result<Vec<u8>, CredentialError> {
        crate::files::read(self.file).map_err(|error| CredentialError::Unreadable {
            key: self.key,
            file: self.file.to_owned(),
            error,
        })
    }

    fn wrong(&self, problem: Problem) -> CredentialError {
        CredentialError::Wrong {
            key: self.key,
            file: self.file.to_owned(),
            problem,
        }
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
