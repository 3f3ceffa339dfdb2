//! A profile's JSON tree, compiled once.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::expression::Expression;
use super::json;
use crate::call::ids;

/// The key whose value's own keys are spliced into the object it stands in.
pub(super) const SPLICE: &str = "...";

/// The deepest nesting that a profile may have.
const MAX_DEPTH: usize = 16;

/// One place in a tree.
#[derive(Debug)]
pub(super) enum Node {
    /// The same in every payload.
    Literal {
        /// As JSON.
        json: String,
        /// As Android's `data` has it.
        text: String,
    },
    /// Evaluated for every payload.
    Expression(Expression),
    /// Keys in order.
    Object(Object),
    /// Items in order.
    Array(Vec<Node>),
}

/// An object of a tree.
#[derive(Debug)]
pub(super) struct Object {
    /// The keys that the profile writes, in its order.
    pub(super) fields: Vec<Field>,
}

impl Object {
    /// Whether the profile itself writes this key.
    pub(super) fn writes(&self, key: &str) -> bool {
        self.fields.iter().any(|field| match field {
            Field::Key(known) => known.name == key,
            Field::Splice { .. } => false,
        })
    }

    /// The keys that the profile itself writes.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter_map(|field| match field {
            Field::Key(key) => Some(&*key.name),
            Field::Splice { .. } => None,
        })
    }
}

/// An entry of an object.
#[derive(Debug)]
pub(super) enum Field {
    /// A key of the profile's.
    Key(Key),
    /// The keys of an object in the event that the profile does not write itself.
    Splice {
        /// The path of the object that it stands in, for errors.
        path: String,
        /// What is spliced in.
        expression: Expression,
    },
}

/// A key of the profile's and what must hold for its value.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: String,
    /// Its path from the payload's top, for errors.
    pub(super) path: String,
    pub(super) node: Node,
    /// The apps cannot do without.
    pub(super) required: bool,
    /// The apps read it as a UUID.
    pub(super) uuid: bool,
}

/// The rules of a profile that hold for single keys, and the keys seen so far.
#[derive(Default)]
pub(super) struct Rules<'a> {
    pub(super) required: &'a [String],
    pub(super) uuids: &'a [String],
    pub(super) seen: Vec<String>,
}

/// Where in the tree, and what is wrong there.
pub(super) struct TreeError {
    pub(super) path: String,
    pub(super) problem: Cow<'static, str>,
}

fn error(path: &str, problem: impl Into<Cow<'static, str>>) -> TreeError {
    TreeError {
        path: path.to_owned(),
        problem: problem.into(),
    }
}

/// Compiles the tree of a payload: an object, or one expression that gives it.
pub(super) fn compile(tree: &Value, rules: &mut Rules<'_>) -> Result<Object, TreeError> {
    match tree {
        Value::Object(map) => object(map, "", 0, rules),
        Value::String(text) => match source(text, "payload")? {
            Some(source) => Ok(Object {
                fields: vec![Field::Splice {
                    path: "payload".to_owned(),
                    expression: expression(source, "payload")?,
                }],
            }),
            None => Err(error("payload", "must be an object or an expression")),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            Err(error("payload", "must be an object or an expression"))
        }
    }
}

fn object(
    map: &Map<String, Value>,
    path: &str,
    depth: usize,
    rules: &mut Rules<'_>,
) -> Result<Object, TreeError> {
    let mut fields = Vec::with_capacity(map.len());
    for (name, value) in map {
        if name == SPLICE {
            let Some(source) = value
                .as_str()
                .map(|t| source(t, path))
                .transpose()?
                .flatten()
            else {
                return Err(error(path, "`...` takes an expression, as \"{{ data }}\""));
            };
            fields.push(Field::Splice {
                path: if path.is_empty() { "payload" } else { path }.to_owned(),
                expression: expression(source, path)?,
            });
            continue;
        }
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        // A key that is null in the profile is never there: that is how a
        // profile takes back a key of the one it extends.
        if let Some(node) = node(value, &path, depth + 1, rules)? {
            let required = rules.required.contains(&path);
            let uuid = rules.uuids.contains(&path);
            if uuid {
                check_uuid(&node, &path)?;
            }
            rules.seen.push(path.clone());
            fields.push(Field::Key(Key {
                name: name.clone(),
                path,
                node,
                required,
                uuid,
            }));
        }
    }
    Ok(Object { fields })
}

/// A key that must be a UUID has an expression, or is one.
fn check_uuid(node: &Node, path: &str) -> Result<(), TreeError> {
    match node {
        Node::Expression(_) => Ok(()),
        Node::Literal { text, .. } if ids::parse_uuid(text).is_some() => Ok(()),
        Node::Literal { .. } | Node::Object(_) | Node::Array(_) => {
            Err(error(path, "must be a UUID with hyphens"))
        }
    }
}

fn node(
    value: &Value,
    path: &str,
    depth: usize,
    rules: &mut Rules<'_>,
) -> Result<Option<Node>, TreeError> {
    if depth > MAX_DEPTH {
        return Err(error(path, "nested deeper than 16 levels"));
    }
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::Bool(_) | Value::Number(_) => Node::Literal {
            json: value.to_string(),
            text: value.to_string(),
        },
        Value::String(text) => {
            if let Some(source) = source(text, path)? {
                Node::Expression(expression(source, path)?)
            } else {
                let mut json = String::new();
                json::write_string(&mut json, text);
                let text = text.clone();
                Node::Literal { json, text }
            }
        }
        Value::Array(items) => {
            let mut nodes = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                nodes.extend(node(item, &format!("{path}[{index}]"), depth + 1, rules)?);
            }
            Node::Array(nodes)
        }
        Value::Object(map) => Node::Object(object(map, path, depth, rules)?),
    }))
}

/// The expression in a string that is one, as `{{ caller_name }}`. A string
/// is an expression as a whole or not at all: texts with expressions inside
/// would lose their types.
fn source<'a>(text: &'a str, path: &str) -> Result<Option<&'a str>, TreeError> {
    let inner = text.trim().strip_prefix("{{");
    match inner.and_then(|text| text.strip_suffix("}}")) {
        Some(source) => Ok(Some(source.trim())),
        None if text.contains("{{") || text.contains("{%") => Err(error(
            path,
            "an expression takes the whole string; join texts inside it, \
             as \"{{ 'Call from ' ~ caller_name }}\"",
        )),
        None => Ok(None),
    }
}

fn expression(source: &str, path: &str) -> Result<Expression, TreeError> {
    Expression::new(source).map_err(|problem| error(path, problem))
}
