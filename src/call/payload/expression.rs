//! The expressions at a tree's leaves: what they can use, and what bounds them.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};

use super::json;
use super::scope::{NAMES, Name, Scope};
use super::variable::Variable;

/// Instructions that one expression may execute. Expressions have no loops, so
/// this is far above any that a person would write.
const FUEL: u64 = 10_000;

/// The longest expression, in bytes.
const MAX_LENGTH: usize = 4096;

/// The filters that the engine below has.
const FILTERS: [&str; 8] = [
    "default", "int", "string", "json", "lower", "upper", "trim", "truncate",
];

/// One engine for all profiles. It starts empty: no function of it does I/O,
/// knows the time, or makes much out of little.
static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut engine = Environment::empty();
    engine.set_undefined_behavior(UndefinedBehavior::Chainable);
    engine.set_fuel(Some(FUEL));
    engine.add_test("defined", |value: &Value| !value.is_undefined());
    engine.add_test("string", |value: &Value| value.kind() == ValueKind::String);
    engine.add_test("number", |value: &Value| value.kind() == ValueKind::Number);
    engine.add_test("mapping", |value: &Value| value.kind() == ValueKind::Map);
    engine.add_filter("default", default);
    engine.add_filter("int", int);
    engine.add_filter("string", string);
    engine.add_filter("json", json_text);
    engine.add_filter("lower", |value: &Value| on_text(value, str::to_lowercase));
    engine.add_filter("upper", |value: &Value| on_text(value, str::to_uppercase));
    engine.add_filter("trim", |value: &Value| {
        on_text(value, |text| text.trim().to_owned())
    });
    engine.add_filter("truncate", |value: &Value, characters: usize| {
        on_text(value, |text| text.chars().take(characters).collect())
    });
    engine
});

fn default(value: &Value, other: &Value) -> Value {
    let absent = value.is_undefined() || value.is_none();
    if absent { other.clone() } else { value.clone() }
}

/// A text changed; what is no text stays as it is, undefined too.
fn on_text(value: &Value, change: impl FnOnce(&str) -> String) -> Value {
    value
        .as_str()
        .map_or_else(|| value.clone(), |text| Value::from(change(text)))
}

/// The whole number that a value is or spells; otherwise undefined, so that
/// the key is left out rather than wrong.
fn int(value: &Value) -> Value {
    let number = value.as_str().map_or_else(
        || i64::try_from(value.clone()).ok(),
        |text| text.trim().parse().ok(),
    );
    number.map_or(Value::UNDEFINED, Value::from)
}

/// A scalar as text; undefined stays undefined.
fn string(value: &Value) -> Value {
    if matches!(value.kind(), ValueKind::Bool | ValueKind::Number) {
        Value::from(value.to_string())
    } else {
        value.clone()
    }
}

fn json_text(value: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Ok(Value::UNDEFINED);
    }
    let mut out = String::new();
    json::write_value(&mut out, value)
        .map_err(|_| Error::new(ErrorKind::BadSerialization, "has no JSON form"))?;
    Ok(Value::from(out))
}

/// A compiled expression.
pub(super) enum Expression {
    /// One that is only a reference, read without the engine.
    Variable(Variable),
    /// Any other.
    Computed {
        code: minijinja::Expression<'static, 'static>,
        /// The names that it uses.
        names: Vec<&'static str>,
    },
}

impl Expression {
    /// Compiles an expression; the error says what is wrong with it.
    pub(super) fn new(source: &str) -> Result<Self, Cow<'static, str>> {
        if source.len() > MAX_LENGTH {
            return Err("the expression is longer than 4096 bytes".into());
        }
        let compiled = ENGINE.compile_expression_owned(source.to_owned());
        let code = compiled.map_err(|error| -> Cow<'static, str> {
            let detail = error.detail().unwrap_or("not understood");
            format!("not an expression: {detail}").into()
        })?;
        let paths = code.undeclared_variables(true);
        let names = paths
            .iter()
            .map(|path| known(path))
            .collect::<Result<_, _>>()?;
        for filter in filters(source) {
            if !FILTERS.contains(&filter) {
                let known = FILTERS.join(", ");
                return Err(format!("unknown filter `{filter}`; there are {known}").into());
            }
        }
        Ok(match Variable::new(source) {
            Some(variable) => Self::Variable(variable),
            None => Self::Computed { code, names },
        })
    }
}

/// Evaluates an expression that uses these names. The error is of the engine's
/// kind, without its text, which may quote values.
pub(super) fn compute(
    code: &minijinja::Expression<'_, '_>,
    names: &[&'static str],
    scope: &Scope<'_>,
) -> Result<Value, Cow<'static, str>> {
    code.eval(scope.values(names))
        .map_err(|error| error.kind().to_string().into())
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Expression")
    }
}

/// The filters that an expression names. The engine itself only misses one
/// when it gets there, which may be during a call.
fn filters(source: &str) -> impl Iterator<Item = &str> {
    let mut quote = None;
    let mut escaped = false;
    let pipes = source.char_indices().filter(move |(_, c)| {
        let after_escape = escaped;
        escaped = quote.is_some() && *c == '\\' && !after_escape;
        match (quote, *c) {
            (None, '\'' | '"') => quote = Some(*c),
            (None, '|') => return true,
            (Some(open), c) if c == open && !after_escape => quote = None,
            (None | Some(_), _) => {}
        }
        false
    });
    pipes.map(|(at, _)| {
        let rest = source[at + 1..].trim_start();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        &rest[..end.unwrap_or(rest.len())]
    })
}

/// The name at the head of a path that an expression uses.
fn known(path: &str) -> Result<&'static str, Cow<'static, str>> {
    let mut steps = path.split('.');
    let name = steps.next().unwrap_or_default();
    let Some((name, kind)) = NAMES.iter().find(|(known, _)| *known == name) else {
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        return Err(format!("unknown name `{name}`; there are {}", names.join(", ")).into());
    };
    match (steps.next(), kind) {
        (None, _) | (Some(_), Name::Data) => Ok(name),
        (Some(field), Name::Fields(_, fields)) => {
            if fields.iter().any(|(known, _)| *known == field) {
                return Ok(name);
            }
            let fields: Vec<&str> = fields.iter().map(|(known, _)| *known).collect();
            let fields = fields.join(", ");
            Err(format!("`{name}` has no field `{field}`; it has {fields}").into())
        }
        (Some(field), Name::Value(_)) => {
            Err(format!("`{name}` has no fields, so no `{field}`").into())
        }
    }
}
