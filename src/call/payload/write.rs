//! Nodes of a tree as JSON, and as the strings of Android's `data`.

use std::borrow::Cow;

use minijinja::Value;
use minijinja::value::ValueKind;
use uuid::Uuid;

use super::error::PayloadError;
use super::expression::{Expression, compute};
use super::json::{self, JsonMap};
use super::scope::{Found, Scope};
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

/// How a value is written: as JSON, or as the text that Android's `data` has
/// for it, which is JSON too unless it is a string.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Text,
}

impl Form {
    fn string(self, out: &mut String, text: &str) {
        match self {
            Self::Json => json::write_string(out, text),
            Self::Text => out.push_str(text),
        }
    }
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
    /// Appends it; false if there is nothing to append.
    pub(super) fn write(
        self,
        out: &mut String,
        form: Form,
        name: &str,
        scope: &Scope<'_>,
    ) -> Result<bool, PayloadError> {
        match self {
            Self::Key(key) => write_key(out, form, key, scope),
            // A splice keeps an object as it is, `null` too; a text has none.
            Self::Json(serde_json::Value::Null) if form == Form::Text => Ok(false),
            Self::Json(value) => {
                write_json(out, form, value);
                Ok(true)
            }
            Self::Value(value) => write_value(out, form, value, name),
        }
    }
}

/// Every entry of an object in order, those of its splice in their place. A
/// key that the profile writes wins over one that is spliced in, so an
/// event's `data` can add to a payload but never change what it says.
pub(super) fn for_each(
    object: &Object,
    scope: &Scope<'_>,
    mut entry: impl FnMut(&str, Entry<'_>) -> Result<(), PayloadError>,
) -> Result<(), PayloadError> {
    for field in &object.fields {
        match field {
            Field::Key(key) => entry(&key.name, Entry::Key(key))?,
            Field::Splice { path, expression } => match expression {
                Expression::Variable(variable) => {
                    let map = match variable.find(scope) {
                        Some(Found::Data(map)) => Some(&**map),
                        Some(Found::Json(json)) => json.as_object(),
                        _ => None,
                    };
                    let map = map.ok_or_else(|| not_object(path))?;
                    splice_map(map, object, &mut entry)?;
                }
                Expression::Computed { code, names } => {
                    let value = compute(code, names, scope).map_err(|p| failed(path, p))?;
                    match value.downcast_object_ref() {
                        Some(JsonMap(map)) => splice_map(map, object, &mut entry)?,
                        None => splice(&value, object, path, &mut entry)?,
                    }
                }
            },
        }
    }
    Ok(())
}

/// The entries of an object of the event's.
fn splice_map(
    map: &serde_json::Map<String, serde_json::Value>,
    object: &Object,
    entry: &mut impl FnMut(&str, Entry<'_>) -> Result<(), PayloadError>,
) -> Result<(), PayloadError> {
    for (name, value) in map {
        if !object.writes(name) {
            entry(name, Entry::Json(value))?;
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
    if value.kind() != ValueKind::Map {
        return Err(not_object(path));
    }
    for key in value.try_iter().map_err(|_| not_object(path))? {
        let name = key.as_str().ok_or_else(|| not_object(path))?;
        let value = value.get_item(&key).map_err(|_| not_object(path))?;
        if !object.writes(name) {
            entry(name, Entry::Value(&value))?;
        }
    }
    Ok(())
}

fn not_object(path: &str) -> PayloadError {
    PayloadError::NotObject {
        key: path.to_owned(),
    }
}

fn failed(path: &str, problem: Cow<'static, str>) -> PayloadError {
    PayloadError::Expression {
        key: path.to_owned(),
        problem,
    }
}

/// Appends a key's value; false if it is absent and may be.
fn write_key(
    out: &mut String,
    form: Form,
    key: &Key,
    scope: &Scope<'_>,
) -> Result<bool, PayloadError> {
    let before = out.len();
    let written = write_node(out, form, &key.node, &key.path, scope)?;
    if key.required && !written {
        return Err(PayloadError::Missing {
            key: key.path.clone(),
        });
    }
    // What is no string has no quotes, and a UUID has no escapes.
    let text = match form {
        Form::Json => out[before..]
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"')),
        Form::Text => Some(&out[before..]),
    };
    if key.uuid && written && text.and_then(ids::parse_uuid).is_none() {
        return Err(PayloadError::NotUuid {
            key: key.path.clone(),
        });
    }
    Ok(written)
}

/// Appends a node; false if there is nothing to append.
pub(super) fn write_node(
    out: &mut String,
    form: Form,
    node: &Node,
    path: &str,
    scope: &Scope<'_>,
) -> Result<bool, PayloadError> {
    match node {
        Node::Literal { json, text } => out.push_str(match form {
            Form::Json => json,
            Form::Text => text,
        }),
        Node::Expression(Expression::Variable(variable)) => {
            let found = variable.find(scope);
            found.inspect(|found| write_found(out, form, *found));
            return Ok(found.is_some());
        }
        Node::Expression(Expression::Computed { code, names }) => {
            let value = compute(code, names, scope).map_err(|p| failed(path, p))?;
            return write_value(out, form, &value, path);
        }
        Node::Object(object) => write_object(out, object, scope)?,
        Node::Array(items) => {
            out.push('[');
            for item in items {
                let before = out.len();
                if !out.ends_with('[') {
                    out.push(',');
                }
                if !write_node(out, Form::Json, item, path, scope)? {
                    out.truncate(before);
                }
            }
            out.push(']');
        }
    }
    Ok(true)
}

fn write_object(out: &mut String, object: &Object, scope: &Scope<'_>) -> Result<(), PayloadError> {
    out.push('{');
    for_each(object, scope, |name, entry| {
        let before = out.len();
        begin_key(out, name);
        if !entry.write(out, Form::Json, name, scope)? {
            out.truncate(before);
        }
        Ok(())
    })?;
    out.push('}');
    Ok(())
}

/// Appends what a name stands for.
pub(super) fn write_found(out: &mut String, form: Form, found: Found<'_>) {
    match found {
        Found::Bool(bool) => json::push(out, bool),
        Found::Number(number) => json::push(out, number),
        Found::Text(text) => form.string(out, text),
        Found::Uuid(uuid) => {
            let mut buffer = Uuid::encode_buffer();
            form.string(out, uuid.hyphenated().encode_lower(&mut buffer));
        }
        Found::Time(time) => form.string(out, &time.to_string()),
        Found::Json(json) => write_json(out, form, json),
        Found::Data(data) => json::write_object(out, data),
    }
}

fn write_json(out: &mut String, form: Form, json: &serde_json::Value) {
    match json.as_str() {
        Some(text) => form.string(out, text),
        None => json::push(out, json),
    }
}

/// Appends what an expression gave; false if that is nothing.
fn write_value(
    out: &mut String,
    form: Form,
    value: &Value,
    path: &str,
) -> Result<bool, PayloadError> {
    if value.is_undefined() || value.is_none() {
        return Ok(false);
    }
    match value.as_str() {
        Some(text) => form.string(out, text),
        None => json::write_value(out, value)
            .map_err(|_| failed(path, "the result has no JSON form".into()))?,
    }
    Ok(true)
}
