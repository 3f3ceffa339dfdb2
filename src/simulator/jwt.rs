//! JSON Web Tokens as Apple and Google receive them. Only what verifying
//! needs; the signing side is the clients' own.

use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use ring::signature::{UnparsedPublicKey, VerificationAlgorithm};
use serde_json::Value;

use super::record::Claims;

/// base64url without padding, by RFC 7515: Apple's rule.
pub(super) const STRICT: GeneralPurpose = general_purpose::URL_SAFE_NO_PAD;
/// Google's endpoint also takes base64url with padding, which `gcp_auth` sends.
pub(super) const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A token taken apart, not yet verified.
pub(super) struct Jwt<'a> {
    pub(super) header: Value,
    pub(super) claims: Value,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    /// Takes `header.claims.signature` apart; `None` if it is anything else.
    pub(super) fn parse(text: &'a str, by: &GeneralPurpose) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| by.decode(part).ok();
        let object = |part: &str| {
            let value: Value = serde_json::from_slice(&decode(part)?).ok()?;
            value.is_object().then_some(value)
        };
        Some(Self {
            header: object(header)?,
            claims: object(claims)?,
            signed,
            signature: decode(signature)?,
        })
    }

    /// A text field of the header.
    pub(super) fn header_text(&self, name: &str) -> Option<&str> {
        self.header.get(name)?.as_str()
    }

    /// A text claim.
    pub(super) fn claim_text(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }

    /// What it claims.
    pub(super) fn claimed(&self) -> Claims {
        Claims {
            kid: self.header_text("kid").map(str::to_owned),
            iss: self.claim_text("iss").map(str::to_owned),
            iat: self.claim_seconds("iat"),
        }
    }

    /// A numeric claim, in whole seconds since 1970.
    pub(super) fn claim_seconds(&self, name: &str) -> Option<i64> {
        self.claims.get(name)?.as_i64()
    }

    /// Whether it is signed by this public key.
    pub(super) fn is_signed(&self, by: &'static dyn VerificationAlgorithm, key: &[u8]) -> bool {
        UnparsedPublicKey::new(by, key)
            .verify(self.signed.as_bytes(), &self.signature)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Apple refuses padded base64url, Google takes both; neither takes a
    /// token whose parts are not JSON objects.
    #[test]
    fn padding_is_judged_as_the_providers_do() {
        // {"a":1} needs padding: 7 bytes.
        let padded = "eyJhIjoxfQ==.eyJhIjoxfQ==.AAAA";
        let bare = "eyJhIjoxfQ.eyJhIjoxfQ.AAAA";
        assert!(Jwt::parse(padded, &STRICT).is_none());
        assert!(Jwt::parse(padded, &LENIENT).is_some());
        assert!(Jwt::parse(bare, &STRICT).is_some());
        assert!(Jwt::parse("MQ.MQ.MQ", &STRICT).is_none(), "not objects");
        assert!(
            Jwt::parse("eyJhIjoxfQ.eyJhIjoxfQ", &STRICT).is_none(),
            "two parts"
        );
    }
}
