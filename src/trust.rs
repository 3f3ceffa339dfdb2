//! The root certificates that the system trusts.
//!
//! `SSL_CERT_FILE` adds to them. `rustls-native-certs`, and all that builds on
//! it, takes the file in their place instead, so what it hides is found here.
//! `SSL_CERT_DIR` names the system's folders, if they are not where they
//! usually are.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustls_native_certs::{load_certs_from_paths, load_native_certs};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Why the system trusts nobody.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The file to add is no use.
    #[error(
        "SSL_CERT_FILE names {}, which holds no certificate that can be read{problem}; name a PEM \
         file (BEGIN CERTIFICATE), or unset it",
        file.display()
    )]
    File {
        /// The file.
        file: PathBuf,
        /// What the system says, in brackets.
        problem: String,
    },
    /// The system has no roots.
    #[error(
        "the system has no trusted root certificates{0}; install ca-certificates, or set `ca_file`"
    )]
    NoRoots(String),
}

const FILE: &str = "SSL_CERT_FILE";

/// Starts this program again, as the same process, without a `SSL_CERT_FILE`
/// that is set to nothing (as Compose does for a variable that it does not
/// have): libraries take that for a file that is not there, and then trust
/// nobody. Goes on where there is none, or the system does not let us.
pub fn forget_empty_file() {
    use std::os::unix::process::CommandExt as _;
    if env::var_os(FILE).is_none_or(|file| !file.is_empty()) {
        return;
    }
    let mut arguments = env::args_os();
    if let (Ok(program), Some(name)) = (env::current_exe(), arguments.next()) {
        let mut again = std::process::Command::new(program);
        again.arg0(name).args(arguments).env_remove(FILE);
        // It comes back only to say that it could not.
        drop(again.exec());
    }
}

/// Whether what `SSL_CERT_FILE` names, if it names anything, is some use.
///
/// # Errors
/// It is not; says what to do.
pub fn check() -> Result<(), TrustError> {
    added(named(env::var_os(FILE)).as_deref()).map(|_| ())
}

/// The system's roots and those that `SSL_CERT_FILE` adds.
///
/// # Errors
/// When there is not one certificate.
pub fn roots() -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let mut hidden = hidden()?;
    let mut found = load_native_certs();
    hidden.retain(|root| !found.certs.contains(root));
    found.certs.extend(hidden);
    if found.certs.is_empty() {
        let problem = found.errors.first().map(|error| format!(" ({error})"));
        return Err(TrustError::NoRoots(problem.unwrap_or_default()));
    }
    Ok(found.certs)
}

/// What `rustls-native-certs` does not see because of `SSL_CERT_FILE`: the
/// system's roots, looked for where Linux and the BSDs keep them, and those of
/// the file itself, which a byte-order mark hides from it. None where that is
/// not set.
///
/// # Errors
/// When the file is no use.
pub fn hidden() -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let file = named(env::var_os(FILE));
    let moved = env::var_os("SSL_CERT_DIR").is_some_and(|folders| !folders.is_empty());
    let folders = openssl_probe::candidate_cert_dirs();
    hidden_by(file.as_deref(), folders.filter(|_| !moved))
}

fn hidden_by<'a>(
    file: Option<&Path>,
    folders: impl Iterator<Item = &'a Path>,
) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let mut found = added(file)?;
    if !found.is_empty() {
        // A folder may hold files that are no certificates.
        found.extend(folders.flat_map(|folder| load_certs_from_paths(None, Some(folder)).certs));
    }
    Ok(found)
}

/// Set to nothing it is not set.
fn named(value: Option<OsString>) -> Option<PathBuf> {
    value.filter(|file| !file.is_empty()).map(PathBuf::from)
}

/// What the file holds: at least one certificate, if there is a file.
fn added(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let Some(file) = file else {
        return Ok(Vec::new());
    };
    let useless = |problem| TrustError::File {
        file: file.to_owned(),
        problem,
    };
    let pem = crate::files::read(file).map_err(|error| useless(format!(" ({error})")))?;
    let added: Vec<_> = CertificateDer::pem_slice_iter(&pem).flatten().collect();
    if added.is_empty() {
        return Err(useless(String::new()));
    }
    Ok(added)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> rcgen::Certificate {
        rcgen::generate_simple_self_signed(vec!["x".to_owned()])
            .unwrap()
            .cert
    }

    #[test]
    fn a_file_hides_the_systems_roots_and_they_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let system = folder.path().join("certs");
        std::fs::create_dir(&system).unwrap();
        let (root, own) = (certificate(), certificate());
        std::fs::write(system.join("root.pem"), root.pem()).unwrap();
        std::fs::write(system.join("README"), "no certificate").unwrap();
        let file = folder.path().join("own.pem");
        std::fs::write(&file, "\u{feff}".to_owned() + &own.pem()).unwrap();
        let folders = || std::iter::once(system.as_path());
        let hidden = hidden_by(Some(&file), folders()).unwrap();
        assert_eq!(hidden, [own.der().clone(), root.der().clone()]);
        assert_eq!(hidden_by(None, folders()).unwrap(), []);
    }

    #[test]
    fn a_file_that_is_no_use_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [Path::new("/no/such.pem"), file.path()] {
            let error = hidden_by(Some(path), std::iter::empty()).unwrap_err();
            let text = error.to_string();
            let start = format!("SSL_CERT_FILE names {}, which", path.display());
            assert!(text.starts_with(&start), "{text}");
        }
    }
}
