//! TLS as every provider's connections use it: rustls on ring, the system's
//! roots or a file of one's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::trust::{self, TrustError};

/// A certificate chain, the leaf first, and its key: what a client shows.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA file cannot be read.
    #[error(
        "`ca_file` {}: {error}; name a readable PEM file with the CA's certificate",
        file.display()
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The CA file's bytes are not certificates.
    #[error("`ca_file` holds no usable certificate ({0}); it must be PEM (BEGIN CERTIFICATE)")]
    NotCertificates(String),
    /// The same, and in which file.
    #[error(
        "`ca_file` {}: holds no usable certificate ({why}); it must be PEM (BEGIN CERTIFICATE)",
        file.display()
    )]
    NotCertificatesIn {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system trusts nobody.
    #[error(transparent)]
    Untrusting(#[from] TrustError),
    /// rustls refuses the roots, the client certificate or its key.
    #[error("TLS set-up: {0}")]
    Refused(String),
}

impl TlsError {
    /// Its text, with the table of the configuration that the key stands in.
    #[must_use]
    pub fn in_table(&self, table: &str) -> String {
        self.to_string()
            .replace("`ca_file`", &format!("{table}.ca_file"))
    }
}

/// The roots to trust: those in `ca_pem`, and no others, if it is given; else
/// the system's ([`trust`]).
///
/// # Errors
///
/// When there is not one usable certificate.
pub fn roots(ca_pem: Option<&[u8]>) -> Result<RootCertStore, TlsError> {
    match ca_pem {
        Some(pem) => own_roots(pem),
        None => system_roots(),
    }
}

/// [`roots`] of a file, or of the system if there is none.
///
/// # Errors
///
/// As [`roots`], and when the file cannot be read.
pub fn roots_from(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let Some(file) = ca_file else {
        return roots(None);
    };
    let pem = crate::files::read(file).map_err(|error| TlsError::Unreadable {
        file: file.to_owned(),
        error,
    })?;
    own_roots(&pem).map_err(|error| {
        if let TlsError::NotCertificates(why) = error {
            let file = file.to_owned();
            return TlsError::NotCertificatesIn { file, why };
        }
        error
    })
}

fn own_roots(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate =
            certificate.map_err(|error| TlsError::NotCertificates(error.to_string()))?;
        store
            .add(certificate)
            .map_err(|error| TlsError::NotCertificates(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(TlsError::NotCertificates("none found".to_owned()));
    }
    Ok(store)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(trust::roots()?);
    if store.is_empty() {
        return Err(TrustError::NoRoots(String::new()).into());
    }
    Ok(store)
}

/// A client's TLS configuration: TLS 1.2 and 1.3 on ring, these roots, this
/// certificate if the client shows one, and `alpn` in order of preference.
///
/// # Errors
///
/// When rustls takes the roots, the certificate or its key for unusable.
pub fn client_config(
    roots: impl Into<Arc<RootCertStore>>,
    client_auth: Option<Identity>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
        .build()
        .map_err(|error| TlsError::Refused(error.to_string()))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_webpki_verifier(verifier);
    let mut config = match client_auth {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(refused)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// The one provider of cryptography, named everywhere, so that no process-wide
/// default is needed and no other can slip in.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

// Passed to `map_err`, which gives the error away.
#[allow(clippy::needless_pass_by_value)]
fn refused(error: rustls::Error) -> TlsError {
    TlsError::Refused(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn self_signed() -> rcgen::CertifiedKey<rcgen::KeyPair> {
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap()
    }

    #[test]
    fn a_ca_file_replaces_the_systems_roots() {
        let pem = self_signed().cert.pem();
        assert_eq!(roots(Some(pem.as_bytes())).unwrap().len(), 1);
    }

    #[test]
    fn a_ca_file_without_a_certificate_is_an_error_that_names_the_key() {
        let key = self_signed().signing_key.serialize_pem();
        for bad in ["", "hello", key.as_str()] {
            let text = roots(Some(bad.as_bytes())).unwrap_err().to_string();
            assert!(text.contains("ca_file"), "{text}");
        }
        let text = roots_from(Some(Path::new("/no/such/ca.pem")))
            .unwrap_err()
            .in_table("fcm");
        assert!(text.starts_with("fcm.ca_file /no/such/ca.pem: "), "{text}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = roots_from(Some(file.path())).unwrap_err().to_string();
        assert!(text.contains(&file.path().display().to_string()), "{text}");
    }

    #[test]
    fn a_client_certificate_needs_its_own_key() {
        let (one, other) = (self_signed(), self_signed());
        let store = roots(Some(one.cert.pem().as_bytes())).unwrap();
        let chain = vec![one.cert.der().clone()];
        let key = |pair: &rcgen::KeyPair| PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
        let right = Some((chain.clone(), key(&one.signing_key)));
        let config = client_config(store.clone(), right, &[b"h2"]).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec()]);
        let wrong = Some((chain, key(&other.signing_key)));
        assert!(client_config(store, wrong, &[b"h2"]).is_err());
    }
}
