//! One step of a rule, as it is played.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::file::StepFile;

/// One thing that happens, how late, and how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StepFile", into = "StepFile")]
pub struct Step {
    /// What happens.
    pub effect: Effect,
    /// Before it happens.
    pub delay: Option<Duration>,
    /// How the answer's body is sent, where there is an answer.
    pub body: Body,
    /// For how many requests; 1 if neither this nor `window` is given.
    pub times: Option<u32>,
    /// From the first request it meets, for so long.
    pub window: Option<Duration>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The server answers by its own rules.
    Honest,
    /// This answer.
    Answer {
        /// HTTP status.
        status: u16,
        /// The provider's word, put into that provider's error form.
        reason: Option<String>,
        /// `APNs` 410: milliseconds since 1970.
        timestamp: Option<u64>,
        /// The header `retry-after`.
        retry_after: Option<RetryAfter>,
        /// This body, instead of one made from the reason.
        body: Option<String>,
    },
    /// No answer, ever.
    Hang,
    /// `RST_STREAM` with this code.
    Reset(u32),
    /// The connection ends with a TCP reset.
    TcpReset,
    /// GOAWAY with this reason; `processed` says whether its last stream is
    /// this request's (then it is answered) or one before.
    GoAway {
        /// Whether this request is covered.
        processed: bool,
        /// The word in the debug data.
        reason: String,
    },
    /// The connection reads and answers nothing any more, TCP stays open.
    BlackHole,
    /// SETTINGS with this limit of streams, then the server's own answer.
    MaxStreams(u32),
    /// A new connection gets no TLS handshake (and on the token server no
    /// answer).
    Stall,
    /// The server's own answer, and no new connection for so long.
    Refuse(Duration),
    /// Every connection is reset and none accepted for so long.
    Outage(Duration),
}

/// The two forms of `retry-after`, RFC 9110, section 10.2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RetryAfter {
    /// As a number.
    Seconds(u64),
    /// As an HTTP date, so far from now.
    Date {
        /// Seconds from now.
        date_in: u64,
    },
}

/// How an answer's body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Body {
    /// At once.
    #[default]
    Whole,
    /// The headers, and then nothing.
    Never,
    /// The headers, and the body after so long.
    After(Duration),
}

impl Step {
    /// This effect, for one request.
    #[must_use]
    pub fn new(effect: Effect) -> Self {
        Self {
            effect,
            delay: None,
            body: Body::Whole,
            times: None,
            window: None,
        }
    }

    /// An answer with a status and the provider's word.
    #[must_use]
    pub fn answer(status: u16, reason: &str) -> Self {
        Self::new(Effect::Answer {
            status,
            reason: Some(reason.to_owned()),
            timestamp: None,
            retry_after: None,
            body: None,
        })
    }

    /// The same step for so many requests.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self {
            times: Some(times),
            ..self
        }
    }

    /// The same step for so long, from the first request it meets.
    #[must_use]
    pub fn lasting(self, window: Duration) -> Self {
        Self {
            window: Some(window),
            ..self
        }
    }

    /// The same step, so much later.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self {
            delay: Some(delay),
            ..self
        }
    }

    /// The same step with its answer's body sent so.
    #[must_use]
    pub fn with_body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    pub(super) fn is_for_connections(&self) -> bool {
        self.effect == Effect::Stall
    }

    pub(super) fn needs_http2(&self) -> bool {
        matches!(
            self.effect,
            Effect::Reset(_) | Effect::GoAway { .. } | Effect::MaxStreams(_)
        )
    }
}
