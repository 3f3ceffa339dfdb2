//! Nodes of a tree as JSON, and as the strings of Android's `data`.

use minijinja::Value;
use minijinja::value::ValueKind;

use super::error::PayloadError;
use super::expression::Formula;
use super::json::{self, JsonMap};
use super::tree::{Field, Key, Node, Object};
use crate::call::ids;

/// Appends a key and its colon, after a comma if it is not the first.
pub(super) fn begin_key(out: &mut String, name: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    json::write_string(out, name);
    out.push(':');
}

/// An entry of an object once splices are resolved.
pub(super) enum Entry<'a> {
    /// The profile's own.
    Key(&'a Key),
    /// Spliced in from the event's `data`, as it is.
    Json(&'a serde_json::Value),
    /// Spliced in from an object that an expression made.
    Value(&'a Value),
}

impl Entry<'_> {
    /// Appends it as JSON; false if there is nothing to append.
    pub(super) fn write(
        self,
        out: &mut String,
        name: &str,
        scope: &Value,
    ) -> Result<bool, PayloadError> {
        match self {
            Self::Key(key) => write_key(out, key, scope),
            Self::Json(value) => {
                out.push_str(&value.to_string());
                Ok(true)
            }
            Self::Value(value) => write_result(out, value, name),
        }
    }

    /// It as Android's `data` has it, if there is anything.
    pub(super) fn text(self, name: &str, scope: &Value) -> Result<Option<String>, PayloadError> {
        match self {
            Self::Key(key) => key_text(key, scope),
            Self::Json(serde_json::Value::Null) => Ok(None),
            Self::Json(serde_json::Value::String(text)) => Ok(Some(text.clone())),
            Self::Json(value) => Ok(Some(value.to_string())),
            Self::Value(value) => value_text(value, name),
        }
    }
}

/// Every entry of an object in order, those of its splice in their place. A
/// key that the profile writes wins over one that is spliced in, so an
/// event's `data` can add to a payload but never change what it says.
pub(super) fn for_each(
    object: &Object,
    scope: &Value,
    mut entry: impl FnMut(&str, Entry<'_>) -> Result<(), PayloadError>,
) -> Result<(), PayloadError> {
    for field in &object.fields {
        match field {
            Field::Key(key) => entry(&key.name, Entry::Key(key))?,
            Field::Splice { path, formula } => {
                let value = eval(formula, path, scope)?;
                if let Some(JsonMap(map)) = value.downcast_object_ref() {
                    for (name, value) in &**map {
                        if !object.writes(name) {
                            entry(name, Entry::Json(value))?;
                        }
                    }
                } else {
                    splice(&value, object, path, &mut entry)?;
                }
            }
        }
    }
    Ok(())
}

/// The entries of an object that an expression made.
fn splice(
    value: &Value,
    object: &Object,
    path: &str,
    entry: &mut impl FnMut(&str, Entry<'_>) -> Result<(), PayloadError>,
) -> Result<(), PayloadError> {
    let not_object = || PayloadError::NotObject {
        key: path.to_owned(),
    };
    if value.kind() != ValueKind::Map {
        return Err(not_object());
    }
    for key in value.try_iter().map_err(|_| not_object())? {
        let name = key.as_str().ok_or_else(not_object)?;
        let value = value.get_item(&key).map_err(|_| not_object())?;
        if !object.writes(name) {
            entry(name, Entry::Value(&value))?;
        }
    }
    Ok(())
}

fn is_absent(value: &Value) -> bool {
    value.is_undefined() || value.is_none()
}

fn eval(formula: &Formula, path: &str, scope: &Value) -> Result<Value, PayloadError> {
    formula
        .eval(scope)
        .map_err(|problem| PayloadError::Expression {
            key: path.to_owned(),
            problem,
        })
}

fn not_json(path: &str) -> PayloadError {
    PayloadError::Expression {
        key: path.to_owned(),
        problem: "the result has no JSON form".into(),
    }
}

fn missing(key: &Key) -> PayloadError {
    PayloadError::Missing {
        key: key.path.clone(),
    }
}

fn check_uuid(key: &Key, text: Option<&str>) -> Result<(), PayloadError> {
    if key.uuid && text.and_then(ids::parse_uuid).is_none() {
        return Err(PayloadError::NotUuid {
            key: key.path.clone(),
        });
    }
    Ok(())
}

/// Appends a key's value as JSON; false if it is absent and may be.
fn write_key(out: &mut String, key: &Key, scope: &Value) -> Result<bool, PayloadError> {
    let written = if let Node::Formula(formula) = &key.node {
        let value = eval(formula, &key.path, scope)?;
        if !is_absent(&value) {
            check_uuid(key, value.as_str())?;
        }
        write_result(out, &value, &key.path)?
    } else {
        write_node(out, &key.node, &key.path, scope)?
    };
    if key.required && !written {
        return Err(missing(key));
    }
    Ok(written)
}

fn write_result(out: &mut String, value: &Value, path: &str) -> Result<bool, PayloadError> {
    if is_absent(value) {
        return Ok(false);
    }
    json::write_value(out, value).map_err(|_| not_json(path))?;
    Ok(true)
}

/// Appends a node as JSON; false if there is nothing to append.
pub(super) fn write_node(
    out: &mut String,
    node: &Node,
    path: &str,
    scope: &Value,
) -> Result<bool, PayloadError> {
    match node {
        Node::Literal { json, .. } => out.push_str(json),
        Node::Formula(formula) => {
            let value = eval(formula, path, scope)?;
            return write_result(out, &value, path);
        }
        Node::Object(object) => write_object(out, object, scope)?,
        Node::Array(items) => {
            out.push('[');
            for item in items {
                let before = out.len();
                if !out.ends_with('[') {
                    out.push(',');
                }
                if !write_node(out, item, path, scope)? {
                    out.truncate(before);
                }
            }
            out.push(']');
        }
    }
    Ok(true)
}

fn write_object(out: &mut String, object: &Object, scope: &Value) -> Result<(), PayloadError> {
    out.push('{');
    for_each(object, scope, |name, entry| {
        let before = out.len();
        begin_key(out, name);
        if !entry.write(out, name, scope)? {
            out.truncate(before);
        }
        Ok(())
    })?;
    out.push('}');
    Ok(())
}

/// A key's value as Android's `data` has it, if there is one.
fn key_text(key: &Key, scope: &Value) -> Result<Option<String>, PayloadError> {
    let text = match &key.node {
        Node::Literal { text, .. } => Some(text.clone()),
        Node::Formula(formula) => value_text(&eval(formula, &key.path, scope)?, &key.path)?,
        Node::Object(_) | Node::Array(_) => {
            let mut json = String::new();
            write_node(&mut json, &key.node, &key.path, scope)?;
            Some(json)
        }
    };
    match text {
        None if key.required => Err(missing(key)),
        None => Ok(None),
        Some(text) => {
            check_uuid(key, Some(&text))?;
            Ok(Some(text))
        }
    }
}

fn value_text(value: &Value, path: &str) -> Result<Option<String>, PayloadError> {
    if is_absent(value) {
        return Ok(None);
    }
    if let Some(text) = value.as_str() {
        return Ok(Some(text.to_owned()));
    }
    let mut json = String::new();
    json::write_value(&mut json, value).map_err(|_| not_json(path))?;
    Ok(Some(json))
}
