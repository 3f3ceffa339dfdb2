//! The roots that a2's TLS trusts in this comparison: the CA of its server,
//! read when the first connection is set up.

use std::sync::LazyLock;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};

/// The CA in the PEM file that `COMPARE_CA` names; none if there is none.
pub static TLS_SERVER_ROOTS: LazyLock<Vec<TrustAnchor<'static>>> = LazyLock::new(|| {
    let read = || {
        let ca = CertificateDer::from_pem_file(std::env::var_os("COMPARE_CA")?).ok()?;
        Some(webpki::anchor_from_trusted_cert(&ca).ok()?.to_owned())
    };
    read().into_iter().collect()
});
