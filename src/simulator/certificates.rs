//! Certificates and keys made at start: an authority, the servers' own, and a
//! client certificate as Apple issues them for `VoIP` services.

use std::net::IpAddr;

use p12_keystore::{KeyStore, KeyStoreEntry, PrivateKeyChain};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::kind::Error;

/// The topics of a universal push certificate, in the form Apple's carry.
const TOPICS: [u64; 7] = [1, 2, 840, 113_635, 100, 6, 3];
/// userId in a subject: Apple puts the bundle id there.
const USER_ID: [u64; 7] = [0, 9, 2342, 19_200_300, 100, 1, 1];
const TOPICS_TEXT: &str = "1.2.840.113635.100.6.3.6";
const USER_ID_TEXT: &str = "0.9.2342.19200300.100.1.1";

/// What the servers and a client with a certificate need. PEM text unless said
/// otherwise.
pub(super) struct Certificates {
    pub(super) ca_pem: String,
    pub(super) ca_der: CertificateDer<'static>,
    pub(super) server_chain: Vec<CertificateDer<'static>>,
    pub(super) server_key: PrivateKeyDer<'static>,
    /// Certificate, then private key.
    pub(super) client_pem: String,
    /// PKCS#12 (PBES2) of the same, opened with [`Self::p12_password`].
    pub(super) client_p12: Vec<u8>,
    pub(super) p12_password: String,
}

impl Certificates {
    /// Makes a new set for servers on `listen` (and localhost), called `more` as
    /// well, and a client
    /// certificate for `bundle_id` with its `.voip` topic.
    pub(super) fn generate(
        listen: IpAddr,
        more: &[String],
        bundle_id: &str,
    ) -> Result<Self, Error> {
        let ca = authority()?;
        let server_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut names = ["localhost", "127.0.0.1", "::1"]
            .map(str::to_owned)
            .to_vec();
        if !listen.is_unspecified() && !names.contains(&listen.to_string()) {
            names.push(listen.to_string());
        }
        names.extend_from_slice(more);
        let mut server = CertificateParams::new(names)?;
        server
            .distinguished_name
            .push(DnType::CommonName, "ringpush simulator");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server = server.signed_by(&server_key, &ca)?;
        let client_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let client = client_params(bundle_id)?.signed_by(&client_key, &ca)?;
        let p12_password = uuid::Uuid::new_v4().simple().to_string();
        Ok(Self {
            ca_pem: ca.pem(),
            ca_der: ca.der().clone(),
            server_chain: vec![server.der().clone()],
            server_key: PrivatePkcs8KeyDer::from(server_key.serialize_der()).into(),
            client_pem: client.pem() + &client_key.serialize_pem(),
            client_p12: p12(client.der(), &client_key, &p12_password)?,
            p12_password,
        })
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "ringpush simulator CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok(CertifiedIssuer::self_signed(params, key)?)
}

/// Subject and topics as in a "`VoIP` Services" certificate: the bundle id as
/// user id, and an extension that lists each topic with its kinds.
fn client_params(bundle_id: &str) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, format!("VoIP Services: {bundle_id}"));
    params
        .distinguished_name
        .push(DnType::CustomDnType(USER_ID.to_vec()), bundle_id);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let topics = yasna::construct_der(|writer| {
        writer.write_sequence(|list| {
            for (topic, kind) in [
                (bundle_id.to_owned(), "app"),
                (format!("{bundle_id}.voip"), "voip"),
            ] {
                list.next().write_utf8_string(&topic);
                list.next()
                    .write_sequence(|kinds| kinds.next().write_utf8_string(kind));
            }
        });
    });
    let oid = [&TOPICS[..], &[6]].concat();
    params
        .custom_extensions
        .push(CustomExtension::from_oid_content(&oid, topics));
    Ok(params)
}

fn p12(certificate: &CertificateDer<'_>, key: &KeyPair, password: &str) -> Result<Vec<u8>, Error> {
    let certificate = p12_keystore::Certificate::from_der(certificate)
        .map_err(|_| Error::Key("the client certificate does not fit a .p12"))?;
    let chain = PrivateKeyChain::new(key.serialize_der(), [1], [certificate]);
    let mut store = KeyStore::new();
    store.add_entry("apns", KeyStoreEntry::PrivateKeyChain(chain));
    store
        .writer(password)
        .write()
        .map_err(|_| Error::Key("the .p12 could not be written"))
}

/// The topics that a client certificate stands for: those of its topics
/// extension, else the user id in its subject and that with `.voip`.
pub(super) fn topics_of(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return Vec::new();
    };
    let listed = certificate
        .extensions()
        .iter()
        .find(|extension| extension.oid.to_id_string() == TOPICS_TEXT)
        .map(|extension| listed_topics(extension.value));
    if let Some(topics) = listed {
        return topics;
    }
    let subject = certificate.subject();
    let user_id = subject
        .iter_attributes()
        .find(|a| a.attr_type().to_id_string() == USER_ID_TEXT);
    user_id
        .and_then(|a| a.as_str().ok())
        .map_or_else(Vec::new, |bundle_id| {
            vec![bundle_id.to_owned(), format!("{bundle_id}.voip")]
        })
}

fn listed_topics(der: &[u8]) -> Vec<String> {
    let mut topics = Vec::new();
    let parsed = yasna::parse_der(der, |reader| {
        reader.read_sequence_of(|entry| {
            if entry.lookahead_tag()? == yasna::tags::TAG_UTF8STRING {
                topics.push(entry.read_utf8string()?);
            } else {
                entry.read_der()?;
            }
            Ok(())
        })
    });
    if parsed.is_err() {
        topics.clear();
    }
    topics
}

/// A new ES256 key as Apple's .p8 holds it (PKCS#8 PEM with the public key),
/// and the public point for verifying.
pub(super) fn auth_key() -> Result<(String, Vec<u8>), Error> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok((pair.serialize_pem(), pair.public_key_raw().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    /// Protects certificate authentication: the simulator must read back from
    /// the .p12 exactly the topics that it wrote.
    #[test]
    fn the_client_certificate_carries_its_topics() {
        let made =
            Certificates::generate(Ipv4Addr::LOCALHOST.into(), &[], "com.example.calls").unwrap();
        let store = KeyStore::from_pkcs12(&made.client_p12, &made.p12_password).unwrap();
        let (_, chain) = store.private_key_chain().unwrap();
        let topics = topics_of(chain.chain()[0].as_der());
        assert_eq!(topics, ["com.example.calls", "com.example.calls.voip"]);
        assert!(KeyStore::from_pkcs12(&made.client_p12, "wrong").is_err());
    }

    /// A certificate of somebody else stands for nothing.
    #[test]
    fn what_is_no_certificate_has_no_topics() {
        assert!(topics_of(b"not a certificate").is_empty());
        assert!(listed_topics(b"\x30\x03\x0c").is_empty());
    }
}
