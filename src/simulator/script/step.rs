//! One step of a rule: as it is played, and as a file has it.

use std::time::Duration;

use serde::Deserialize;

/// One thing that happens, how late, and how often.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "StepFile")]
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

impl Effect {
    /// The name of a fault that takes the answer's place.
    pub(in crate::simulator) const fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Hang => Some("hang"),
            Self::Reset(_) => Some("reset"),
            Self::TcpReset => Some("tcp_reset"),
            Self::GoAway {
                processed: false, ..
            } => Some("goaway"),
            Self::BlackHole => Some("black_hole"),
            Self::Outage(_) => Some("outage"),
            Self::Honest
            | Self::Answer { .. }
            | Self::GoAway {
                processed: true, ..
            }
            | Self::MaxStreams(_)
            | Self::Stall
            | Self::Refuse(_) => None,
        }
    }
}

/// The two forms of `retry-after`, RFC 9110, section 10.2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
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

/// The file form: every key optional, at most one of the effects.
#[allow(clippy::struct_excessive_bools, reason = "each is a key of the file")]
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StepFile {
    status: Option<u16>,
    reason: Option<String>,
    timestamp: Option<u64>,
    retry_after: Option<RetryAfter>,
    body: Option<String>,
    hang: bool,
    reset: Option<String>,
    tcp_reset: bool,
    goaway: Option<GoAwayFile>,
    black_hole: bool,
    max_streams: Option<u32>,
    stall: bool,
    #[serde(with = "humantime_serde")]
    refuse: Option<Duration>,
    #[serde(with = "humantime_serde")]
    outage: Option<Duration>,
    headers_then_hang: bool,
    #[serde(with = "humantime_serde")]
    slow_body: Option<Duration>,
    #[serde(with = "humantime_serde")]
    delay: Option<Duration>,
    times: Option<u32>,
    #[serde(rename = "for", with = "humantime_serde")]
    window: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum GoAwayFile {
    Before,
    After,
}

/// The names of RFC 9113, section 7.
const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

fn code_of(name: &str) -> Result<u32, String> {
    let index = CODES.iter().position(|known| *known == name);
    index
        .and_then(|index| u32::try_from(index).ok())
        .ok_or_else(|| format!("reset: {name:?} is no HTTP/2 error code, such as REFUSED_STREAM"))
}

impl StepFile {
    fn effects(&self) -> Result<Vec<Effect>, String> {
        let mut found = Vec::new();
        if let Some(status) = self.status {
            if !(200..=599).contains(&status) {
                return Err(format!("status: {status} is not between 200 and 599"));
            }
            found.push(Effect::Answer {
                status,
                reason: self.reason.clone(),
                timestamp: self.timestamp,
                retry_after: self.retry_after,
                body: self.body.clone(),
            });
        }
        if let Some(name) = &self.reset {
            found.push(Effect::Reset(code_of(name)?));
        }
        if let Some(which) = self.goaway {
            let reason = self.reason.clone().unwrap_or_else(|| "Shutdown".to_owned());
            found.push(Effect::GoAway {
                processed: which == GoAwayFile::After,
                reason,
            });
        }
        found.extend(self.hang.then_some(Effect::Hang));
        found.extend(self.tcp_reset.then_some(Effect::TcpReset));
        found.extend(self.black_hole.then_some(Effect::BlackHole));
        found.extend(self.stall.then_some(Effect::Stall));
        found.extend(self.max_streams.map(Effect::MaxStreams));
        found.extend(self.refuse.map(Effect::Refuse));
        found.extend(self.outage.map(Effect::Outage));
        Ok(found)
    }
}

impl TryFrom<StepFile> for Step {
    type Error = String;

    fn try_from(file: StepFile) -> Result<Self, String> {
        let mut effects = file.effects()?;
        if effects.len() > 1 {
            let known = "a step does one thing: status, hang, reset, tcp_reset, goaway, \
                         black_hole, max_streams, stall, refuse or outage";
            return Err(known.to_owned());
        }
        let effect = effects.pop().unwrap_or(Effect::Honest);
        let answers = matches!(effect, Effect::Answer { .. });
        let only_answer =
            file.timestamp.is_some() || file.retry_after.is_some() || file.body.is_some();
        let reason_fits = answers || matches!(effect, Effect::GoAway { .. });
        if (only_answer && !answers) || (file.reason.is_some() && !reason_fits) {
            return Err("reason, timestamp, retry_after and body need a status".to_owned());
        }
        let body = match (file.headers_then_hang, file.slow_body) {
            (true, Some(_)) => {
                return Err("headers_then_hang and slow_body exclude each other".to_owned());
            }
            (true, None) => Body::Never,
            (false, Some(after)) => Body::After(after),
            (false, None) => Body::Whole,
        };
        if file.times == Some(0) {
            return Err("times: a step happens at least once".to_owned());
        }
        Ok(Self {
            effect,
            delay: file.delay,
            body,
            times: file.times,
            window: file.window,
        })
    }
}
