//! Certificates from `.p12` and PEM files.

use std::fmt;

use p12_keystore::KeyStore;
use rustls::InconsistentKeys;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::call::time::Timestamp;
use crate::providers::tls;

/// A client certificate with its key.
#[derive(PartialEq)]
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    begins: Timestamp,
    expires: Timestamp,
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
    /// A key that is encrypted.
    #[error("its private key is encrypted; decrypt it (openssl pkey), or use the .p12")]
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
    /// A `.p12` that cannot be read otherwise.
    #[error("is neither PEM nor a .p12 that can be read ({0}); export it again")]
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
    let (begins, expires) = dates(leaf)?;
    check_pair(&chain, &key)?;
    Ok(Certificate {
        chain,
        key,
        begins,
        expires,
    })
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn from_pem(pem: &[u8]) -> Result<Identity, CertificateError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| CertificateError::Unreadable(error.to_string()))?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate);
    }
    let encrypted = b"ENCRYPTED PRIVATE KEY";
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok((chain, key)),
        Err(_) if pem.windows(encrypted.len()).any(|part| part == encrypted) => {
            Err(CertificateError::EncryptedKey)
        }
        Err(_) => Err(CertificateError::NoKey),
    }
}

fn from_p12(der: &[u8], password: Option<&str>) -> Result<Identity, CertificateError> {
    let store = KeyStore::from_pkcs12(der, password.unwrap_or_default())
        .map_err(|error| p12_error(error, password.is_some()))?;
    let (_, pair) = store.private_key_chain().ok_or(CertificateError::NoKey)?;
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
        (error, _) => CertificateError::Unreadable(error.to_string()),
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

fn dates(leaf: &[u8]) -> Result<(Timestamp, Timestamp), CertificateError> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| CertificateError::NotX509)?;
    let validity = parsed.validity();
    let time = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000));
    Ok((
        time(validity.not_before.timestamp()),
        time(validity.not_after.timestamp()),
    ))
}
