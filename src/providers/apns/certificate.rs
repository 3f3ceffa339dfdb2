//! Certificates from `.p12` and PEM files.

use std::fmt;

use p12_keystore::KeyStore;
use rustls::InconsistentKeys;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::der_parser::parse_der;
use x509_parser::oid_registry::OID_USERID;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::call::time::Timestamp;
use crate::providers::tls;

/// Apple's extension that lists the topics of a push certificate.
const TOPICS: &str = "1.2.840.113635.100.6.3.6";

/// A client certificate with its key.
#[derive(PartialEq)]
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    begins: Timestamp,
    expires: Timestamp,
    /// The topics that it may push to; of one without a list, the user id of
    /// its subject, where Apple puts the app. Empty if it names none.
    topics: Vec<String>,
}

impl Certificate {
    /// When it ceases to be valid.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Whether it is valid at a moment.
    ///
    /// # Errors
    /// It is not.
    pub fn valid_at(&self, now: Timestamp) -> Result<(), OutOfTime> {
        if now >= self.expires {
            Err(OutOfTime::Expired(self.expires))
        } else if now < self.begins {
            Err(OutOfTime::NotYetValid(self.begins))
        } else {
            Ok(())
        }
    }

    /// The topics that it is for, if it says so and this app's calls are none of
    /// them: Apple will refuse it for those.
    #[must_use]
    pub fn foreign_to(&self, bundle_id: &str) -> Option<&[String]> {
        let voip = format!("{bundle_id}.voip");
        // A user id may be the app's without `.voip`.
        let only = self.topics.len() == 1;
        let own = |topic: &String| *topic == voip || only && topic == bundle_id;
        let foreign = !self.topics.is_empty() && !self.topics.iter().any(own);
        foreign.then_some(&self.topics)
    }

    /// What TLS shows.
    pub(super) fn identity(&self) -> tls::Identity {
        (self.chain.clone(), self.key.clone_key())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Why a certificate file cannot be used, and the cure.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// PEM without a certificate.
    #[error("holds no certificate; export certificate and key together, as PEM or .p12")]
    NoCertificate,
    /// PEM without a key.
    #[error(
        "holds no private key (BEGIN PRIVATE KEY); append it to the certificate, \
         or export both as .p12 from Keychain Access"
    )]
    NoKey,
    /// The same in a `.p12`.
    #[error("holds no private key; export certificate and key together from Keychain Access")]
    NoKeyInP12,
    /// What Apple's portal gives out.
    #[error(
        "is a certificate without its key (.cer); open it in Keychain Access, on the Mac that made \
         the request for it, and export certificate and key together as .p12"
    )]
    CertificateAlone,
    /// A key that is encrypted.
    #[error(
        "its private key is encrypted; decrypt it (openssl pkey -in <file> -out key.pem) and put \
         that in its place, or use the .p12"
    )]
    EncryptedKey,
    /// Certificate and key of two different exports.
    #[error(
        "its private key is not that of its certificate; export both together from Keychain Access"
    )]
    OtherKey,
    /// A `.p12` without password.
    #[error("needs a password; put it into a file and name that as `certificate_password_file`")]
    PasswordMissing,
    /// A wrong one.
    #[error(
        "the password in `certificate_password_file` is wrong; write the one that the .p12 was \
         exported with, as the file's only line"
    )]
    PasswordWrong,
    /// A `.p12` of a kind that is not read.
    #[error(
        "is no .p12, or one in a form that is not read ({0}); convert it (openssl pkcs12 -in \
         <file> -nodes -out voip.pem, with -legacy if it says that RC2 is unsupported) and name \
         voip.pem as `certificate_file`"
    )]
    P12Form(String),
    /// A PEM file that cannot be read.
    #[error("is a PEM file that cannot be read ({0}); export it again")]
    Unreadable(String),
    /// Not an X.509 certificate.
    #[error("its certificate cannot be parsed; export it again")]
    NotX509,
}

/// A certificate that is not valid now, and the cure.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfTime {
    /// Too late.
    #[error("its certificate expired at {0}; make a new one at developer.apple.com (Certificates)")]
    Expired(Timestamp),
    /// Too early.
    #[error("its certificate is not valid before {0}; is this machine's clock right?")]
    NotYetValid(Timestamp),
}

impl OutOfTime {
    /// Our own word for it, in reports of rings.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Expired(_) => "certificate_expired",
            Self::NotYetValid(_) => "certificate_not_yet_valid",
        }
    }
}

/// Reads a `.p12` (PBES2, or the 3DES and RC2-40 of older exports) or a PEM
/// that holds the certificate, its chain and its key. It may have expired: that
/// is for whoever uses it to find out, then and later.
///
/// # Errors
///
/// With the cure.
pub fn read(bytes: &[u8], password: Option<&str>) -> Result<Certificate, CertificateError> {
    // DER begins with a SEQUENCE; that byte is '0' in a text.
    let (chain, key) = if bytes.first() == Some(&0x30) {
        from_p12(bytes, password)?
    } else {
        from_pem(bytes)?
    };
    let leaf = chain.first().ok_or(CertificateError::NoCertificate)?;
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| CertificateError::NotX509)?;
    let (begins, expires) = dates(&parsed);
    let topics = topics(&parsed);
    check_pair(&chain, &key)?;
    Ok(Certificate {
        chain,
        key,
        begins,
        expires,
        topics,
    })
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn from_pem(pem: &[u8]) -> Result<Identity, CertificateError> {
    if is_encrypted(pem) {
        return Err(CertificateError::EncryptedKey);
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| CertificateError::Unreadable(error.to_string()))?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| CertificateError::NoKey)?;
    Ok((chain, key))
}

/// Whether a PEM file's key is encrypted, in today's form or in the older one.
pub(super) fn is_encrypted(pem: &[u8]) -> bool {
    contains(pem, b"ENCRYPTED PRIVATE KEY") || contains(pem, b"Proc-Type: 4,ENCRYPTED")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The type of a `.p12`'s key that is not encrypted by itself.
const KEY_BAG: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x01";

fn from_p12(der: &[u8], password: Option<&str>) -> Result<Identity, CertificateError> {
    if X509Certificate::from_der(der).is_ok() {
        return Err(CertificateError::CertificateAlone);
    }
    let store = KeyStore::from_pkcs12(der, password.unwrap_or_default())
        .map_err(|error| p12_error(error, password.is_some()))?;
    let (_, pair) = store.private_key_chain().ok_or_else(|| {
        if contains(der, KEY_BAG) {
            CertificateError::P12Form("its key bag is not encrypted".to_owned())
        } else {
            CertificateError::NoKeyInP12
        }
    })?;
    let chain = pair.chain();
    let chain = chain
        .iter()
        .map(|c| CertificateDer::from(c.as_der().to_vec()));
    let key = PrivatePkcs8KeyDer::from(pair.key().to_vec());
    Ok((chain.collect(), key.into()))
}

fn p12_error(error: p12_keystore::error::Error, had_password: bool) -> CertificateError {
    use p12_keystore::error::Error;
    match (error, had_password) {
        (Error::MacError(_), false) => CertificateError::PasswordMissing,
        (Error::MacError(_), true) => CertificateError::PasswordWrong,
        (error, _) => CertificateError::P12Form(error.to_string()),
    }
}

fn check_pair(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<(), CertificateError> {
    let loaded = tls::provider()
        .key_provider
        .load_private_key(key.clone_key());
    let key = loaded.map_err(|error| CertificateError::Unreadable(error.to_string()))?;
    match CertifiedKey::new(chain.to_vec(), key).keys_match() {
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(CertificateError::OtherKey)
        }
        // Whatever else is odd about it, TLS says.
        Ok(()) | Err(_) => Ok(()),
    }
}

fn topics(leaf: &X509Certificate<'_>) -> Vec<String> {
    let list = leaf
        .extensions()
        .iter()
        .find(|extension| extension.oid.to_id_string() == TOPICS)
        .and_then(|extension| topic_list(extension.value));
    list.unwrap_or_else(|| {
        let ids = leaf.subject().iter_by_oid(&OID_USERID);
        ids.filter_map(|id| id.as_str().ok().map(str::to_owned))
            .collect()
    })
}

/// A sequence of topics, each followed by a sequence of its kinds.
fn topic_list(der: &[u8]) -> Option<Vec<String>> {
    let (_, list) = parse_der(der).ok()?;
    let topics = list.as_sequence().ok()?.iter();
    let topics = topics.filter_map(|entry| entry.as_str().ok());
    Some(topics.map(str::to_owned).collect())
}

fn dates(leaf: &X509Certificate<'_>) -> (Timestamp, Timestamp) {
    let validity = leaf.validity();
    let time = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000));
    (
        time(validity.not_before.timestamp()),
        time(validity.not_after.timestamp()),
    )
}
