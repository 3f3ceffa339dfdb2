//! From a compiled tree to the bytes of a payload.

use bytes::Bytes;
use minijinja::Value;
use minijinja::value::ValueKind;

use super::error::PayloadError;
use super::json::{self, JsonMap};
use super::reserved::is_reserved;
use super::tree::{Field, Key, Node, Object};
use super::{ANDROID_LIMIT, Payload};
use crate::call::event::Sealed;
use crate::call::ids;
use crate::call::time::Timestamp;

/// Renders an iOS payload: `aps` first, if there is one, then the tree.
pub(super) fn ios(
    aps: Option<&Node>,
    tree: &Object,
    scope: &Value,
    limit: usize,
) -> Result<Payload, PayloadError> {
    let mut body = Body::new();
    if let Some(aps) = aps.filter(|_| !tree.writes("aps")) {
        body.key("aps", |out| write_node(out, aps, "aps", scope))?;
    }
    for_each(tree, scope, |name, entry| {
        // A spliced `aps` would stand beside the profile's own.
        if name == "aps" && aps.is_some() && !tree.writes("aps") {
            return Ok(());
        }
        body.key(name, |out| entry.write(out, name, scope))
    })?;
    body.finish(limit)
}

/// Renders an iOS payload that only the phone can read.
pub(super) fn sealed_ios(
    aps: Option<&Node>,
    sealed: &Sealed,
    clear: &Clear,
    scope: &Value,
    limit: usize,
) -> Result<Payload, PayloadError> {
    let mut body = Body::new();
    if let Some(aps) = aps {
        body.key("aps", |out| write_node(out, aps, "aps", scope))?;
    }
    body.key("sealed", |out| {
        write_sealed(out, sealed);
        Ok(true)
    })?;
    body.key("call_uuid", |out| {
        json::write_string(out, &clear.call_uuid);
        Ok(true)
    })?;
    body.key("expires_at", |out| {
        out.push_str(&clear.expires_at.millis().to_string());
        Ok(true)
    })?;
    body.finish(limit)
}

/// Renders an Android payload: every value a string.
pub(super) fn android(tree: &Object, scope: &Value) -> Result<Payload, PayloadError> {
    let mut data = Vec::with_capacity(tree.fields.len());
    for_each(tree, scope, |name, entry| {
        let Some(text) = entry.text(name, scope)? else {
            return Ok(());
        };
        if is_reserved(name) {
            let key = name.to_owned();
            return Err(PayloadError::ReservedKey { key });
        }
        data.push((name.to_owned(), text));
        Ok(())
    })?;
    within_android(data)
}

/// Renders an Android payload that only the phone can read.
pub(super) fn sealed_android(sealed: &Sealed, clear: Clear) -> Result<Payload, PayloadError> {
    let mut json = String::new();
    write_sealed(&mut json, sealed);
    within_android(vec![
        ("sealed".to_owned(), json),
        ("call_uuid".to_owned(), clear.call_uuid),
        (
            "expires_at".to_owned(),
            clear.expires_at.millis().to_string(),
        ),
    ])
}

/// What a sealed payload says in clear.
pub(super) struct Clear {
    pub(super) call_uuid: String,
    pub(super) expires_at: Timestamp,
}

fn write_sealed(out: &mut String, sealed: &Sealed) {
    out.push_str("{\"kid\":");
    json::write_string(out, &sealed.kid);
    out.push_str(",\"ct\":");
    json::write_string(out, &sealed.ct);
    out.push('}');
}

fn within_android(data: Vec<(String, String)>) -> Result<Payload, PayloadError> {
    if data.is_empty() {
        return Err(PayloadError::Empty);
    }
    let sizes = data
        .iter()
        .map(|(key, value)| (key, key.len() + value.len()));
    let largest = sizes.max_by_key(|(_, size)| *size);
    let (largest_key, largest_size) =
        largest.map_or_else(Default::default, |(k, n)| (k.clone(), n));
    let payload = Payload::Android(data);
    let size = payload.size();
    if size > ANDROID_LIMIT {
        return Err(PayloadError::TooLarge {
            size,
            limit: ANDROID_LIMIT,
            largest_key,
            largest_size,
        });
    }
    Ok(payload)
}

/// An iOS body in the making, and its largest key so far.
struct Body {
    json: String,
    largest_key: String,
    largest_size: usize,
}

impl Body {
    fn new() -> Self {
        Self {
            json: String::from("{"),
            largest_key: String::new(),
            largest_size: 0,
        }
    }

    /// Writes a key, unless its value turns out to be absent.
    fn key(
        &mut self,
        name: &str,
        value: impl FnOnce(&mut String) -> Result<bool, PayloadError>,
    ) -> Result<(), PayloadError> {
        let before = self.json.len();
        begin_key(&mut self.json, name);
        if !value(&mut self.json)? {
            self.json.truncate(before);
        }
        let size = self.json.len() - before;
        if size > self.largest_size {
            self.largest_size = size;
            name.clone_into(&mut self.largest_key);
        }
        Ok(())
    }

    fn finish(mut self, limit: usize) -> Result<Payload, PayloadError> {
        if self.json == "{" {
            return Err(PayloadError::Empty);
        }
        self.json.push('}');
        let size = self.json.len();
        if size > limit {
            return Err(PayloadError::TooLarge {
                size,
                limit,
                largest_key: self.largest_key,
                largest_size: self.largest_size,
            });
        }
        Ok(Payload::Ios(Bytes::from(self.json)))
    }
}

/// Appends a key and its colon, after a comma if it is not the first.
fn begin_key(out: &mut String, name: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    json::write_string(out, name);
    out.push(':');
}

/// An entry of an object once splices are resolved.
enum Entry<'a> {
    /// The profile's own.
    Key(&'a Key),
    /// Spliced in from the event's `data`, as it is.
    Json(&'a serde_json::Value),
    /// Spliced in from an object that an expression made.
    Value(&'a Value),
}

impl Entry<'_> {
    /// Appends it as JSON; false if there is nothing to append.
    fn write(self, out: &mut String, name: &str, scope: &Value) -> Result<bool, PayloadError> {
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
    fn text(self, name: &str, scope: &Value) -> Result<Option<String>, PayloadError> {
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
fn for_each(
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

fn eval(
    formula: &super::expression::Formula,
    path: &str,
    scope: &Value,
) -> Result<Value, PayloadError> {
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
fn write_node(
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
