//! From a compiled tree to the bytes of a payload.

use bytes::Bytes;
use minijinja::Value;

use super::error::PayloadError;
use super::json;
use super::reserved::is_reserved;
use super::tree::{Node, Object};
use super::write::{begin_key, for_each, write_node};
use super::{ANDROID_LIMIT, Payload};
use crate::call::event::Sealed;
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
