//! What the failure of a request's connection says about the request.

use h2::Reason;

use crate::call::push::Class;

/// The class of an attempt that ended in `error` after its request had been
/// given to HTTP/2.
///
/// Provably not processed are (RFC 9113, 6.8 and 8.7): a stream refused with
/// `REFUSED_STREAM`, and a stream above the last one of the peer's GOAWAY,
/// which is the only way in which h2 ends a *stream* with a GOAWAY that came
/// from the peer. A GOAWAY of our own (a protocol error of the peer), a reset
/// and a broken connection leave it open.
#[must_use]
pub(super) fn classify(error: &h2::Error) -> Class {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    let above_last = error.is_go_away() && error.is_remote();
    if refused || above_last {
        Class::NotProcessed
    } else {
        Class::Unclear
    }
}

/// The error for people. The debug data of a GOAWAY is part of it: `APNs` puts
/// its reason there.
#[must_use]
pub(super) fn describe(error: &h2::Error) -> String {
    let text = error.to_string();
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
#[path = "fault_tests.rs"]
mod tests;
