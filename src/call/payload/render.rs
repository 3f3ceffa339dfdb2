//! From a compiled tree to the bytes of a payload.

use bytes::Bytes;

use super::error::PayloadError;
use super::json;
use super::reserved::is_reserved;
use super::scope::Scope;
use super::tree::{Node, Object};
use super::write::{Form, begin_key, for_each, write_node};
use super::{ANDROID_LIMIT, AndroidData, Payload};
use crate::call::event::Sealed;
use crate::call::time::Timestamp;

/// Room for a payload as most are, in bytes.
const ROOM: usize = 768;

/// Renders an iOS payload: `aps` first, if there is one, then the tree.
pub(super) fn ios(
    aps: Option<&Node>,
    tree: &Object,
    scope: &Scope<'_>,
    limit: usize,
) -> Result<Payload, PayloadError> {
    let mut body = Body::new();
    let aps = aps.filter(|_| !tree.writes("aps"));
    if let Some(aps) = aps {
        body.json("aps", |out| write_node(out, Form::Json, aps, "aps", scope))?;
    }
    for_each(tree, scope, |name, entry| {
        // A spliced `aps` would stand beside the profile's own.
        if name == "aps" && aps.is_some() {
            return Ok(());
        }
        body.json(name, |out| entry.write(out, Form::Json, name, scope))
    })?;
    body.into_ios(limit)
}

/// Renders an iOS payload that only the phone can read.
pub(super) fn sealed_ios(
    aps: Option<&Node>,
    sealed: &Sealed,
    clear: &Clear,
    scope: &Scope<'_>,
    limit: usize,
) -> Result<Payload, PayloadError> {
    let mut body = Body::new();
    if let Some(aps) = aps {
        body.json("aps", |out| write_node(out, Form::Json, aps, "aps", scope))?;
    }
    body.json("sealed", |out| {
        write_sealed(out, sealed);
        Ok(true)
    })?;
    body.json("call_uuid", |out| {
        json::write_string(out, &clear.call_uuid);
        Ok(true)
    })?;
    body.json("expires_at", |out| {
        json::push(out, clear.expires_at.millis());
        Ok(true)
    })?;
    body.into_ios(limit)
}

/// Renders an Android payload: every value a string.
pub(super) fn android(tree: &Object, scope: &Scope<'_>) -> Result<Payload, PayloadError> {
    let mut body = Body::new();
    for_each(tree, scope, |name, entry| {
        let written = body.text(name, |out| entry.write(out, Form::Text, name, scope))?;
        if written && is_reserved(name) {
            let key = name.to_owned();
            return Err(PayloadError::ReservedKey { key });
        }
        Ok(())
    })?;
    body.into_android()
}

/// Renders an Android payload that only the phone can read.
pub(super) fn sealed_android(sealed: &Sealed, clear: &Clear) -> Result<Payload, PayloadError> {
    let mut body = Body::new();
    body.text("sealed", |out| {
        write_sealed(out, sealed);
        Ok(true)
    })?;
    body.text("call_uuid", |out| {
        out.push_str(&clear.call_uuid);
        Ok(true)
    })?;
    body.text("expires_at", |out| {
        json::push(out, clear.expires_at.millis());
        Ok(true)
    })?;
    body.into_android()
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

/// A JSON object in the making.
struct Body {
    json: String,
    /// A value on its way to becoming a JSON string.
    text: String,
    /// What FCM counts: keys and values without quotes and escapes, in bytes.
    text_size: usize,
    /// Where the largest entry's key begins, and what counts of that entry.
    largest: (usize, usize),
}

impl Body {
    fn new() -> Self {
        let mut json = String::with_capacity(ROOM);
        json.push('{');
        Self {
            json,
            text: String::new(),
            text_size: 0,
            largest: (0, 0),
        }
    }

    /// Writes a key and its value as JSON, unless that turns out to be absent.
    fn json(
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
        if size > self.largest.1 {
            self.largest = (before, size);
        }
        Ok(())
    }

    /// Writes a key and its value as a string; false if that turns out to be
    /// absent.
    fn text(
        &mut self,
        name: &str,
        value: impl FnOnce(&mut String) -> Result<bool, PayloadError>,
    ) -> Result<bool, PayloadError> {
        self.text.clear();
        if !value(&mut self.text)? {
            return Ok(false);
        }
        let before = self.json.len();
        begin_key(&mut self.json, name);
        json::write_string(&mut self.json, &self.text);
        let size = name.len() + self.text.len();
        self.text_size += size;
        if size >= self.largest.1 {
            self.largest = (before, size);
        }
        Ok(true)
    }

    fn into_ios(mut self, limit: usize) -> Result<Payload, PayloadError> {
        self.end(self.json.len() + 1, limit)?;
        Ok(Payload::Ios(Bytes::from(self.json)))
    }

    fn into_android(mut self) -> Result<Payload, PayloadError> {
        self.end(self.text_size, ANDROID_LIMIT)?;
        Ok(Payload::Android(AndroidData {
            json: self.json,
            size: self.text_size,
        }))
    }

    /// Ends a payload of so many bytes, as the provider counts them.
    fn end(&mut self, size: usize, limit: usize) -> Result<(), PayloadError> {
        if self.json == "{" {
            return Err(PayloadError::Empty);
        }
        if size > limit {
            return Err(PayloadError::TooLarge {
                size,
                limit,
                largest_key: self.largest_key(),
                largest_size: self.largest.1,
            });
        }
        self.json.push('}');
        Ok(())
    }

    fn largest_key(&self) -> String {
        let entry = self.json[self.largest.0..].trim_start_matches(',');
        let mut keys = serde_json::Deserializer::from_str(entry).into_iter();
        keys.next().and_then(Result::ok).unwrap_or_default()
    }
}
