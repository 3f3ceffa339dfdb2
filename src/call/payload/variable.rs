//! References that a profile makes without saying more about them.

use super::scope::{Found, NAMES, Name, Read, Scope};

/// A reference that needs no engine, as most are: a name, a field, a path in
/// `data`.
pub(super) enum Variable {
    Value(Read),
    /// The keys from `data` downwards.
    Data(Vec<String>),
    /// `data if data`: absent rather than empty.
    FilledData,
}

impl Variable {
    /// Reads an expression; `None` if it is none of these.
    pub(super) fn new(source: &str) -> Option<Self> {
        if source == "data if data" {
            return Some(Self::FilledData);
        }
        let mut steps = source.split('.');
        let name = steps.next()?;
        let (_, name) = NAMES.iter().find(|(known, _)| *known == name)?;
        match name {
            Name::Value(read) => steps.next().is_none().then_some(Self::Value(*read)),
            Name::Fields(_, fields) => {
                let field = steps.next().filter(|_| steps.clone().next().is_none())?;
                let found = fields.iter().find(|(known, _)| *known == field);
                found.map(|(_, read)| Self::Value(*read))
            }
            Name::Data => {
                let keys: Vec<String> = steps.map(str::to_owned).collect();
                keys.iter()
                    .all(|key| is_key(key))
                    .then_some(Self::Data(keys))
            }
        }
    }

    /// What it stands for here; `None` if that is absent.
    pub(super) fn find<'a>(&self, scope: &'a Scope<'a>) -> Option<Found<'a>> {
        match self {
            Self::Value(read) => read(scope),
            Self::Data(keys) => match keys.split_first() {
                None => Some(Found::Data(&scope.data)),
                Some((first, deeper)) => {
                    let first = scope.data.get(first);
                    let found = deeper
                        .iter()
                        .try_fold(first?, |json, key| json.get(key.as_str()))?;
                    Some(Found::Json(found)).filter(|_| !found.is_null())
                }
            },
            Self::FilledData if scope.data.is_empty() => None,
            Self::FilledData => Some(Found::Data(&scope.data)),
        }
    }
}

/// Whether this can only be a key: no call, index or operator.
fn is_key(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
