//! What an answer of `APNs` means: one table from its reason to a class.
//!
//! Source of every row, unless its group says otherwise: "Handling
//! notification responses from APNs" (Apple Developer Documentation).

use crate::call::push::Class;

/// Longest reason that is kept, in bytes: it goes into reports and logs.
const LONGEST: usize = 128;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident => $class:ident,)*) => {
        /// A reason that Apple documents, or that `APNs` was seen to give.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Known {
            $($(#[$doc])* $name,)*
        }

        impl Known {
            /// Every known reason.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word on the wire.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What the worker makes of it.
            #[must_use]
            pub const fn class(self) -> Class {
                match self {
                    $(Self::$name => Class::$class,)*
                }
            }

            fn find(word: &str) -> Option<Self> {
                match word {
                    $(stringify!($name) => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    // The connection had been idle for too long; the request was not looked at.
    /// 400: the connection timed out; the next attempt takes another.
    IdleTimeout => NotProcessed,

    // Trouble at Apple's. The documentation asks for 15 minutes of patience;
    // a ring has seconds, so it is repeated inside the ring's deadline only.
    /// 500.
    InternalServerError => Unavailable,
    /// 503.
    ServiceUnavailable => Unavailable,
    /// 503: that server is going down.
    Shutdown => Unavailable,
    /// 429: too many requests for one device token.
    TooManyRequests => Throttled,

    // Provider tokens: "Establishing a token-based connection to APNs".
    /// 403: the JWT is older than an hour, or a clock is wrong.
    ExpiredProviderToken => StaleCredential,
    /// 403: the connection belongs to another key of the team.
    UnrelatedKeyIdInToken => StaleCredential,
    /// 429: a new JWT sooner than 20 minutes after the last one.
    TooManyProviderTokenUpdates => SigningThrottled,

    // The credential or the topic is wrong: no token is to blame.
    /// 403: key, key id or team id are wrong.
    InvalidProviderToken => CredentialFault,
    /// 403: neither certificate nor JWT.
    MissingProviderToken => CredentialFault,
    /// 403: the certificate is not accepted.
    BadCertificate => CredentialFault,
    /// 403: a certificate of the other environment.
    BadCertificateEnvironment => CredentialFault,
    /// 403: a key of the other environment.
    BadEnvironmentKeyIdInToken => CredentialFault,
    /// 403: the same, as it was seen on the wire.
    BadEnvironmentKeyInToken => CredentialFault,
    /// 403: the action is not allowed.
    Forbidden => CredentialFault,
    /// 400: this credential must not push to this topic.
    TopicDisallowed => CredentialFault,
    /// 400: there is no such topic.
    BadTopic => CredentialFault,
    /// 400: no topic, and the certificate has several.
    MissingTopic => CredentialFault,

    // Requests that this program should never make.
    /// 400.
    InvalidPushType => OwnFault,
    /// 400.
    BadPriority => OwnFault,
    /// 400.
    DuplicateHeaders => OwnFault,
    /// 404.
    BadPath => OwnFault,
    /// 405.
    MethodNotAllowed => OwnFault,

    // Tokens. Whether a dead one is reported as dead, the engine decides.
    /// 410: the app was removed, or has another token; comes with a timestamp.
    Unregistered => DeadToken,
    /// 410: the token has expired.
    ExpiredToken => DeadToken,
    /// 400: not a token, or one of the other environment.
    BadDeviceToken => BadToken,
    /// 400: a token of another app, or an alert token used for calls.
    DeviceTokenNotForTopic => SuspectToken,

    // The payload, or a value that was made from the event.
    /// 413.
    PayloadTooLarge => PayloadFault,
    /// 400.
    PayloadEmpty => PayloadFault,
    /// 400.
    BadCollapseId => PayloadFault,
    /// 400.
    BadMessageId => PayloadFault,
    /// 400.
    BadExpirationDate => PayloadFault,
    /// 400.
    MissingDeviceToken => PayloadFault,
}

/// The reason in an answer. Apple adds reasons without notice, so the text of
/// one that is not known is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// One of the table.
    Known(Known),
    /// Any other: its first bytes, without control characters.
    Unknown(String),
}

impl Reason {
    /// Reads a reason. `None` if there is no text at all.
    #[must_use]
    pub fn read(word: &str) -> Option<Self> {
        if let Some(known) = Known::find(word) {
            return Some(Self::Known(known));
        }
        let mut text: String = word.chars().filter(|c| !c.is_control()).collect();
        let mut end = text.len().min(LONGEST);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        (!text.is_empty()).then_some(Self::Unknown(text))
    }

    /// The text for reports.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(known) => known.word(),
            Self::Unknown(text) => text,
        }
    }
}

/// What an answer means. A known reason decides by itself. Without any it is
/// no word of Apple's, who always gives one, but a proxy's or a front end's: an
/// error is asked again, pauses no app and deletes no token.
#[must_use]
pub fn classify(status: u16, reason: Option<&Reason>) -> Class {
    match (status, reason) {
        (200, _) => Class::Accepted,
        (_, Some(Reason::Known(known))) => known.class(),
        (429, None) => Class::Throttled,
        (500..=599, _) | (400..=499, None) => Class::Unavailable,
        (_, Some(Reason::Unknown(_)) | None) => Class::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written down a second time, from the documentation: status, word, class.
    const TABLE: [(u16, &str, Class); 34] = [
        (400, "IdleTimeout", Class::NotProcessed),
        (500, "InternalServerError", Class::Unavailable),
        (503, "ServiceUnavailable", Class::Unavailable),
        (503, "Shutdown", Class::Unavailable),
        (429, "TooManyRequests", Class::Throttled),
        (403, "ExpiredProviderToken", Class::StaleCredential),
        (403, "UnrelatedKeyIdInToken", Class::StaleCredential),
        (429, "TooManyProviderTokenUpdates", Class::SigningThrottled),
        (403, "InvalidProviderToken", Class::CredentialFault),
        (403, "MissingProviderToken", Class::CredentialFault),
        (403, "BadCertificate", Class::CredentialFault),
        (403, "BadCertificateEnvironment", Class::CredentialFault),
        (403, "BadEnvironmentKeyIdInToken", Class::CredentialFault),
        (403, "BadEnvironmentKeyInToken", Class::CredentialFault),
        (403, "Forbidden", Class::CredentialFault),
        (400, "TopicDisallowed", Class::CredentialFault),
        (400, "BadTopic", Class::CredentialFault),
        (400, "MissingTopic", Class::CredentialFault),
        (400, "InvalidPushType", Class::OwnFault),
        (400, "BadPriority", Class::OwnFault),
        (400, "DuplicateHeaders", Class::OwnFault),
        (404, "BadPath", Class::OwnFault),
        (405, "MethodNotAllowed", Class::OwnFault),
        (410, "Unregistered", Class::DeadToken),
        (410, "ExpiredToken", Class::DeadToken),
        (400, "BadDeviceToken", Class::BadToken),
        (400, "DeviceTokenNotForTopic", Class::SuspectToken),
        (413, "PayloadTooLarge", Class::PayloadFault),
        (400, "PayloadEmpty", Class::PayloadFault),
        (400, "BadCollapseId", Class::PayloadFault),
        (400, "BadMessageId", Class::PayloadFault),
        (400, "BadExpirationDate", Class::PayloadFault),
        (400, "MissingDeviceToken", Class::PayloadFault),
        (418, "SomethingNew", Class::Unknown),
    ];

    #[test]
    fn every_documented_reason_has_its_class() {
        for (status, word, class) in TABLE {
            let reason = Reason::read(word).unwrap();
            assert_eq!(classify(status, Some(&reason)), class, "{word}");
            assert_eq!(reason.as_str(), word);
        }
        assert_eq!(Known::ALL.len(), TABLE.len() - 1, "a row is not tested");
    }

    #[test]
    fn without_a_reason_it_is_no_word_of_apples_and_is_asked_again() {
        assert_eq!(classify(200, None), Class::Accepted);
        for status in [204, 302] {
            assert_eq!(classify(status, None), Class::Unknown, "{status}");
        }
        assert_eq!(classify(429, None), Class::Throttled);
        for status in [400, 403, 404, 408, 410, 413, 500, 502] {
            assert_eq!(classify(status, None), Class::Unavailable, "{status}");
        }
    }

    #[test]
    fn an_unknown_reason_keeps_its_text_and_never_condemns_a_token() {
        let reason = Reason::read("TokenOnHoliday").unwrap();
        assert_eq!(reason, Reason::Unknown("TokenOnHoliday".to_owned()));
        assert_eq!(classify(410, Some(&reason)), Class::Unknown);
        assert_eq!(classify(429, Some(&reason)), Class::Unknown);
        assert_eq!(classify(503, Some(&reason)), Class::Unavailable);
    }

    #[test]
    fn a_reason_is_bounded_and_printable() {
        assert_eq!(Reason::read(""), None);
        assert_eq!(Reason::read("\n\u{0}"), None);
        let long = Reason::read(&"ä".repeat(500)).unwrap();
        assert_eq!(long.as_str().len(), 128);
        assert_eq!(Reason::read("a\nb").unwrap().as_str(), "ab");
    }
}
