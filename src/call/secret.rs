//! Strings that must never reach a log line, a span, a metric or a `Debug`.

use std::fmt;
use std::sync::Arc;

/// A text whose `Debug` shows nothing of it. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a text that must not be printed by accident.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself. Call this only where it goes onto the wire or into a
    /// file that exists to hold it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The last four characters behind an ellipsis, for screens on which a
    /// person has to tell two tokens apart. Nothing at all of short ones.
    #[must_use]
    pub fn shortened(&self) -> String {
        let count = self.0.chars().count();
        if count < 12 {
            return "…".to_owned();
        }
        std::iter::once('…')
            .chain(self.0.chars().skip(count - 4))
            .collect()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_never_shows_the_text() {
        let secret = Secret::from("abcdef0123456789");
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(format!("{:?}", Some(&secret)), "Some([redacted])");
    }

    #[test]
    fn shortening_keeps_four_characters_of_a_long_text_and_none_of_a_short_one() {
        assert_eq!(Secret::from("abcdef0123456789").shortened(), "…6789");
        assert_eq!(Secret::from("0123456789a").shortened(), "…");
        assert_eq!(Secret::from("ääääääääääääää€").shortened(), "…äää€");
    }
}
