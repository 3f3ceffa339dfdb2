//! Fields of the event that a profile keeps from the providers.

use std::sync::Arc;

use serde_json::{Map, Value};

/// What can be hidden besides `data.<key>`.
pub(super) const FIELDS: &str = "caller.id, caller.name, caller.handle, caller.avatar_url, \
    callee, callee.name, conversation, conversation.name, data.<key>";

/// What a profile hides: expressions see these fields as absent.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one switch for each field, and they do not depend on each other"
)]
pub(super) struct Redact {
    pub(super) caller_id: bool,
    pub(super) caller_name: bool,
    pub(super) caller_handle: bool,
    pub(super) caller_avatar_url: bool,
    pub(super) callee: bool,
    pub(super) callee_name: bool,
    pub(super) conversation: bool,
    pub(super) conversation_name: bool,
    data: Vec<String>,
}

impl Redact {
    /// Reads a profile's list; the error is the entry that is none of [`FIELDS`].
    pub(super) fn new(fields: &[String]) -> Result<Self, &str> {
        let mut redact = Self::default();
        for field in fields {
            let switch = match field.as_str() {
                "caller.id" => &mut redact.caller_id,
                "caller.name" => &mut redact.caller_name,
                "caller.handle" => &mut redact.caller_handle,
                "caller.avatar_url" => &mut redact.caller_avatar_url,
                "callee" => &mut redact.callee,
                "callee.name" => &mut redact.callee_name,
                "conversation" => &mut redact.conversation,
                "conversation.name" => &mut redact.conversation_name,
                other => {
                    let key = other.strip_prefix("data.").filter(|key| !key.is_empty());
                    redact.data.push(key.ok_or(other)?.to_owned());
                    continue;
                }
            };
            *switch = true;
        }
        Ok(redact)
    }

    /// `data` without what is hidden in it.
    pub(super) fn data(&self, data: &Arc<Map<String, Value>>) -> Arc<Map<String, Value>> {
        if !self.data.iter().any(|key| data.contains_key(key)) {
            return Arc::clone(data);
        }
        let visible = data.iter().filter(|(key, _)| !self.data.contains(key));
        Arc::new(visible.map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}
