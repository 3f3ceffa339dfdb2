//! An RSA key pair made on the spot, because Google's service accounts are
//! RSA and `ring` signs and verifies with such keys but does not make them.

use std::sync::Arc;

use crypto_bigint::{NonZero, Odd, U1024, U2048};
use crypto_primes::hazmat::{SetBits, SmallFactorsSieveFactory};
use crypto_primes::{Flavor, is_prime, sieve_and_find};
use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use rcgen::KeyPair;
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use yasna::models::ObjectIdentifier;

use super::kind::Error;

const EXPONENT: u32 = 65_537;
/// rsaEncryption, RFC 8017 appendix C.
const RSA_ENCRYPTION: [u64; 7] = [1, 2, 840, 113_549, 1, 1, 1];

/// The key shared by every simulator of this process, made on first use (about
/// 0.2 s unoptimized), so that a test binary pays for it once.
pub(super) async fn shared() -> Result<Arc<KeyPair>, Error> {
    static SHARED: OnceCell<Arc<KeyPair>> = OnceCell::const_new();
    let made = SHARED.get_or_try_init(|| async { generate().await.map(Arc::new) });
    made.await.cloned()
}

/// Makes a new pair of 2048 bits, on blocking threads, one per prime. Good for
/// a simulator on loopback: it lives in memory as plain bytes.
pub(super) async fn generate() -> Result<KeyPair, Error> {
    let (p, q) = tokio::join!(spawn_blocking(prime), spawn_blocking(prime));
    let (Ok(Some(p)), Ok(Some(q))) = (p, q) else {
        return Err(Error::Key("no RSA prime was found"));
    };
    let der = private_key(p.max(q), p.min(q)).ok_or(Error::Key("the RSA primes do not fit"))?;
    Ok(KeyPair::try_from(&PrivatePkcs8KeyDer::from(der))?)
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

/// `PrivateKeyInfo` (RFC 5208) around all parts of RFC 8017's `RSAPrivateKey`,
/// of which `p` is the larger prime.
fn private_key(p: U1024, q: U1024) -> Option<Vec<u8>> {
    let [below_p, below_q] = [p, q].map(|prime| prime.wrapping_sub(&U1024::ONE));
    let totient: U2048 = below_p.concatenating_mul(&below_q);
    let exponent = U2048::from_u32(EXPONENT);
    let private = exponent.invert_mod(&NonZero::new(totient).into_option()?);
    let inverse = |modulus: U1024| {
        let modulus = NonZero::new(modulus).into_option()?;
        let inverse = U1024::from_u32(EXPONENT).invert_mod(&modulus);
        inverse.into_option()
    };
    let coefficient = q.invert_odd_mod(&Odd::new(p).into_option()?);
    let double = |number: U2048| number.to_be_bytes().as_ref().to_vec();
    let single = |number: U1024| number.to_be_bytes().as_ref().to_vec();
    let integers = [
        vec![0],
        double(p.concatenating_mul(&q)),
        double(exponent),
        double(private.into_option()?),
        single(p),
        single(q),
        single(inverse(below_p)?),
        single(inverse(below_q)?),
        single(coefficient.into_option()?),
    ];
    let key = yasna::construct_der(|writer| {
        writer.write_sequence(|fields| {
            for integer in integers {
                fields.next().write_bigint_bytes(&integer, true);
            }
        });
    });
    Some(yasna::construct_der(|writer| {
        writer.write_sequence(|fields| {
            fields.next().write_u8(0);
            fields.next().write_sequence(|algorithm| {
                let oid = ObjectIdentifier::from_slice(&RSA_ENCRYPTION);
                algorithm.next().write_oid(&oid);
                algorithm.next().write_null();
            });
            fields.next().write_bytes(&key);
        });
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::PublicKeyData as _;
    use ring::signature::{
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
    };

    /// Protects the service account: `ring` checks every part of the key when
    /// it loads it, and what it signs must verify with the public half.
    #[tokio::test]
    async fn a_generated_key_signs_and_verifies() {
        let key = generate().await.unwrap();
        let pair = RsaKeyPair::from_pkcs8(&key.serialize_der()).unwrap();
        let mut signature = vec![0; pair.public().modulus_len()];
        let random = ring::rand::SystemRandom::new();
        pair.sign(&RSA_PKCS1_SHA256, &random, b"text", &mut signature)
            .unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.der_bytes());
        public.verify(b"text", &signature).unwrap();
        assert!(
            public.verify(b"other", &signature).is_err(),
            "a signature of another text verified"
        );
    }
}
