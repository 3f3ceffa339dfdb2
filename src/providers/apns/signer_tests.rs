use ring::signature::{ECDSA_P256_SHA256_FIXED, KeyPair, UnparsedPublicKey};

use super::*;

/// A signer whose token is this old, for the client's tests.
pub(in super::super) fn signed_ago(age: Duration) -> Signer {
    let now = Now::read();
    let then = Now {
        wall: now.wall - age,
        monotonic: now.monotonic.checked_sub(age).unwrap(),
    };
    signer(then)
}

fn pkcs8() -> Vec<u8> {
    rcgen::KeyPair::generate().unwrap().serialize_der()
}

fn start() -> Now {
    Now {
        wall: UNIX_EPOCH + Duration::from_secs(1_790_000_000),
        monotonic: Instant::now(),
    }
}

impl Now {
    fn after(self, minutes: u64) -> Self {
        let span = Duration::from_secs(minutes * 60);
        Self {
            wall: self.wall + span,
            monotonic: self.monotonic + span,
        }
    }

    fn set_forward(mut self, minutes: u64) -> Self {
        self.wall += Duration::from_secs(minutes * 60);
        self
    }

    fn set_back(mut self, minutes: u64) -> Self {
        self.wall -= Duration::from_secs(minutes * 60);
        self
    }
}

fn signer(now: Now) -> Signer {
    Signer::at(now, "TEAM123456".into(), "KEY1234567".into(), &pkcs8()).unwrap()
}

fn parts(header: &HeaderValue) -> Vec<Vec<u8>> {
    let text = header.to_str().unwrap().strip_prefix("bearer ").unwrap();
    text.split('.')
        .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap())
        .collect()
}

#[test]
fn the_token_is_an_es256_jwt_that_verifies() {
    let signer = signer(start());
    let header = signer.header_at(start());
    let [head, claims, signature] = parts(&header).try_into().unwrap();
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    assert_eq!(json(&head), json!({"alg": "ES256", "kid": "KEY1234567"}));
    assert_eq!(
        json(&claims),
        json!({"iss": "TEAM123456", "iat": 1_790_000_000})
    );
    let text = header.to_str().unwrap().strip_prefix("bearer ").unwrap();
    let message = text.rsplit_once('.').unwrap().0;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, signer.key.public_key().as_ref())
        .verify(message.as_bytes(), &signature)
        .unwrap();
}

#[test]
fn neither_token_nor_key_can_be_printed() {
    let signer = signer(start());
    let header = signer.header_at(start());
    assert!(header.is_sensitive());
    assert_eq!(format!("{header:?}"), "Sensitive");
    let shown = format!("{signer:?}");
    assert!(
        shown.contains("KEY1234567") && !shown.contains("eyJ"),
        "{shown}"
    );
}

#[test]
fn a_token_lives_for_fifty_minutes() {
    let now = start();
    let signer = signer(now);
    let first = signer.header_at(now);
    assert_eq!(signer.header_at(now.after(49)), first);
    let second = signer.header_at(now.after(50));
    assert_ne!(second, first);
    assert_eq!(signer.header_at(now.after(99)), second);
    assert_ne!(signer.header_at(now.after(100)), second);
}

#[test]
fn a_machine_that_slept_signs_anew() {
    let now = start();
    let signer = signer(now);
    let first = signer.header_at(now);
    // The monotonic clock stood still meanwhile.
    assert_ne!(signer.header_at(now.after(1).set_forward(120)), first);
}

#[test]
fn a_clock_that_was_set_back_makes_the_token_one_from_the_future() {
    let now = start();
    let signer = signer(now);
    let first = signer.header_at(now);
    assert_ne!(signer.header_at(now.after(1).set_back(30)), first);
}

#[test]
fn only_the_refused_token_is_renewed_and_only_once() {
    let now = start();
    let signer = signer(now);
    let stale = signer.header_at(now);
    let later = now.after(21);
    assert_eq!(signer.replace(&stale, later), Ok(Renewal::Signed));
    let fresh = signer.header_at(later);
    assert_eq!(signer.replace(&stale, later), Ok(Renewal::AlreadyNew));
    assert_eq!(signer.header_at(later), fresh);
}

#[test]
fn apples_twenty_minutes_are_kept() {
    let now = start();
    let signer = signer(now);
    let stale = signer.header_at(now);
    assert_eq!(signer.replace(&stale, now.after(19)), Ok(Renewal::Kept));
    assert_eq!(signer.header_at(now.after(19)), stale);
    assert_eq!(signer.replace(&stale, now.after(20)), Ok(Renewal::Signed));
}

#[test]
fn a_clock_set_right_after_signing_is_a_reason_to_sign_again_at_once() {
    let now = start();
    let signer = signer(now);
    let stale = signer.header_at(now);
    let corrected = now.after(1).set_forward(45);
    assert_eq!(signer.replace(&stale, corrected), Ok(Renewal::Signed));
    // A second refusal has another cause: no storm of signatures.
    let second = signer.header_at(corrected);
    assert_eq!(
        signer.replace(&second, corrected.after(1)),
        Ok(Renewal::Kept)
    );
}

#[test]
fn one_key_has_one_signer_however_many_apps_use_it() {
    let signers = Signers::default();
    let key = pkcs8();
    let one = signers.get("TEAM123456", "KEY1234567", &key).unwrap();
    let two = signers.get("TEAM123456", "KEY1234567", &key).unwrap();
    assert!(Arc::ptr_eq(&one, &two));
    let other_key = signers.get("TEAM123456", "KEY1234567", &pkcs8()).unwrap();
    assert!(!Arc::ptr_eq(&one, &other_key));
    let other_team = signers.get("TEAM999999", "KEY1234567", &key).unwrap();
    assert!(!Arc::ptr_eq(&one, &other_team));
}

#[test]
fn a_key_of_another_curve_is_refused() {
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let refused = Signer::new("T", "K", &p384.serialize_der()).unwrap_err();
    assert_eq!(refused, SignError::Key);
}
