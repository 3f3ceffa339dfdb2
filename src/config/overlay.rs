//! What the environment lays over the file: `RINGPUSH__AMQP__URL` is
//! `amqp.url`.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// What such a variable begins with, and what parts table and key.
const MARK: &str = "RINGPUSH__";
const SEPARATOR: &str = "__";

/// One variable of ours.
#[derive(Clone, Debug)]
struct Variable {
    name: String,
    key: String,
    value: String,
}

/// The variables that count.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlay(Vec<Variable>);

/// The key that cannot be read, if it is one, and why.
pub(super) type Unreadable = (Option<String>, String);

impl Overlay {
    /// Those of this process.
    pub(super) fn of_process() -> Self {
        let own = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let key = key(&name)?;
            let value = value.to_string_lossy().into_owned();
            Some(Variable { name, key, value })
        });
        Self(own.collect())
    }

    /// Names of the variables that set this key, something below it, or a key
    /// that the text is about: so that nobody looks for the mistake in the file.
    pub(super) fn behind(&self, key: Option<&str>, text: &str) -> Vec<String> {
        let inside = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let named = |wanted: &str| {
            let mut words = text.split(|c| !inside(c));
            words.any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(wanted))
        };
        let at = |wanted: &str| {
            let rest = key.and_then(|key| wanted.strip_prefix(key));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let found = self.0.iter().filter(|v| at(&v.key) || named(&v.key));
        found.map(|variable| variable.name.clone()).collect()
    }

    /// Lays the variables over a table and reads it as a whole. Their values
    /// are texts; where a number or a truth value is wanted, they are read as
    /// such.
    ///
    /// # Errors
    /// The first key that cannot be read, and why.
    pub(super) fn read<T: DeserializeOwned>(&self, mut table: Table) -> Result<T, Unreadable> {
        for variable in &self.0 {
            lay(&mut table, &variable.key, &variable.value)?;
        }
        loop {
            let value = Value::Table(table.clone());
            let error = match serde_path_to_error::deserialize(value) {
                Ok(read) => return Ok(read),
                Err(error) => error,
            };
            let path = error.path().to_string();
            let ours = self.0.iter().any(|variable| variable.key == path);
            if ours && retype(&mut table, &path) {
                continue;
            }
            let key = (path != ".").then_some(path);
            return Err((key, error.into_inner().message().to_owned()));
        }
    }
}

fn key(name: &str) -> Option<String> {
    let start = name.get(..MARK.len())?;
    let rest = &name[MARK.len()..];
    let ours = start.eq_ignore_ascii_case(MARK) && !rest.is_empty();
    ours.then(|| rest.to_ascii_lowercase().replace(SEPARATOR, "."))
}

fn lay(table: &mut Table, key: &str, value: &str) -> Result<(), Unreadable> {
    if key.split('.').next() == Some("apps") {
        let problem = "keys of [apps] cannot be set by the environment; write it into the file";
        return Err((Some(key.to_owned()), problem.to_owned()));
    }
    let (mut place, mut last) = (table, key);
    while let Some((first, rest)) = last.split_once('.') {
        let inner = place
            .entry(first)
            .or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = inner else {
            let problem = "is not a table in the file; mend it there".to_owned();
            return Err((Some(first.to_owned()), problem));
        };
        (place, last) = (inner, rest);
    }
    place.insert(last.to_owned(), Value::String(value.to_owned()));
    Ok(())
}

/// Makes a number or a truth value of a text that stands where none is wanted.
fn retype(table: &mut Table, path: &str) -> bool {
    let mut parts = path.split('.');
    let mut place = parts.next().and_then(|first| table.get_mut(first));
    for part in parts {
        place = place
            .and_then(Value::as_table_mut)
            .and_then(|table| table.get_mut(part));
    }
    let Some(place) = place else { return false };
    let Some(text) = place.as_str().map(str::trim) else {
        return false;
    };
    let typed = (text.parse().map(Value::Boolean).ok())
        .or_else(|| text.parse().map(Value::Integer).ok())
        .or_else(|| text.parse().map(Value::Float).ok());
    typed.map(|typed| *place = typed).is_some()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Part {
        name: String,
        count: u16,
        share: f64,
        on: bool,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Whole {
        part: Part,
    }

    fn with(variables: &[(&str, &str)], text: &str) -> Result<Part, Unreadable> {
        let own = variables.iter().filter_map(|(name, value)| {
            Some(Variable {
                name: (*name).to_owned(),
                key: key(name)?,
                value: (*value).to_owned(),
            })
        });
        let overlay = Overlay(own.collect());
        let whole: Whole = overlay.read(toml::from_str(text).unwrap())?;
        Ok(whole.part)
    }

    #[test]
    fn a_variable_is_read_as_what_its_key_wants() {
        let all = [
            ("RINGPUSH__PART__COUNT", "250"),
            ("RINGPUSH__PART__SHARE", "1"),
            ("RINGPUSH__PART__ON", "true"),
            ("RINGPUSH__PART__NAME", "007"),
            ("RINGPUSH_OTHER", "x"),
            ("PATH", "/bin"),
        ];
        let part = with(&all, "[part]\ncount = 3\nname = \"x\"").unwrap();
        assert_eq!((part.count, part.on), (250, true));
        assert!((part.share - 1.0).abs() < f64::EPSILON);
        // A text stays as it was written.
        assert_eq!(part.name, "007");
        for text in ["true", "1e3", "1.50", ""] {
            let part = with(&[("ringpush__part__name", text)], "").unwrap();
            assert_eq!(part.name, text);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (name, value, key, words) in [
            ("RINGPUSH__PART__COUNT", "many", "part.count", "string"),
            ("RINGPUSH__PART__COUNT", "65536", "part.count", "65536"),
            ("RINGPUSH__PART__COUNT", "1.5", "part.count", "1.5"),
            ("RINGPUSH__PART__ON", "maybe", "part.on", "boolean"),
            ("RINGPUSH__PART__NOPE", "1", "part.nope", "unknown field"),
            ("RINGPUSH__NOPE", "1", "nope", "unknown field"),
            ("RINGPUSH__APPS__X__PROFILE", "p", "apps.x.profile", "file"),
        ] {
            let (found, problem) = with(&[(name, value)], "").unwrap_err();
            assert_eq!(found.as_deref(), Some(key));
            assert!(problem.contains(words), "{problem}");
        }
    }

    #[test]
    fn a_text_is_traced_to_the_variable_behind_its_key() {
        let variable = |name: &str| Variable {
            name: name.to_owned(),
            key: key(name).unwrap(),
            value: String::new(),
        };
        let overlay = Overlay(vec![
            variable("RINGPUSH__AMQP__URL"),
            variable("RINGPUSH__RING__TTL"),
        ]);
        let behind = |text| overlay.behind(None, text);
        assert_eq!(
            behind("check user and password in amqp.url (the user"),
            ["RINGPUSH__AMQP__URL"]
        );
        assert_eq!(behind("ring.ttl: too long"), ["RINGPUSH__RING__TTL"]);
        assert_eq!(behind("mend amqp.url."), ["RINGPUSH__AMQP__URL"]);
        assert!(behind("amqp.urls, ring.ttl_x, the ring").is_empty());
        assert_eq!(overlay.behind(Some("ring"), ""), ["RINGPUSH__RING__TTL"]);
        assert_eq!(
            overlay.behind(Some("ring.ttl"), ""),
            ["RINGPUSH__RING__TTL"]
        );
        assert!(overlay.behind(Some("rin"), "").is_empty());
    }
}
