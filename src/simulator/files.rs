//! The files that a client of the simulator needs.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::handle::Simulator;

/// What [`Simulator::write_files`] wrote.
#[derive(Debug, Clone)]
pub struct Files {
    /// The authority that signed the servers' certificates.
    pub ca: PathBuf,
    /// The team's signing key, as Apple's .p8.
    pub auth_key: PathBuf,
    /// The service account, as Google's JSON.
    pub service_account: PathBuf,
    /// Client certificate and key, PEM.
    pub client_pem: PathBuf,
    /// The same as PKCS#12.
    pub client_p12: PathBuf,
    /// The password of it.
    pub p12_password: PathBuf,
    /// A worker's configuration that points at all this.
    pub config: PathBuf,
}

impl Simulator {
    /// Writes everything into `dir`, which is made if need be; files that are
    /// there already are replaced. Those that hold secrets are for their owner
    /// only.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_files(&self, dir: &Path) -> io::Result<Files> {
        fs::create_dir_all(dir)?;
        let options = self.options();
        let files = Files {
            ca: dir.join("ca.pem"),
            auth_key: dir.join(format!("AuthKey_{}.p8", options.key_id)),
            service_account: dir.join("service-account.json"),
            client_pem: dir.join("client.pem"),
            client_p12: dir.join("client.p12"),
            p12_password: dir.join("client.p12.password"),
            config: dir.join("ringpush.toml"),
        };
        let (p12, password) = self.client_p12();
        for (file, content) in [
            (&files.auth_key, self.auth_key_pem().as_bytes()),
            (
                &files.service_account,
                self.service_account_json().as_bytes(),
            ),
            (&files.client_pem, self.client_pem().as_bytes()),
            (&files.client_p12, p12),
            (&files.p12_password, format!("{password}\n").as_bytes()),
        ] {
            write(file, content, 0o600)?;
        }
        write(&files.ca, self.ca_pem().as_bytes(), 0o644)?;
        write(&files.config, self.config().as_bytes(), 0o644)?;
        Ok(files)
    }

    /// A complete configuration, with paths relative to its own folder.
    #[must_use]
    pub fn config(&self) -> String {
        let options = self.options();
        let mut text = format!(
            "# Written by the simulator: points a worker at it.\n\
             [amqp]\n\
             url = \"amqp://guest:guest@127.0.0.1:5672/%2f\"\n\n\
             [apns]\n\
             production_url = \"{production}\"\n\
             sandbox_url = \"{sandbox}\"\n\
             ca_file = \"ca.pem\"\n\n\
             [fcm]\n\
             url = \"{fcm}\"\n\
             ca_file = \"ca.pem\"\n",
            production = self.apns_production_url(),
            sandbox = self.apns_sandbox_url(),
            fcm = self.fcm_url(),
        );
        for bundle_id in &options.bundle_ids {
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "\n[apps.\"{bundle_id}\"]\n\
                 profile = \"plain\"\n\n\
                 [apps.\"{bundle_id}\".ios]\n\
                 bundle_id = \"{bundle_id}\"\n\
                 environment = \"production\"\n\
                 team_id = \"{team}\"\n\
                 key_id = \"{key}\"\n\
                 key_file = \"AuthKey_{key}.p8\"\n\
                 # With a certificate instead of the three lines above:\n\
                 # certificate_file = \"client.p12\"\n\
                 # certificate_password_file = \"client.p12.password\"\n\n\
                 [apps.\"{bundle_id}\".android]\n\
                 service_account_file = \"service-account.json\"\n",
                team = options.team_id,
                key = options.key_id,
            );
        }
        text
    }
}

/// Replaces a file as a whole, never readable by more than `mode` says.
fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    options.open(path)?.write_all(bytes)
}
