//! Reading the fields of one JSON object, with errors that name the path.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::error::EventError;
use crate::call::ids;
use crate::call::time::Timestamp;

/// Half a surrogate pair, a number beyond every range, too many brackets: the
/// grammar allows them, no value can hold them.
pub(super) const UNREADABLE: &str =
    "is nested too deep, or has a number or character that does not exist";

pub(super) type RawFields<'a> = BTreeMap<String, &'a RawValue>;

/// Reads the fields that mean something and leaves the others alone: an
/// unknown one is ignored whatever is in it. The second is the first field
/// that is JSON by its grammar but cannot be held.
pub(super) fn known_fields(
    raw: &RawFields<'_>,
    names: &[&'static str],
) -> (Map<String, Value>, Option<&'static str>) {
    let mut map = Map::new();
    let mut unreadable = None;
    for &name in names {
        let Some(text) = raw.get(name) else {
            continue;
        };
        match serde_json::from_str(text.get()) {
            Ok(value) => {
                map.insert(name.to_owned(), value);
            }
            Err(_) => unreadable = unreadable.or(Some(name)),
        }
    }
    (map, unreadable)
}

/// An object's fields and the path to it, with the readers that every level
/// shares. `null` counts as absent: many producers write it for "none".
pub(super) struct Fields<'a> {
    pub(super) map: &'a Map<String, Value>,
    pub(super) at: String,
}

impl<'a> Fields<'a> {
    pub(super) fn error(&self, name: &str, problem: impl Into<Cow<'static, str>>) -> EventError {
        EventError::new(format!("{}{name}", self.at), problem)
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, EventError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.error(name, "must be a string")),
        }
    }

    pub(super) fn required_text(&self, name: &str) -> Result<&'a str, EventError> {
        match self.text(name)? {
            None => Err(self.error(name, "required")),
            Some("") => Err(self.error(name, "must not be empty")),
            Some(text) => Ok(text),
        }
    }

    pub(super) fn map_field(
        &self,
        name: &str,
    ) -> Result<Option<&'a Map<String, Value>>, EventError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(self.error(name, "must be an object")),
        }
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Fields<'a>>, EventError> {
        let at = format!("{}{name}.", self.at);
        Ok(self.map_field(name)?.map(|map| Fields { map, at }))
    }

    pub(super) fn uuid(&self, name: &str) -> Result<Option<Uuid>, EventError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        ids::parse_uuid(text)
            .map(Some)
            .ok_or_else(|| self.error(name, "must be a UUID with hyphens"))
    }

    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, EventError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        Timestamp::parse(text)
            .map(Some)
            .ok_or_else(|| self.error(name, "must be an RFC 3339 date and time with an offset"))
    }

    /// One of a few words.
    pub(super) fn choice(&self, name: &str, words: &[&str]) -> Result<Option<&'a str>, EventError> {
        match self.text(name)? {
            Some(text) if !words.contains(&text) => {
                Err(self.error(name, format!("must be one of: {}", words.join(", "))))
            }
            word => Ok(word),
        }
    }

    pub(super) fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, EventError> {
        value.ok_or_else(|| self.error(name, "required"))
    }
}
