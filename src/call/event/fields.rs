//! Reading the fields of one JSON object, each by its rule, with errors that
//! name the path.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::error::EventError;

/// A number beyond every range, too many brackets, half a character in an id:
/// the grammar allows them, no value can hold them.
pub(super) const UNREADABLE: &str =
    "is nested too deep, or has a number or character that does not exist";

pub(super) type RawFields<'a> = BTreeMap<String, &'a RawValue>;

/// A field that means something.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) need: Need,
    pub(super) rule: Rule,
}

/// What becomes of an object without the field, or with one that breaks its
/// rule.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Both are errors.
    Required,
    /// It may be absent, but not wrong: there is nothing to put in its place.
    Right,
    /// A wrong one counts as absent.
    Optional,
}

#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// The problem with a value, if there is one.
    Value(fn(&Value) -> Result<(), Cow<'static, str>>),
    /// An object with these fields.
    Object(&'static [Field]),
}

/// Reads the fields that mean something and leaves the others alone: an
/// unknown one is ignored whatever is in it, and so is, by name, one that is
/// wrong and need not be there.
///
/// # Errors
/// The first field without which the object is no use.
pub(super) fn read(
    raw: &RawFields<'_>,
    fields: &[Field],
    at: &str,
    ignored: &mut Vec<EventError>,
) -> Result<Map<String, Value>, EventError> {
    let mut map = Map::new();
    for field in fields {
        match field.read(raw, at, ignored) {
            Ok(Some(value)) => drop(map.insert(field.name.to_owned(), value)),
            Ok(None) => {}
            Err(error) if field.need == Need::Optional => ignored.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok(map)
}

impl Field {
    /// Its value. `null` counts as absent: many producers write it for "none".
    ///
    /// # Errors
    /// It breaks its rule.
    pub(super) fn read(
        &self,
        raw: &RawFields<'_>,
        at: &str,
        ignored: &mut Vec<EventError>,
    ) -> Result<Option<Value>, EventError> {
        let path = format!("{at}{}", self.name);
        let json = raw.get(self.name).map(|raw| raw.get());
        let Some(json) = json.filter(|json| *json != "null") else {
            return match self.need {
                Need::Required => Err(EventError::new(path, "required")),
                Need::Right | Need::Optional => Ok(None),
            };
        };
        match self.rule {
            Rule::Value(rule) => {
                let value = self.value(json).ok_or(Cow::Borrowed(UNREADABLE));
                let value = value.and_then(|value| rule(&value).map(|()| value));
                value
                    .map(Some)
                    .map_err(|problem| EventError::new(path, problem))
            }
            Rule::Object(fields) => {
                let Ok(raw) = serde_json::from_str::<RawFields<'_>>(json) else {
                    return Err(EventError::new(path, "must be an object"));
                };
                let map = read(&raw, fields, &format!("{path}."), ignored)?;
                Ok(Some(Value::Object(map)))
            }
        }
    }

    fn value(&self, json: &str) -> Option<Value> {
        let value = serde_json::from_str(json);
        match self.need {
            // An id or a token with another character in it is another one.
            Need::Required | Need::Right => value.ok(),
            Need::Optional => value
                .or_else(|_| serde_json::from_str(&with_whole_characters(json)))
                .ok(),
        }
    }
}

/// JSON with U+FFFD for every half of a surrogate pair that stands alone, as in
/// a name that was cut in the middle of an emoji.
fn with_whole_characters(json: &str) -> String {
    fn unit(escape: &str) -> Option<u16> {
        u16::from_str_radix(escape.strip_prefix("\\u")?.get(..4)?, 16).ok()
    }
    let mut whole = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        whole.push_str(before);
        let next = escape.get(6..).and_then(unit);
        let (kept, length) = match (unit(escape), next) {
            (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => (&escape[..12], 12),
            (Some(0xD800..0xE000), _) => ("\\ufffd", 6),
            _ => (&escape[..2], 2),
        };
        whole.push_str(kept);
        rest = &escape[length..];
    }
    whole + rest
}
