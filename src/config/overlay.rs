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

/// The key that cannot be read, if it is one, and why, without any text that
/// stands there: it may hold a password.
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
        Self::of(own)
    }

    /// A table before the keys in it, whatever order the system has.
    fn of(variables: impl Iterator<Item = Variable>) -> Self {
        let mut all: Vec<Variable> = variables.collect();
        all.sort_by(|a, b| (&a.key, &a.name).cmp(&(&b.key, &b.name)));
        Self(all)
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
            lay(&mut table, variable)?;
        }
        loop {
            let value = Value::Table(table.clone());
            let error = match serde_path_to_error::deserialize(value) {
                Ok(read) => return Ok(read),
                Err(error) => error,
            };
            let path = error.path().to_string();
            let error = error.into_inner();
            let message = error.message();
            let ours = self.0.iter().any(|variable| variable.key == path);
            // Of any other error, as that of an unknown word, a number in the
            // text's place would only make a worse one.
            let typed = ours && message.starts_with("invalid type: string");
            if typed && retype(&mut table, &path) {
                continue;
            }
            let key = (path != ".").then_some(path);
            return Err((key, unquoted(message)));
        }
    }
}

fn key(name: &str) -> Option<String> {
    let start = name.get(..MARK.len())?;
    let rest = &name[MARK.len()..];
    let ours = start.eq_ignore_ascii_case(MARK) && !rest.is_empty();
    ours.then(|| rest.to_ascii_lowercase().replace(SEPARATOR, "."))
}

fn lay(table: &mut Table, variable: &Variable) -> Result<(), Unreadable> {
    let Variable { name, key, value } = variable;
    if key.split('.').next() == Some("apps") {
        let problem = "keys of [apps] cannot be set by the environment; write it into the file";
        return Err((Some(key.clone()), problem.to_owned()));
    }
    let (mut place, mut last) = (table, key.as_str());
    while let Some((first, rest)) = last.split_once('.') {
        let inner = place
            .entry(first)
            .or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = inner else {
            let above = key.strip_suffix(rest).unwrap_or(key).trim_end_matches('.');
            let problem = format!(
                "is not a table, so that {name} can set nothing in it; unset that variable, or \
                 make it a table"
            );
            return Err((Some(above.to_owned()), problem));
        };
        (place, last) = (inner, rest);
    }
    place.insert(last.to_owned(), Value::String(value.clone()));
    Ok(())
}

/// The library's words without the text that they quote. A word that is none of
/// those to choose from is kept, unless it looks like an address.
fn unquoted(message: &str) -> String {
    const TEXT: &str = "a text";
    const UNKNOWN: &str = "unknown variant ";
    let cut = |start: usize, end: Option<usize>| {
        let rest = end.map_or("", |end| &message[end..]);
        format!("{}{TEXT}{rest}", &message[..start])
    };
    // The last end: the text may hold one itself.
    if let Some(start) = message.find("string \"") {
        return cut(start, message.rfind("\", expected ").map(|end| end + 1));
    }
    if message.starts_with(UNKNOWN) {
        let end = message.rfind("`, expected ").map(|end| end + 1);
        let word = &message[UNKNOWN.len()..end.unwrap_or(message.len())];
        if word.contains(['@', ':', '/']) {
            return cut(UNKNOWN.len(), end);
        }
    }
    message.to_owned()
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
    let truth = text.to_ascii_lowercase().parse();
    let typed = (truth.map(Value::Boolean).ok())
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
        word: Word,
    }

    #[derive(Debug, Default, PartialEq, Eq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        #[default]
        One,
        Two,
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
        let overlay = Overlay::of(own);
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
        for text in ["True", "TRUE"] {
            assert!(with(&[("RINGPUSH__PART__ON", text)], "").unwrap().on);
        }
        let part = with(&[("RINGPUSH__PART__WORD", "two")], "").unwrap();
        assert_eq!(part.word, Word::Two);
        for text in ["true", "1e3", "1.50", ""] {
            let part = with(&[("ringpush__part__name", text)], "").unwrap();
            assert_eq!(part.name, text);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (name, value, key, words) in [
            ("RINGPUSH__PART__COUNT", "many", "part.count", "a text"),
            ("RINGPUSH__PART__COUNT", "65536", "part.count", "65536"),
            ("RINGPUSH__PART__COUNT", "1.5", "part.count", "1.5"),
            ("RINGPUSH__PART__ON", "maybe", "part.on", "boolean"),
            ("RINGPUSH__PART__ON", "1", "part.on", "a boolean"),
            (
                "RINGPUSH__PART__WORD",
                "0",
                "part.word",
                "variant `0`, expe",
            ),
            (
                "RINGPUSH__PART__WORD",
                "true",
                "part.word",
                "`one` or `two`",
            ),
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
    fn no_text_is_quoted() {
        let url = "amqp://u:hunter2@h/%2f\", expected x";
        for (name, file) in [
            ("RINGPUSH__PART", "part = "),
            ("RINGPUSH__PART__COUNT", "[part]\ncount = "),
            ("RINGPUSH__PART__ON", "[part]\non = "),
            ("RINGPUSH__PART__WORD", "[part]\nword = "),
        ] {
            let file = format!("{file}{}", Value::from(url));
            let errors = [with(&[(name, url)], ""), with(&[], &file)];
            for error in errors {
                let (_, problem) = error.unwrap_err();
                assert!(!problem.contains("amqp"), "{problem}");
                let (start, end) = problem.split_once("a text, expected ").unwrap();
                assert!(!start.is_empty() && !end.contains("expected"), "{problem}");
            }
        }
    }

    #[test]
    fn a_variable_for_a_key_in_what_is_no_table_is_named_with_the_whole_key() {
        let deep = ("RINGPUSH__PART__NAME__X", "y");
        let both = [deep, ("RINGPUSH__PART__NAME", "hunter2")];
        for error in [with(&both, ""), with(&[deep], "[part]\nname = \"hunter2\"")] {
            let (key, problem) = error.unwrap_err();
            assert_eq!(key.as_deref(), Some("part.name"));
            assert!(problem.contains(deep.0), "{problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
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
