//! Types that events spell as strings.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// Decodes a string by a rule. Anything but a string is refused, and so is a
/// string that the rule gives nothing for.
///
/// # Errors
/// As above; the text quotes nothing of the input.
pub(super) fn from_text<'de, D, T>(
    deserializer: D,
    rule: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    deserializer.deserialize_str(ByRule(rule, PhantomData))
}

struct ByRule<T, F>(F, PhantomData<T>);

impl<T, F: FnOnce(&str) -> Option<T>> Visitor<'_> for ByRule<T, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).ok_or_else(|| E::custom("the string breaks a rule"))
    }
}

/// Decodes a string that is not empty.
pub(super) fn filled<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: for<'a> From<&'a str>,
{
    from_text(deserializer, |text| {
        (!text.is_empty()).then(|| T::from(text))
    })
}

/// A string that is not empty.
pub(super) struct Filled<T>(pub(super) T);

impl<'de, T: for<'a> From<&'a str>> Deserialize<'de> for Filled<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        filled(deserializer).map(Self)
    }
}
