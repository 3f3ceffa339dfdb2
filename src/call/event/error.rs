//! What can be wrong with an event.

use std::borrow::Cow;

/// What was wrong with an event, and where. Holds no value of the event: it
/// ends up in logs and headers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct EventError {
    /// The field, as `devices[2].token`; `body` for the whole.
    pub path: String,
    /// What was wrong with it.
    pub problem: Cow<'static, str>,
}

impl EventError {
    pub(super) fn new(path: impl Into<String>, problem: impl Into<Cow<'static, str>>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
        }
    }
}
