//! From a compiled tree to the bytes of a payload.

use bytes::Bytes;

use super::error::PayloadError;
use super::json;
use super::reserved::is_reserved;
use super::scope::{Found, Scope};
use super::tree::{Node, Object};
use super::write::{Form, begin_key, for_each, write_found, write_node};
use super::{AndroidData, Payload};
use crate::call::event::{Event, Sealed};

/// Room for a payload as most are, in bytes.
const ROOM: usize = 768;

/// Room for one value as most are, in bytes.
const TEXT_ROOM: usize = 256;

/// What a platform makes of a payload.
pub(super) struct Shape<'a> {
    /// JSON values for iOS, strings for Android.
    pub(super) form: Form,
    /// What stands first, unless the tree has its own.
    pub(super) aps: Option<&'a Node>,
    /// In bytes, as the provider counts them.
    pub(super) limit: usize,
}

/// Renders a tree.
pub(super) fn open(
    shape: &Shape<'_>,
    tree: &Object,
    scope: &Scope<'_>,
) -> Result<Payload, PayloadError> {
    let mut body = Body::new(shape.form);
    let aps = shape.aps.filter(|_| !tree.writes("aps"));
    body.aps(aps, scope)?;
    for_each(tree, scope, |name, entry| {
        // A spliced `aps` would stand beside the profile's own.
        if name == "aps" && aps.is_some() {
            return Ok(());
        }
        body.entry(name, |out| entry.write(out, shape.form, name, scope))
    })?;
    body.end(shape.limit)
}

/// Renders a payload that only the phone can read.
pub(super) fn sealed(
    shape: &Shape<'_>,
    sealed: &Sealed,
    event: &Event,
    scope: &Scope<'_>,
) -> Result<Payload, PayloadError> {
    let mut body = Body::new(shape.form);
    body.aps(shape.aps, scope)?;
    body.entry("sealed", |out| {
        out.push('{');
        for (name, text) in [("kid", &sealed.kid), ("ct", &sealed.ct)] {
            begin_key(out, name);
            json::write_string(out, text);
        }
        out.push('}');
        Ok(true)
    })?;
    body.entry("call_uuid", |out| {
        write_found(out, shape.form, Found::Uuid(event.call_uuid));
        Ok(true)
    })?;
    body.entry("expires_at", |out| {
        json::push(out, event.expires_at.millis());
        Ok(true)
    })?;
    body.end(shape.limit)
}

/// A payload in the making: a JSON object.
struct Body {
    json: String,
    form: Form,
    /// A value on its way to becoming a JSON string.
    text: String,
    /// What FCM counts: keys and values without quotes and escapes, in bytes.
    text_size: usize,
    /// Where the largest entry begins, and what counts of it.
    largest: (usize, usize),
}

impl Body {
    fn new(form: Form) -> Self {
        let mut json = String::with_capacity(ROOM);
        json.push('{');
        Self {
            json,
            form,
            text: String::with_capacity(if form == Form::Text { TEXT_ROOM } else { 0 }),
            text_size: 0,
            largest: (0, 0),
        }
    }

    fn aps(&mut self, aps: Option<&Node>, scope: &Scope<'_>) -> Result<(), PayloadError> {
        match aps {
            Some(aps) => self.entry("aps", |out| write_node(out, Form::Json, aps, "aps", scope)),
            None => Ok(()),
        }
    }

    /// Writes a key and its value, unless that turns out to be absent.
    fn entry(
        &mut self,
        name: &str,
        value: impl FnOnce(&mut String) -> Result<bool, PayloadError>,
    ) -> Result<(), PayloadError> {
        let before = self.json.len();
        let size = match self.form {
            Form::Json => {
                begin_key(&mut self.json, name);
                if !value(&mut self.json)? {
                    self.json.truncate(before);
                }
                self.json.len() - before
            }
            Form::Text => {
                self.text.clear();
                if !value(&mut self.text)? {
                    return Ok(());
                }
                if is_reserved(name) {
                    let key = name.to_owned();
                    return Err(PayloadError::ReservedKey { key });
                }
                begin_key(&mut self.json, name);
                json::write_string(&mut self.json, &self.text);
                name.len() + self.text.len()
            }
        };
        self.text_size += size;
        if size > self.largest.1 {
            self.largest = (before, size);
        }
        Ok(())
    }

    fn end(mut self, limit: usize) -> Result<Payload, PayloadError> {
        if self.json == "{" {
            return Err(PayloadError::Empty);
        }
        self.json.push('}');
        let size = match self.form {
            Form::Json => self.json.len(),
            Form::Text => self.text_size,
        };
        if size > limit {
            return Err(PayloadError::TooLarge {
                size,
                limit,
                largest_key: self.largest_key(),
                largest_size: self.largest.1,
            });
        }
        let json = self.json;
        Ok(match self.form {
            Form::Json => Payload::Ios(Bytes::from(json)),
            Form::Text => Payload::Android(AndroidData { json, size }),
        })
    }

    fn largest_key(&self) -> String {
        let entry = self.json[self.largest.0..].trim_start_matches(',');
        let mut keys = serde_json::Deserializer::from_str(entry).into_iter();
        keys.next().and_then(Result::ok).unwrap_or_default()
    }
}
