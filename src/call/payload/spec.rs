//! A profile as it is written, and its trees compiled.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::ProfileError;
use super::tree::{self, Node, Object, Rules};

/// How a cancel reaches an iOS app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelMode {
    /// Not by push; the app learns of it over its own connection.
    #[default]
    None,
    /// As a second `VoIP` push, with every field of the ring and its UUID.
    Voip,
    /// As a background push to the device's ordinary token.
    Background,
}

impl CancelMode {
    /// The name in profiles.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Voip => "voip",
            Self::Background => "background",
        }
    }
}

/// A profile as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    #[serde(default)]
    pub(super) about: String,
    #[serde(default = "empty_object")]
    pub(super) aps: Value,
    #[serde(default)]
    pub(super) ios_cancel: CancelMode,
    #[serde(default)]
    pub(super) redact: Vec<String>,
    #[serde(default)]
    pub(super) required: Vec<String>,
    #[serde(default)]
    pub(super) uuids: Vec<String>,
    pub(super) example_data: Option<Map<String, Value>>,
    pub(super) ring: Trees,
    pub(super) cancel: Option<Trees>,
}

fn empty_object() -> Value {
    Value::Object(Map::new())
}

/// One tree for both platforms, or one each.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trees {
    both: Option<Value>,
    ios: Option<Value>,
    android: Option<Value>,
}

/// What an event of one kind becomes on each platform.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    pub(super) ios: Option<Object>,
    pub(super) android: Option<Object>,
}

pub(super) fn compile_aps(name: &str, aps: &Value) -> Result<Option<Node>, ProfileError> {
    match aps {
        Value::Null => Ok(None),
        Value::Object(_) => tree::compile(aps, &mut Rules::default())
            .map(|object| Some(Node::Object(object)))
            .map_err(|e| ProfileError::new(name, format!("aps.{}", e.path), e.problem)),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            let problem = "must be an object, or null for payloads without `aps`";
            Err(ProfileError::new(name, "aps", problem))
        }
    }
}

pub(super) fn compile_trees(
    name: &str,
    kind: &str,
    trees: &Trees,
    rules: &mut Rules<'_>,
) -> Result<Compiled, ProfileError> {
    if trees.both.is_some() && (trees.ios.is_some() || trees.android.is_some()) {
        let problem = "has `both` beside a platform's own tree; write one or the other";
        return Err(ProfileError::new(name, kind, problem));
    }
    let mut compile = |platform: &str, tree: &Option<Value>| {
        let Some(tree) = tree.as_ref().or(trees.both.as_ref()) else {
            return Ok(None);
        };
        let object = tree::compile(tree, rules).map_err(|e| {
            ProfileError::new(name, format!("{kind}.{platform}.{}", e.path), e.problem)
        })?;
        if object.writes("aps") && (platform == "android" || trees.both.is_some()) {
            let problem = "only Apple knows it: set `aps` of the profile, or of the tree `ios`";
            return Err(ProfileError::new(
                name,
                format!("{kind}.{platform}.aps"),
                problem,
            ));
        }
        Ok(Some(object))
    };
    Ok(Compiled {
        ios: compile("ios", &trees.ios)?,
        android: compile("android", &trees.android)?,
    })
}
