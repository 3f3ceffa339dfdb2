//! One thing that was looked at.

use serde::Serialize;

use crate::cli::explain::find;

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// In order.
    Ok,
    /// It works, but not for long or not as well as it could.
    Warning,
    /// It does not work.
    Failed,
    /// It was not looked at.
    Skipped,
}

impl State {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// What was looked at, what was found, and the cure.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Proof {
    /// How it went.
    pub(super) state: State,
    /// What was looked at.
    pub(super) what: String,
    /// What was found.
    pub(super) found: String,
    /// What to do about it.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub(super) cure: Option<String>,
}

impl Proof {
    fn new(state: State, what: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            state,
            what: what.into(),
            found: found.into(),
            cure: None,
        }
    }

    pub(super) fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(State::Ok, what, found)
    }

    pub(super) fn skipped(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(State::Skipped, what, why)
    }

    pub(super) fn warning(
        what: impl Into<String>,
        found: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self {
            cure: Some(cure.into()),
            ..Self::new(State::Warning, what, found)
        }
    }

    pub(super) fn failed(
        what: impl Into<String>,
        found: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self {
            cure: Some(cure.into()),
            ..Self::new(State::Failed, what, found)
        }
    }

    /// Of an error whose text ends with its cure, behind the last `mark`.
    pub(super) fn error(what: impl Into<String>, text: &str, mark: &str) -> Self {
        match text.split_once(mark) {
            Some((found, cure)) => Self::failed(what, found, cure),
            None => Self::new(State::Failed, what, text),
        }
    }
}

/// What a reason means, and the cure.
pub(super) fn meaning(reason: &str, detail: Option<&str>) -> (String, &'static str) {
    let entry = find(reason);
    let means = entry.map_or("an answer that is not known", |entry| entry.means.as_str());
    let cure = entry.map_or("try again", |entry| entry.next.as_str());
    let detail = detail.map_or_else(String::new, |detail| format!(" ({detail})"));
    (format!("{reason}{detail}: {means}"), cure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_cut_into_what_was_found_and_the_cure() {
        let proof = Proof::error("key", "not a key; download it again", "; ");
        assert_eq!(proof.found, "not a key");
        assert_eq!(proof.cure.as_deref(), Some("download it again"));
        assert_eq!(Proof::error("key", "broken", "; ").cure, None);
    }
}
