//! Requests that ended without an answer: was the push processed or not?

use std::error::Error;

use crate::call::push::{Answer, Class};

/// Says what a failed exchange means.
///
/// Not processed, by proof: no connection could be made; the request was
/// still waiting for a stream when the connection ended (hyper calls that
/// cancelled, or its dispatch task gone); the server refused the stream or
/// said GOAWAY below it ("HTTP/2", 6.8 and 8.7). Anything else may have been
/// processed.
pub(super) fn classify(error: &reqwest::Error) -> Answer {
    let mut answer = if error.is_connect() {
        Answer::new(Class::NotProcessed).unstarted()
    } else {
        chain(error)
            .find_map(from_hyper)
            .or_else(|| chain(error).find_map(from_h2))
            .unwrap_or_else(|| Answer::new(Class::Unclear))
    };
    let slow = !error.is_connect() && error.is_timeout();
    answer.reason = Some(if slow { "timeout" } else { "connection" }.to_owned());
    // The error's own text would quote the address; its cause does not.
    answer.detail = chain(error).last().map(ToString::to_string);
    answer
}

/// The attempt's time was up while its request was under way.
pub(super) fn timed_out() -> Answer {
    Answer::new(Class::Unclear).because("timeout")
}

/// The causes of an error, without itself.
fn chain<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

fn from_hyper(cause: &(dyn Error + 'static)) -> Option<Answer> {
    let error = cause.downcast_ref::<hyper::Error>()?;
    // A body that fails is the other "user" error; ours are whole in memory.
    (error.is_canceled() || error.is_user()).then(|| Answer::new(Class::NotProcessed).unstarted())
}

fn from_h2(cause: &(dyn Error + 'static)) -> Option<Answer> {
    let error = cause.downcast_ref::<h2::Error>()?;
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    // h2 ends a stream with the peer's GOAWAY only if it is above the last
    // one that the peer says it has looked at.
    let gone_away = error.is_go_away();
    (error.is_remote() && (refused || gone_away)).then(|| Answer::new(Class::NotProcessed))
}

#[cfg(test)]
mod tests;
