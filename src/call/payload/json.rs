//! JSON on both sides of an expression: an event's `data` as the expression
//! sees it, and a result as text. Values are written, never parsed again, so
//! nothing in them can change the structure around them.

use std::fmt::{self, Write};
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ValueKind};
use serde_json::Map;

/// The deepest nesting that is written; events are no deeper.
const MAX_DEPTH: usize = 130;

/// A JSON object, in its own order. `Debug` shows nothing of it.
pub(super) struct JsonMap(pub(super) Arc<Map<String, serde_json::Value>>);

impl fmt::Debug for JsonMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JsonMap([redacted])")
    }
}

impl Object for JsonMap {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        // As everywhere in events, null means absent.
        self.0
            .get(key)
            .filter(|value| !value.is_null())
            .map(to_value)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let keys: Vec<Value> = self.0.keys().map(Value::from).collect();
        Enumerator::Values(keys)
    }
}

/// A JSON value as an expression sees it.
pub(super) fn to_value(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(bool) => Value::from(*bool),
        serde_json::Value::Number(number) => number
            .as_u64()
            .map(Value::from)
            .or_else(|| number.as_i64().map(Value::from))
            .or_else(|| number.as_f64().map(Value::from))
            .unwrap_or_default(),
        serde_json::Value::String(text) => Value::from(text),
        serde_json::Value::Array(items) => {
            Value::from(items.iter().map(to_value).collect::<Vec<_>>())
        }
        serde_json::Value::Object(map) => Value::from_object(JsonMap(Arc::new(map.clone()))),
    }
}

/// A result that has no JSON form: bytes, not-a-number, nesting without end.
pub(super) struct NotJson;

/// Appends a value as JSON.
pub(super) fn write_value(out: &mut String, value: &Value) -> Result<(), NotJson> {
    write_at(out, value, 0)
}

fn write_at(out: &mut String, value: &Value, depth: usize) -> Result<(), NotJson> {
    if depth > MAX_DEPTH {
        return Err(NotJson);
    }
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => write_number(out, value)?,
        ValueKind::String => write_string(out, value.as_str().ok_or(NotJson)?),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            let mut comma = "";
            for item in value.try_iter().map_err(|_| NotJson)? {
                out.push_str(comma);
                comma = ",";
                write_at(out, &item, depth + 1)?;
            }
            out.push(']');
        }
        ValueKind::Map => write_map(out, value, depth)?,
        ValueKind::Bytes | ValueKind::Plain | ValueKind::Invalid | _ => return Err(NotJson),
    }
    Ok(())
}

fn write_map(out: &mut String, value: &Value, depth: usize) -> Result<(), NotJson> {
    if let Some(JsonMap(map)) = value.downcast_object_ref() {
        write_object(out, map);
        return Ok(());
    }
    out.push('{');
    let mut comma = "";
    for key in value.try_iter().map_err(|_| NotJson)? {
        let item = value.get_item(&key).map_err(|_| NotJson)?;
        if item.is_undefined() || item.is_none() {
            continue;
        }
        out.push_str(comma);
        comma = ",";
        write_string(out, key.as_str().ok_or(NotJson)?);
        out.push(':');
        write_at(out, &item, depth + 1)?;
    }
    out.push('}');
    Ok(())
}

/// Appends an object of an event as it is.
pub(super) fn write_object(out: &mut String, map: &Map<String, serde_json::Value>) {
    out.push('{');
    let mut comma = "";
    for (key, value) in map {
        out.push_str(comma);
        comma = ",";
        write_string(out, key);
        out.push(':');
        push(out, value);
    }
    out.push('}');
}

/// Appends a value as it shows itself: a number, a JSON value.
pub(super) fn push(out: &mut String, value: impl fmt::Display) {
    // A `String` takes everything.
    let _ = write!(out, "{value}");
}

fn write_number(out: &mut String, value: &Value) -> Result<(), NotJson> {
    if value.is_integer() {
        push(out, value);
        return Ok(());
    }
    let number = f64::try_from(value.clone()).map_err(|_| NotJson)?;
    let number = serde_json::Number::from_f64(number).ok_or(NotJson)?;
    push(out, number);
    Ok(())
}

/// Appends a string as JSON, quotes included (RFC 8259, section 7).
pub(super) fn write_string(out: &mut String, text: &str) {
    out.reserve(text.len() + 2);
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[from..at]);
        from = at + 1;
        if short.is_empty() {
            push(out, format_args!("\\u{byte:04x}"));
        } else {
            out.push_str(short);
        }
    }
    out.push_str(&text[from..]);
    out.push('"');
}
