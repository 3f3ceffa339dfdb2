//! TLS with a private CA, and with a client certificate.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use ringpush::amqp::{AmqpError, Settings};

use crate::rig::{Rig, fatal, settings};
use crate::support::broker::Broker;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "a CA");
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a CA"))
    }

    /// Writes `name.pem` and `name.key`.
    fn issue(&self, folder: &Path, name: &str, purpose: ExtendedKeyUsagePurpose) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        params.extended_key_usages = vec![purpose];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).expect("written");
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).expect("written");
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

#[tokio::test]
async fn a_private_ca_and_a_client_certificate_are_enough_and_needed() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let authority = Authority::new();
    std::fs::write(path("ca.pem"), authority.0.pem()).expect("written");
    authority.issue(folder.path(), "server", ExtendedKeyUsagePurpose::ServerAuth);
    authority.issue(folder.path(), "client", ExtendedKeyUsagePurpose::ClientAuth);
    let port = free_port();
    let broker = Broker::private_with(&format!(
        "listeners.ssl.1 = 127.0.0.1:{port}\n\
         ssl_options.cacertfile = {0}/ca.pem\n\
         ssl_options.certfile = {0}/server.pem\n\
         ssl_options.keyfile = {0}/server.key\n\
         ssl_options.verify = verify_peer\n\
         ssl_options.fail_if_no_peer_cert = true\n",
        folder.path().display()
    ));
    let url = format!("amqps://guest:guest@localhost:{port}/%2f");
    let trusting = Settings {
        ca_file: Some(path("ca.pem")),
        client_cert_file: Some(path("client.pem")),
        client_key_file: Some(path("client.key")),
        ..settings(&url)
    };
    let rig = Rig::start(trusting.clone());
    rig.becomes(true).await;
    rig.worker.close().await;

    // Another CA.
    std::fs::write(path("other.pem"), Authority::new().0.pem()).expect("written");
    let error = fatal(Settings {
        ca_file: Some(path("other.pem")),
        ..trusting.clone()
    })
    .await;
    let text = error.to_string();
    assert!(matches!(error, AmqpError::Tls { .. }), "{text}");
    assert!(text.contains("amqp.ca_file"), "{text}");

    // No client certificate: the broker hangs up, which a broker that is
    // starting also does, so the worker keeps trying.
    let rig = Rig::start(Settings {
        client_cert_file: None,
        client_key_file: None,
        ..trusting
    });
    let mut state = rig.worker.state();
    state
        .wait_for(|state| state.error.is_some())
        .await
        .expect("alive");
    assert!(!state.borrow().connected);
    rig.worker.close().await;
    drop(broker);
}
