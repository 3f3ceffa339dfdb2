//! One connection to the broker: address, TLS, and a bound on how long it may
//! take.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri, SASLMechanism};
use lapin::{Connection, ConnectionProperties};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::trust;

use super::error::AmqpError;
use super::settings::Settings;

/// Bound on a connection attempt, unless the URL's `connection_timeout` says
/// otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Bound on saying goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Seconds. Half of it without a byte makes both sides say something; twice of
/// it in silence ends the connection.
const HEARTBEAT: u16 = 5;
/// Bytes in a frame, at most, unless the URL says otherwise. lapin holds 32 of
/// them for each direction of a connection; with the broker's own 128 KiB that
/// would be 16 MiB for a worker. Larger bodies are cut up.
const FRAME_MAX: u32 = 16 * 1024;

/// Makes connections to the configured broker.
#[derive(Clone)]
pub struct Connector {
    uri: AMQPUri,
    tls: OwnedTLSConfig,
    timeout: Duration,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connector({})", self.endpoint())
    }
}

impl Connector {
    /// Checks the settings, reads the URL and the certificate files.
    ///
    /// # Errors
    /// [`AmqpError::Setting`] with key and cure.
    pub fn new(settings: &Settings) -> Result<Self, AmqpError> {
        settings.validate()?;
        let mut uri = parse_url(settings.url.expose())?;
        uri.query.frame_max.get_or_insert(FRAME_MAX);
        // lapin reads no other setting for it.
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        let timeout = uri
            .query
            .connection_timeout
            .map_or(CONNECT_TIMEOUT, Duration::from_millis);
        Ok(Self {
            tls: tls(settings, &uri)?,
            uri,
            timeout,
        })
    }

    /// Host, port and virtual host, for people.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let host = &self.uri.authority.host;
        let port = self.uri.authority.port;
        let vhost = &self.uri.vhost;
        if host.contains(':') {
            format!("[{host}]:{port} (virtual host {vhost:?})")
        } else {
            format!("{host}:{port} (virtual host {vhost:?})")
        }
    }

    /// Who logs in, if that is the URL's user and not one that the broker makes
    /// of a client certificate.
    pub(crate) fn user(&self) -> Option<&str> {
        match self.uri.query.auth_mechanism {
            None | Some(SASLMechanism::Plain | SASLMechanism::AMQPlain) => {
                Some(&self.uri.authority.userinfo.username)
            }
            Some(_) => None,
        }
    }

    /// Opens a connection, which the broker's own tools show under this name.
    ///
    /// # Errors
    /// What the attempt ended with, sorted by what can be done about it.
    pub async fn connect(&self, name: &str) -> Result<Connection, AmqpError> {
        let properties = ConnectionProperties::default()
            .with_connection_name(name.into())
            .with_client_property("product".into(), "ringpush".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let runtime = lapin::runtime::default_runtime()
            .map_err(|error| AmqpError::of_connect(self.endpoint(), &error))?;
        let attempt = Connection::connect_uri_with_config(
            self.uri.clone(),
            properties,
            self.tls.clone(),
            runtime,
        );
        match timeout(self.timeout, attempt).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(AmqpError::of_connect(self.endpoint(), &error)),
            Err(_) => Err(self.timed_out()),
        }
    }

    /// Sees whether anybody listens at all. An attempt of lapin's that does not
    /// come to an end leaves its thread behind for as long as the system tries
    /// to connect, so a broker that has been away is knocked at first.
    ///
    /// # Errors
    /// [`AmqpError::Unreachable`].
    pub(crate) async fn knock(&self) -> Result<(), AmqpError> {
        let authority = &self.uri.authority;
        let attempt = TcpStream::connect((authority.host.as_str(), authority.port));
        match timeout(self.timeout, attempt).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(AmqpError::Unreachable {
                endpoint: self.endpoint(),
                reason: error.to_string(),
            }),
            Err(_) => Err(self.timed_out()),
        }
    }

    fn timed_out(&self) -> AmqpError {
        AmqpError::Unreachable {
            endpoint: self.endpoint(),
            reason: format!("no answer within {} ms", self.timeout.as_millis()),
        }
    }
}

/// Says goodbye, but does not insist on an answer.
pub(crate) async fn close(connection: &Connection) {
    let _ = timeout(CLOSE_TIMEOUT, connection.close(200, "OK".into())).await;
}

fn parse_url(url: &str) -> Result<AMQPUri, AmqpError> {
    // The parser's own words could quote the URL, and with it the password.
    let no_url = || AmqpError::Setting {
        key: "url",
        problem: "is not an AMQP URL".to_owned(),
        cure: "write amqp://user:password@host:5672/%2f (amqps:// for TLS; \
               percent-encode special characters)",
    };
    let mut uri: AMQPUri = url.parse().map_err(|_| no_url())?;
    // `amqp:host` has no host for the parser, which then takes localhost.
    if !url.contains("://") {
        return Err(no_url());
    }
    // The parser takes an IPv6 address for no host at all and falls back to
    // localhost.
    let authority = url.split("://").nth(1).unwrap_or_default();
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if let Some((address, _)) = host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        address.clone_into(&mut uri.authority.host);
    }
    if uri.vhost.is_empty() {
        return Err(AmqpError::Setting {
            key: "url",
            problem: "ends with a bare '/', which names a virtual host without a name".to_owned(),
            cure: "write /%2f for the default one, or leave the '/' away",
        });
    }
    Ok(uri)
}

fn tls(settings: &Settings, uri: &AMQPUri) -> Result<OwnedTLSConfig, AmqpError> {
    let files = [
        ("ca_file", &settings.ca_file),
        ("client_cert_file", &settings.client_cert_file),
        ("client_key_file", &settings.client_key_file),
    ];
    if uri.scheme == AMQPScheme::AMQP
        && let Some((key, _)) = files.iter().find(|(_, file)| file.is_some())
    {
        return Err(AmqpError::Setting {
            key,
            problem: "is given, but amqp.url is not amqps://".to_owned(),
            cure: "use amqps:// or remove it",
        });
    }
    let mut cert_chain = match &settings.ca_file {
        Some(file) => Some(certificates("ca_file", file)?),
        None => None,
    };
    if uri.scheme == AMQPScheme::AMQPS {
        let hidden = hidden_roots()?;
        if !hidden.is_empty() {
            *cert_chain.get_or_insert_default() += &hidden;
        }
    }
    let identity = match (&settings.client_cert_file, &settings.client_key_file) {
        (Some(certificate), Some(key)) => Some(OwnedIdentity::PKCS8 {
            pem: certificates("client_cert_file", certificate)?.into_bytes(),
            key: private_key("client_key_file", key)?,
        }),
        (None, _) | (_, None) => None,
    };
    Ok(OwnedTLSConfig {
        identity,
        cert_chain,
    })
}

/// The roots that lapin does not see for itself, in PEM.
fn hidden_roots() -> Result<String, AmqpError> {
    let roots = trust::hidden().map_err(|error| AmqpError::Setting {
        key: "url",
        problem: format!("TLS needs the system's certificates, but {error}"),
        cure: "mend the environment of the worker",
    })?;
    let pem = roots.iter().map(|root| {
        let text = STANDARD.encode(root);
        format!("\n-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    });
    Ok(pem.collect())
}

fn read(key: &'static str, file: &Path) -> Result<Vec<u8>, AmqpError> {
    crate::files::read(file).map_err(|error| AmqpError::Setting {
        key,
        problem: format!("{} cannot be read: {error}", file.display()),
        cure: "check path and permissions",
    })
}

fn certificates(key: &'static str, file: &Path) -> Result<String, AmqpError> {
    let pem = read(key, file)?;
    let count = CertificateDer::pem_slice_iter(&pem).flatten().count();
    String::from_utf8(pem)
        .ok()
        .filter(|_| count > 0)
        .ok_or_else(|| AmqpError::Setting {
            key,
            problem: format!("{} holds no certificate", file.display()),
            cure: "give a PEM file (-----BEGIN CERTIFICATE-----)",
        })
}

fn private_key(key: &'static str, file: &Path) -> Result<Vec<u8>, AmqpError> {
    let pem = read(key, file)?;
    if PrivateKeyDer::from_pem_slice(&pem).is_err() {
        return Err(AmqpError::Setting {
            key,
            problem: format!("{} holds no private key", file.display()),
            cure: "give an unencrypted PEM file (-----BEGIN PRIVATE KEY-----)",
        });
    }
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn connector(url: &str) -> Result<Connector, AmqpError> {
        Connector::new(&Settings {
            url: url.into(),
            ..Settings::default()
        })
    }

    #[test]
    fn the_endpoint_names_host_port_and_vhost_but_no_password() {
        for (url, endpoint) in [
            (
                "amqp://u:hunter2@h:1/%2f",
                "h:1 (virtual host \"/\")".to_owned(),
            ),
            (
                "amqps://u:hunter2@h/v",
                "h:5671 (virtual host \"v\")".to_owned(),
            ),
            ("amqp://[::1]:7", "[::1]:7 (virtual host \"/\")".to_owned()),
        ] {
            let connector = connector(url).expect("valid");
            assert_eq!(connector.endpoint(), endpoint);
            assert!(!format!("{connector:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_bad_url_is_refused_without_being_quoted() {
        for url in [
            "",
            "hunter2",
            "amqp:hunter2",
            "http://u:hunter2@h",
            "amqp://u:hunter2@h/",
        ] {
            let error = connector(url).expect_err("bad URL").to_string();
            assert!(error.starts_with("amqp.url: "), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_heartbeat_is_ours_unless_the_url_has_one() {
        let ours = connector("amqp://h").expect("valid");
        assert_eq!(ours.uri.query.heartbeat, Some(5));
        let theirs = connector("amqp://h/%2f?heartbeat=20").expect("valid");
        assert_eq!(theirs.uri.query.heartbeat, Some(20));
    }

    #[test]
    fn certificate_files_are_checked_before_anything_is_connected() {
        let folder = tempfile::tempdir().expect("folder");
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "nothing").expect("written");
        let with = |url: &str, ca: PathBuf| {
            Connector::new(&Settings {
                url: url.into(),
                ca_file: Some(ca),
                ..Settings::default()
            })
            .map(|_| ())
            .expect_err("refused")
            .to_string()
        };
        let missing = with("amqps://h", folder.path().join("none.pem"));
        assert!(missing.contains("none.pem cannot be read"), "{missing}");
        let error = with("amqps://h", empty.clone());
        assert!(error.contains("holds no certificate"), "{error}");
        let error = with("amqp://h", empty);
        assert!(error.contains("is not amqps://"), "{error}");
    }
}
