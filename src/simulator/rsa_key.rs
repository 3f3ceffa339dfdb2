//! An RSA key pair made on the spot, because Google's service accounts are
//! RSA and `ring` signs and verifies with such keys but does not make them.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crypto_bigint::{NonZero, Odd, U1024, U2048};
use crypto_primes::hazmat::{SetBits, SmallFactorsSieveFactory};
use crypto_primes::{Flavor, is_prime, sieve_and_find};
use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use ring::signature::RsaPublicKeyComponents;
use tokio::sync::OnceCell;
use yasna::models::ObjectIdentifier;

use super::Error;

const EXPONENT: u32 = 65_537;
/// rsaEncryption, RFC 8017 appendix C.
const RSA_ENCRYPTION: [u64; 7] = [1, 2, 840, 113_549, 1, 1, 1];

/// A 2048-bit RSA key pair for one service account. Good for a simulator on
/// loopback; it lives in memory as plain bytes.
pub(super) struct RsaKey {
    private_der: Vec<u8>,
    modulus: Vec<u8>,
}

impl RsaKey {
    /// The key shared by every simulator of this process, made on first use
    /// (about 0.2 s unoptimized), so that a test binary pays for it once.
    pub(super) async fn shared() -> Result<Arc<Self>, Error> {
        static SHARED: OnceCell<Arc<RsaKey>> = OnceCell::const_new();
        SHARED
            .get_or_try_init(|| async { Self::generate().await.map(Arc::new) })
            .await
            .cloned()
    }

    /// Makes a new key on blocking threads, one per prime.
    pub(super) async fn generate() -> Result<Self, Error> {
        let (p, q) = tokio::join!(
            tokio::task::spawn_blocking(prime),
            tokio::task::spawn_blocking(prime)
        );
        let (Ok(Some(p)), Ok(Some(q))) = (p, q) else {
            return Err(Error::Key("no RSA prime was found"));
        };
        Self::from_primes(p.max(q), p.min(q)).ok_or(Error::Key("the RSA primes do not fit"))
    }

    /// All parts of RFC 8017's `RSAPrivateKey`, of which `larger` is its p.
    fn from_primes(larger: U1024, smaller: U1024) -> Option<Self> {
        let modulus: U2048 = larger.concatenating_mul(&smaller);
        let exponent = U2048::from_u32(EXPONENT);
        let [larger_1, smaller_1] = [larger, smaller].map(|prime| prime.wrapping_sub(&U1024::ONE));
        let totient: U2048 = larger_1.concatenating_mul(&smaller_1);
        let totient = NonZero::new(totient).into_option()?;
        let private = Option::<U2048>::from(exponent.invert_mod(&totient))?;
        let wide = |x: U1024| NonZero::new(x.resize::<{ U2048::LIMBS }>()).into_option();
        let larger_exponent = private.rem(&wide(larger_1)?);
        let smaller_exponent = private.rem(&wide(smaller_1)?);
        let odd = Odd::new(larger).into_option()?;
        let coefficient = Option::<U1024>::from(smaller.invert_odd_mod(&odd))?;
        let modulus = double(&modulus);
        let private_der = pkcs8(&[
            vec![0],
            modulus.clone(),
            double(&exponent),
            double(&private),
            single(&larger),
            single(&smaller),
            double(&larger_exponent),
            double(&smaller_exponent),
            single(&coefficient),
        ]);
        Some(Self {
            private_der,
            modulus,
        })
    }

    /// PKCS#8 in PEM, as in the field `private_key` of a service-account file.
    pub(super) fn private_pem(&self) -> String {
        let text = STANDARD.encode(&self.private_der);
        let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem + "-----END PRIVATE KEY-----\n"
    }

    /// The public half, for verifying RS256.
    pub(super) fn public(&self) -> RsaPublicKeyComponents<Vec<u8>> {
        let exponent = EXPONENT.to_be_bytes();
        RsaPublicKeyComponents {
            n: self.modulus.clone(),
            e: exponent[1..].to_vec(),
        }
    }
}

/// A prime of 1024 bits with its two top bits set, so that the product of two
/// has 2048. `None` never happens: the sieve is endless.
fn prime() -> Option<U1024> {
    let sieve = SmallFactorsSieveFactory::<U1024>::new(Flavor::Any, 1024, SetBits::TwoMsb).ok()?;
    sieve_and_find(&mut UnwrapErr(SysRng), sieve, |_, candidate| {
        is_prime(Flavor::Any, candidate)
    })
    .ok()?
}

fn single(number: &U1024) -> Vec<u8> {
    number.to_be_bytes().as_ref().to_vec()
}

fn double(number: &U2048) -> Vec<u8> {
    number.to_be_bytes().as_ref().to_vec()
}

/// `PrivateKeyInfo` (RFC 5208) around `RSAPrivateKey` (RFC 8017).
fn pkcs8(integers: &[Vec<u8>]) -> Vec<u8> {
    let key = yasna::construct_der(|writer| {
        writer.write_sequence(|fields| {
            for integer in integers {
                fields.next().write_bigint_bytes(integer, true);
            }
        });
    });
    yasna::construct_der(|writer| {
        writer.write_sequence(|fields| {
            fields.next().write_u8(0);
            fields.next().write_sequence(|algorithm| {
                algorithm
                    .next()
                    .write_oid(&ObjectIdentifier::from_slice(&RSA_ENCRYPTION));
                algorithm.next().write_null();
            });
            fields.next().write_bytes(&key);
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair};

    /// Protects the service account: `ring` checks every part of the key when
    /// it loads it, and what it signs must verify with the public half.
    #[tokio::test]
    async fn a_generated_key_signs_and_verifies() {
        let key = RsaKey::generate().await.unwrap();
        let pair = RsaKeyPair::from_pkcs8(&key.private_der).unwrap();
        let mut signature = vec![0; pair.public().modulus_len()];
        let random = ring::rand::SystemRandom::new();
        pair.sign(&RSA_PKCS1_SHA256, &random, b"text", &mut signature)
            .unwrap();
        key.public()
            .verify(&RSA_PKCS1_2048_8192_SHA256, b"text", &signature)
            .unwrap();
        assert!(
            key.public()
                .verify(&RSA_PKCS1_2048_8192_SHA256, b"other", &signature)
                .is_err(),
            "a signature of another text verified"
        );
    }
}
