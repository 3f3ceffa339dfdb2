//! Every reason that can stand in a report, from an embedded file.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// So many near words are offered at most.
const NEAREST: usize = 5;
/// And only what is at least this alike (1 is the same).
const ALIKE: f64 = 0.7;

/// What there is to say about a reason.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The word in reports.
    pub word: String,
    /// Whose word it is: `APNs`, `FCM`, `OAuth` or `ringpush`.
    pub from: String,
    /// The HTTP status it comes with, as a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// What it means.
    pub means: String,
    /// What the worker does about it.
    pub does: String,
    /// What a person can do about it.
    pub next: String,
}

#[derive(Deserialize)]
struct File {
    reason: Vec<Entry>,
}

/// All entries. Empty only if the embedded file is broken, which a test rules
/// out.
pub fn all() -> &'static [Entry] {
    static ALL: OnceLock<Vec<Entry>> = OnceLock::new();
    ALL.get_or_init(|| {
        toml::from_str::<File>(include_str!("reasons.toml"))
            .map(|file| file.reason)
            .unwrap_or_default()
    })
}

/// The entry of a reason: as it is written, else whatever its case.
#[must_use]
pub fn find(word: &str) -> Option<&'static Entry> {
    let word = word.trim();
    let class = http_class(word);
    let word = class.as_deref().unwrap_or(word);
    let exact = all().iter().find(|entry| entry.word == word);
    exact.or_else(|| {
        all()
            .iter()
            .find(|entry| entry.word.eq_ignore_ascii_case(word))
    })
}

/// `http_502` and `502` are explained as `http_5xx`.
fn http_class(word: &str) -> Option<String> {
    let digits = word.strip_prefix("http_").unwrap_or(word);
    let status = digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit());
    status.then(|| format!("http_{}xx", &digits[..1]))
}

/// The words that look most like this one, the nearest first.
#[must_use]
pub fn nearest(word: &str) -> Vec<&'static str> {
    let plain = |text: &str| text.to_lowercase().replace(['_', '-', ' '], "");
    let wanted = plain(word);
    let mut scored: Vec<(f64, &str)> = all()
        .iter()
        .map(|entry| {
            let known = plain(&entry.word);
            let contained = wanted.len() >= 4 && known.contains(&wanted);
            let score = if contained {
                1.0
            } else {
                strsim::jaro_winkler(&known, &wanted)
            };
            (score, entry.word.as_str())
        })
        .filter(|(score, _)| *score >= ALIKE)
        .collect();
    scored.sort_by(|one, other| other.0.total_cmp(&one.0));
    scored
        .into_iter()
        .map(|(_, word)| word)
        .take(NEAREST)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::call::payload::PayloadError;
    use crate::providers::{apns, fcm};

    fn explained(word: &str) {
        let entry = find(word).unwrap_or_else(|| panic!("{word} has no entry"));
        for text in [&entry.means, &entry.does, &entry.next] {
            assert!(text.ends_with('.') && text.len() > 7, "{word}: {text}");
        }
    }

    #[test]
    fn the_file_is_read_and_no_word_stands_twice() {
        let parsed: File = toml::from_str(include_str!("reasons.toml")).unwrap();
        let words: HashSet<_> = parsed.reason.iter().map(|entry| &entry.word).collect();
        assert_eq!(words.len(), parsed.reason.len());
        assert_eq!(all().len(), parsed.reason.len());
        for entry in all() {
            assert!(["APNs", "FCM", "OAuth", "ringpush"].contains(&entry.from.as_str()));
            explained(&entry.word);
        }
    }

    #[test]
    fn every_reason_of_both_providers_is_explained() {
        for known in apns::reason::Known::ALL {
            explained(known.word());
        }
        for word in fcm::known_reasons() {
            explained(word);
        }
    }

    #[test]
    fn every_payload_error_is_explained() {
        let key = || "k".to_owned();
        let all = [
            PayloadError::TooLarge {
                size: 2,
                limit: 1,
                largest_key: key(),
                largest_size: 2,
            },
            PayloadError::Missing { key: key() },
            PayloadError::NotUuid { key: key() },
            PayloadError::ReservedKey { key: key() },
            PayloadError::NotObject { key: key() },
            PayloadError::Expression {
                key: key(),
                problem: "x".into(),
            },
            PayloadError::Empty,
            PayloadError::NoCancel,
            PayloadError::UnknownPlatform,
        ];
        for error in all {
            explained(error.reason());
        }
    }

    /// The words stand in the code as texts: whatever is given as a reason
    /// there must have an entry.
    #[test]
    fn every_word_that_the_code_gives_as_a_reason_is_explained() {
        let sources = [
            include_str!("../../engine/tokens/verdict.rs"),
            include_str!("../../engine/routes.rs"),
            include_str!("../../engine/dispatch/pushes.rs"),
            include_str!("../../engine/lane/mod.rs"),
            include_str!("../../call/event/diagnose.rs"),
            include_str!("../../call/event/rules.rs"),
            include_str!("../../call/event/types.rs"),
            include_str!("../../call/payload/error.rs"),
            include_str!("../../providers/apns/client.rs"),
            include_str!("../../providers/fcm/client.rs"),
            include_str!("../../providers/http2/pool.rs"),
            include_str!("../../providers/fcm/access/metadata.rs"),
            include_str!("../../providers/fcm/access/oauth.rs"),
        ];
        let openings = [
            "reason: \"",
            "reason = \"",
            "because(\"",
            "not_sent(\"",
            "Err((\"",
            "Err((\n            \"",
            "Err((\n                \"",
            "|e| (\"",
            "let invalid = |error| (\"",
            "unwrap_or(\"",
            "Self::TooLarge { .. } => \"",
            "Some(\"",
            "CredentialFault, \"",
            "Rejected, \"",
        ];
        let mut words = HashSet::new();
        for source in sources {
            let code = source.split("#[cfg(test)]").next().unwrap_or_default();
            for opening in openings {
                for rest in code.split(opening).skip(1) {
                    let word = rest.split('"').next().unwrap_or_default();
                    if !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                    {
                        words.insert(word);
                    }
                }
            }
        }
        for other in ["ios", "android", "null"] {
            words.remove(other);
        }
        assert!(words.len() >= 12, "{words:?}");
        for word in words {
            explained(word);
        }
    }

    #[test]
    fn statuses_without_a_word_are_explained_by_their_hundreds() {
        assert_eq!(find("http_502").unwrap().word, "http_5xx");
        assert_eq!(find("404").unwrap().word, "http_4xx");
        assert!(find("999").is_none());
    }

    #[test]
    fn an_unknown_word_finds_its_neighbours() {
        assert_eq!(nearest("BadDeviceTokn")[0], "BadDeviceToken");
        assert_eq!(nearest("not registered")[0], "Unregistered");
        assert_eq!(nearest("unregisterd")[..2].len(), 2);
        assert!(nearest("xqzzy").is_empty());
        assert_eq!(find("baddevicetoken").unwrap().word, "BadDeviceToken");
    }
}
