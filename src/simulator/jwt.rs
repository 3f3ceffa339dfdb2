//! JSON Web Tokens as Apple and Google receive them. Only what verifying
//! needs; the signing side is the clients' own.

use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use ring::signature::{UnparsedPublicKey, VerificationAlgorithm};
use serde_json::Value;

/// Google's endpoint also takes base64url with padding, which `gcp_auth` sends.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How base64url is read.
#[derive(Clone, Copy)]
pub(super) enum Padding {
    /// RFC 7515: none. Apple's rule.
    Forbidden,
    /// With or without.
    Allowed,
}

/// A token taken apart, not yet verified.
pub(super) struct Jwt<'a> {
    pub(super) header: Value,
    pub(super) claims: Value,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    /// Takes `header.claims.signature` apart; `None` if it is anything else.
    pub(super) fn parse(text: &'a str, padding: Padding) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| match padding {
            Padding::Forbidden => general_purpose::URL_SAFE_NO_PAD.decode(part).ok(),
            Padding::Allowed => LENIENT.decode(part).ok(),
        };
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
        assert!(Jwt::parse(padded, Padding::Forbidden).is_none());
        assert!(Jwt::parse(padded, Padding::Allowed).is_some());
        assert!(Jwt::parse(bare, Padding::Forbidden).is_some());
        assert!(
            Jwt::parse("MQ.MQ.MQ", Padding::Forbidden).is_none(),
            "not objects"
        );
        assert!(
            Jwt::parse("eyJhIjoxfQ.eyJhIjoxfQ", Padding::Forbidden).is_none(),
            "two parts"
        );
    }
}
