//! A step as a file has it: every key by itself, checked when it is read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::step::{Body, Effect, RetryAfter, Step};

/// The file form: every key optional, at most one of the effects.
#[allow(clippy::struct_excessive_bools, reason = "each is a key of the file")]
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StepFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<RetryAfter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    hang: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reset: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tcp_reset: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    goaway: Option<GoAwayFile>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    black_hole: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_streams: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stall: bool,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    refuse: Option<Duration>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    outage: Option<Duration>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    headers_then_hang: bool,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    slow_body: Option<Duration>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    delay: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u32>,
    #[serde(
        rename = "for",
        with = "humantime_serde",
        skip_serializing_if = "Option::is_none"
    )]
    window: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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
        let flags = [
            (self.hang, Effect::Hang),
            (self.tcp_reset, Effect::TcpReset),
            (self.black_hole, Effect::BlackHole),
            (self.stall, Effect::Stall),
        ];
        found.extend(
            flags
                .into_iter()
                .filter(|(set, _)| *set)
                .map(|(_, effect)| effect),
        );
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
            return Err(
                "a step does one thing: status, hang, reset, tcp_reset, goaway, \
                        black_hole, max_streams, stall, refuse or outage"
                    .to_owned(),
            );
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

impl From<Step> for StepFile {
    fn from(step: Step) -> Self {
        let mut file = Self {
            delay: step.delay,
            times: step.times,
            window: step.window,
            headers_then_hang: step.body == Body::Never,
            slow_body: if let Body::After(after) = step.body {
                Some(after)
            } else {
                None
            },
            ..Self::default()
        };
        match step.effect {
            Effect::Honest => {}
            Effect::Answer {
                status,
                reason,
                timestamp,
                retry_after,
                body,
            } => {
                file.status = Some(status);
                (file.reason, file.timestamp) = (reason, timestamp);
                (file.retry_after, file.body) = (retry_after, body);
            }
            Effect::Hang => file.hang = true,
            Effect::Reset(code) => {
                let name = CODES
                    .get(code as usize)
                    .copied()
                    .unwrap_or("INTERNAL_ERROR");
                file.reset = Some(name.to_owned());
            }
            Effect::TcpReset => file.tcp_reset = true,
            Effect::GoAway { processed, reason } => {
                file.goaway = Some(if processed {
                    GoAwayFile::After
                } else {
                    GoAwayFile::Before
                });
                file.reason = Some(reason);
            }
            Effect::BlackHole => file.black_hole = true,
            Effect::MaxStreams(limit) => file.max_streams = Some(limit),
            Effect::Stall => file.stall = true,
            Effect::Refuse(time) => file.refuse = Some(time),
            Effect::Outage(time) => file.outage = Some(time),
        }
        file
    }
}
