//! An event's way through the engine, with providers that play a script and
//! with paused time.

mod cancels;
mod credentials;
mod lanes;
mod messages;
mod retries;
mod rings;
mod tokens;
mod traces;

/// A result with its reason.
fn pair(result: &str, reason: &str) -> (String, String) {
    (result.to_owned(), reason.to_owned())
}
