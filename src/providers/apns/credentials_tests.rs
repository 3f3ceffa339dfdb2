use p12_keystore::{
    Certificate as P12Certificate, EncryptionAlgorithm, KeyStoreEntry, MacAlgorithm,
    PrivateKeyChain,
};
use rcgen::{CertificateParams, CertifiedKey, KeyPair, date_time_ymd};

use super::*;

fn pair() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(vec!["com.example.calls".to_owned()]).unwrap()
}

fn now() -> Timestamp {
    Timestamp::parse("2026-09-21T12:00:00Z").unwrap()
}

fn p12(encryption: EncryptionAlgorithm, mac: MacAlgorithm, password: &str) -> Vec<u8> {
    let pair = pair();
    let certificate = P12Certificate::from_der(pair.cert.der()).unwrap();
    let key = pair.signing_key.serialize_der();
    let chain = PrivateKeyChain::new(key, b"id", [certificate]);
    let mut store = p12_keystore::KeyStore::new();
    store.add_entry("voip", KeyStoreEntry::PrivateKeyChain(chain));
    let writer = store.writer(password).encryption_algorithm(encryption);
    writer.mac_algorithm(mac).write().unwrap()
}

#[test]
fn a_p8_is_read_and_what_is_none_is_named() {
    let key = KeyPair::generate().unwrap();
    assert_eq!(
        key_from_pem(key.serialize_pem().as_bytes()).unwrap(),
        key.serialize_der()
    );
    let sec1 = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";
    let rsa = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let certificate = pair().cert.pem();
    let proc_type = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
                     DEK-Info: AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
    let cases: [(&[u8], &str); 8] = [
        (proc_type.as_bytes(), "an encrypted key"),
        (certificate.as_bytes(), "a certificate"),
        (sec1.as_bytes(), "SEC1"),
        (rsa.as_bytes(), "an RSA key"),
        (locked.as_bytes(), "an encrypted key"),
        (b"  \n", "empty"),
        (b"secret", "not a PEM file"),
        (&[0x30, 0x82, 1], "a binary file"),
    ];
    for (bytes, part) in cases {
        let text = key_from_pem(bytes).unwrap_err().to_string();
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_p8_that_lost_its_line_breaks_is_read() {
    let key = KeyPair::generate().unwrap();
    let pem = key.serialize_pem();
    for lost in [
        pem.replace('\n', ""),
        pem.replace('\n', " "),
        pem.replace('\n', "\\n"),
        pem.replace("\r\n", "\n").replace('\n', "\r"),
        format!("\n  {}  \n", pem.replace('\n', "")),
    ] {
        assert_eq!(key_from_pem(lost.as_bytes()).unwrap(), key.serialize_der());
    }
}

/// What the JDK and others write.
#[test]
fn a_p8_without_a_whole_public_key_is_told_from_one_that_is_none() {
    let key = KeyPair::generate().unwrap().serialize_der();
    let headed = |tag: u8, parts: &[&[u8]]| {
        let content = parts.concat();
        [&[tag, u8::try_from(content.len()).unwrap()], &content[..]].concat()
    };
    let at = key.windows(2).position(|part| part == [0x04, 32]).unwrap();
    let private = headed(0x30, &[&[2, 1, 1], &key[at..at + 34]]);
    let ec_public_key = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
    let prime256v1 = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
    let algorithm = headed(0x30, &[ec_public_key, prime256v1]);
    let bare = headed(0x30, &[&[2, 1, 0], &algorithm, &headed(0x04, &[&private])]);
    let error = Signer::new("T", "K", &bare).unwrap_err();
    assert_eq!(error, SignError::PublicHalf);
    assert!(error.to_string().contains("openssl ec -in"), "{error}");
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let other = Signer::new("T", "K", &p384.serialize_der()).unwrap_err();
    assert_eq!(other, SignError::Key);
}

#[test]
fn a_pem_holds_certificate_and_key() {
    let pair = pair();
    let (certificate, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
    let both = format!("{certificate}{key}");
    let read = certificate::read(both.as_bytes(), None).unwrap();
    assert_eq!(read.identity().0.len(), 1);
    assert!(read.expires() > now());
    let without_key = certificate::read(certificate.as_bytes(), None);
    assert_eq!(without_key.unwrap_err(), CertificateError::NoKey);
    let without_certificate = certificate::read(key.as_bytes(), None);
    assert_eq!(
        without_certificate.unwrap_err(),
        CertificateError::NoCertificate
    );
    let locked = format!(
        "{certificate}-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    );
    let locked = certificate::read(locked.as_bytes(), None);
    assert_eq!(locked.unwrap_err(), CertificateError::EncryptedKey);
    let older = format!(
        "{certificate}-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
         DEK-Info: AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n"
    );
    let older = certificate::read(older.as_bytes(), None);
    assert_eq!(older.unwrap_err(), CertificateError::EncryptedKey);
    let cer = certificate::read(pair.cert.der(), None);
    assert_eq!(cer.unwrap_err(), CertificateError::CertificateAlone);
}

#[test]
fn a_certificate_of_another_app_is_known_by_its_topics_or_else_its_user_id() {
    let foreign = |user_id: Option<&str>, topics: &[&str]| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        if let Some(user_id) = user_id {
            let oid = rcgen::DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 1]);
            params.distinguished_name.push(oid, user_id);
        }
        if !topics.is_empty() {
            let list = yasna::construct_der(|writer| {
                writer.write_sequence(|list| {
                    for topic in topics {
                        list.next().write_utf8_string(topic);
                        list.next()
                            .write_sequence(|kinds| kinds.next().write_utf8_string("app"));
                    }
                });
            });
            let oid = [1, 2, 840, 113_635, 100, 6, 3, 6];
            let list = rcgen::CustomExtension::from_oid_content(&oid, list);
            params.custom_extensions.push(list);
        }
        let pem = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
        let read = certificate::read(pem.as_bytes(), None).unwrap();
        read.foreign_to("com.example.calls").map(<[_]>::to_vec)
    };
    for (user_id, topics) in [
        (None, &[][..]),
        (Some("com.example.calls"), &[]),
        (Some("com.example.calls.voip"), &[]),
        (Some("x"), &["com.example.calls", "com.example.calls.voip"]),
    ] {
        assert_eq!(foreign(user_id, topics), None, "{user_id:?} {topics:?}");
    }
    let other = foreign(Some("com.example.other"), &[]);
    assert_eq!(other.unwrap(), ["com.example.other"]);
    let topics = ["com.example.calls", "com.example.calls.complication"];
    let without_voip = foreign(Some("com.example.calls"), &topics);
    assert_eq!(without_voip.unwrap(), topics);
}

#[test]
fn a_certificate_out_of_its_time_is_refused() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["x".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let pem = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
    let read = certificate::read(pem.as_bytes(), None).unwrap();
    let at = |text| read.valid_at(Timestamp::parse(text).unwrap());
    let late = at("2021-01-01T00:00:00Z").unwrap_err().to_string();
    assert!(late.contains("expired at 2021-01-01"), "{late}");
    let early = at("2019-12-31T00:00:00Z").unwrap_err().to_string();
    assert!(early.contains("clock"), "{early}");
    assert!(at("2020-06-01T00:00:00Z").is_ok());
}

#[test]
fn a_p12_is_read_in_its_modern_and_its_legacy_forms() {
    use EncryptionAlgorithm::{
        PbeWithHmacSha256AndAes256, PbeWithShaAnd3KeyTripleDesCbc, PbeWithShaAnd40BitRc4Cbc,
    };
    for (encryption, mac) in [
        (PbeWithHmacSha256AndAes256, MacAlgorithm::HmacSha256),
        (PbeWithShaAnd3KeyTripleDesCbc, MacAlgorithm::HmacSha1),
        (PbeWithShaAnd40BitRc4Cbc, MacAlgorithm::HmacSha1),
    ] {
        let file = p12(encryption, mac, "geheim");
        let read = certificate::read(&file, Some("geheim")).unwrap();
        assert_eq!(read.identity().0.len(), 1, "{encryption:?}");
        let identity = read.identity();
        let roots = tls::roots(Some(pair().cert.pem().as_bytes())).unwrap();
        assert!(tls::client_config(roots, Some(identity), &[]).is_ok());
        let missing = certificate::read(&file, None).unwrap_err();
        assert_eq!(missing, CertificateError::PasswordMissing, "{encryption:?}");
        let wrong = certificate::read(&file, Some("falsch")).unwrap_err();
        assert_eq!(wrong, CertificateError::PasswordWrong, "{encryption:?}");
    }
    let junk = certificate::read(&[0x30, 0x03, 1, 1, 1], None).unwrap_err();
    assert!(matches!(junk, CertificateError::P12Form(_)));
}

/// What Keychain Access writes: an RC2-40 certificate bag, a 3DES key bag. The
/// same through openssl where it is installed (CI and developers' machines).
/// Forms that are not read are named with the command that converts them.
#[test]
fn a_p12_of_openssl_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let pair = pair();
    let pem = pair.cert.pem() + &pair.signing_key.serialize_pem();
    std::fs::write(path("in.pem"), pem).unwrap();
    let legacy = [
        "-legacy",
        "-certpbe",
        "PBE-SHA1-RC2-40",
        "-keypbe",
        "PBE-SHA1-3DES",
    ];
    let (no_encryption, sha512) = (["-keypbe", "NONE"], ["-macalg", "sha512"]);
    for extra in [&[][..], &legacy[..], &no_encryption, &sha512] {
        let run = std::process::Command::new("openssl")
            .args(["pkcs12", "-export", "-passout", "pass:geheim", "-in"])
            .arg(path("in.pem"))
            .arg("-out")
            .arg(path("out.p12"))
            .args(extra)
            .output();
        match run {
            Ok(output) if output.status.success() => {}
            // No openssl, or one that was built without the legacy provider.
            Ok(_) | Err(_) => continue,
        }
        let file = std::fs::read(path("out.p12")).unwrap();
        let read = certificate::read(&file, Some("geheim"));
        if extra == no_encryption || extra == sha512 {
            let text = read.unwrap_err().to_string();
            assert!(text.contains("openssl pkcs12 -in"), "{extra:?}: {text}");
            continue;
        }
        let read = read.unwrap();
        assert_eq!(read.identity().0, [pair.cert.der().clone()], "{extra:?}");
    }
}

fn app(folder: &Path) -> CredentialSettings {
    serde_json::from_value(serde_json::json!({
        "team_id": "ABCDE12345", "key_id": "FGHIJ67890",
        "key_file": folder.join("key.p8"),
    }))
    .unwrap()
}

#[test]
fn errors_name_file_key_and_cure_and_no_contents() {
    let folder = tempfile::tempdir().unwrap();
    let app = app(folder.path());
    let load = || Credentials::load(&app, &Signers::default());
    let text = load().unwrap_err().to_string();
    assert!(
        text.contains("`key_file`") && text.contains("key.p8"),
        "{text}"
    );

    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    std::fs::write(folder.path().join("key.p8"), p384.serialize_pem()).unwrap();
    let text = load().unwrap_err().to_string();
    assert!(text.contains("P-256") && !text.contains("BEGIN"), "{text}");

    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    std::fs::write(folder.path().join("key.p8"), locked).unwrap();
    let text = load().unwrap_err().to_string();
    let command = format!("openssl pkcs8 -in {}/key.p8 ", folder.path().display());
    assert!(text.contains(&command), "{text}");

    let key = KeyPair::generate().unwrap().serialize_pem();
    // As an editor on Windows writes it.
    std::fs::write(folder.path().join("key.p8"), format!("\u{feff}{key}")).unwrap();
    let credentials = load().unwrap();
    assert_eq!(credentials.signer().unwrap().team_id(), "ABCDE12345");
    assert_eq!(credentials.expires(), None);
}

#[test]
fn a_certificate_is_loaded_with_its_password_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = p12(
        EncryptionAlgorithm::PbeWithHmacSha256AndAes256,
        MacAlgorithm::HmacSha256,
        "geheim",
    );
    std::fs::write(folder.path().join("voip.p12"), file).unwrap();
    let app: CredentialSettings = serde_json::from_value(serde_json::json!({
        "certificate_file": folder.path().join("voip.p12"),
        "certificate_password_file": folder.path().join("password"),
    }))
    .unwrap();
    let load = || Credentials::load(&app, &Signers::default());
    std::fs::write(folder.path().join("password"), "\n").unwrap();
    let text = load().unwrap_err().to_string();
    assert!(text.contains("`certificate_password_file`"), "{text}");
    // As an editor on Windows writes it.
    std::fs::write(folder.path().join("password"), "\u{feff}geheim\r\n").unwrap();
    let credentials = load().unwrap();
    assert!(credentials.expires().is_some() && credentials.signer().is_none());
    assert!(
        !format!("{credentials:?}").contains("key"),
        "{credentials:?}"
    );
}
