//! FCM's answers: what each of them means to us.
//!
//! Sources: "`ErrorCode`" and "Firebase Cloud Messaging error codes" for the
//! codes, "google.rpc.BadRequest", "google.rpc.ErrorInfo" and
//! "google.rpc.RetryInfo" for the details.
//! Decided by the `errorCode` of the `FcmError` in `error.details`, since
//! `error.status` is shared by unrelated faults: `NOT_FOUND` is said of a dead
//! token and of a project that does not exist. Message texts drift and are
//! never looked at.

use std::time::{Duration, SystemTime};

use http::response::Parts;
use serde::Deserialize;
use serde_json::Value;

use crate::call::push::{Answer, Class};
use crate::providers::retry::retry_after;

/// "Quota exceeded": Google asks for a minute if it names no time itself.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);

const FCM_ERROR: &str = "google.firebase.fcm.v1.FcmError";
const BAD_REQUEST: &str = "google.rpc.BadRequest";
const ERROR_INFO: &str = "google.rpc.ErrorInfo";
const RETRY_INFO: &str = "google.rpc.RetryInfo";

/// The status of a request that collided with another.
const ABORTED: &str = "ABORTED";

/// The fields that name the device.
const TARGET_FIELDS: [&str; 2] = ["message.token", "message.fid"];

/// FCM's `ErrorCode`, and whatever it may grow.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ErrorCode {
    Unspecified,
    InvalidArgument,
    Unregistered,
    SenderIdMismatch,
    QuotaExceeded,
    Unavailable,
    Internal,
    ThirdPartyAuth,
    Unknown(String),
}

/// The words that `ErrorCode` has, and those of a status without one
/// ("google.rpc.Code") that this table was written for.
#[must_use]
pub fn known_reasons() -> Vec<&'static str> {
    let codes = [
        ErrorCode::Unspecified,
        ErrorCode::InvalidArgument,
        ErrorCode::Unregistered,
        ErrorCode::SenderIdMismatch,
        ErrorCode::QuotaExceeded,
        ErrorCode::Unavailable,
        ErrorCode::Internal,
        ErrorCode::ThirdPartyAuth,
    ];
    let words = codes.iter().filter_map(ErrorCode::known);
    let statuses = [
        ABORTED,
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "NOT_FOUND",
        "RESOURCE_EXHAUSTED",
    ];
    words.chain(statuses).collect()
}

impl ErrorCode {
    fn from_word(word: String) -> Self {
        match word.as_str() {
            "UNSPECIFIED_ERROR" => Self::Unspecified,
            "INVALID_ARGUMENT" => Self::InvalidArgument,
            "UNREGISTERED" => Self::Unregistered,
            "SENDER_ID_MISMATCH" => Self::SenderIdMismatch,
            "QUOTA_EXCEEDED" => Self::QuotaExceeded,
            "UNAVAILABLE" => Self::Unavailable,
            "INTERNAL" => Self::Internal,
            "THIRD_PARTY_AUTH_ERROR" => Self::ThirdPartyAuth,
            _ => Self::Unknown(word),
        }
    }

    /// The word of a code that is documented.
    const fn known(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unspecified => "UNSPECIFIED_ERROR",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::Unregistered => "UNREGISTERED",
            Self::SenderIdMismatch => "SENDER_ID_MISMATCH",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL",
            Self::ThirdPartyAuth => "THIRD_PARTY_AUTH_ERROR",
            Self::Unknown(_) => return None,
        })
    }

    fn word(&self) -> &str {
        match self {
            Self::Unknown(word) => word,
            Self::Unspecified
            | Self::InvalidArgument
            | Self::Unregistered
            | Self::SenderIdMismatch
            | Self::QuotaExceeded
            | Self::Unavailable
            | Self::Internal
            | Self::ThirdPartyAuth => self.known().unwrap_or_default(),
        }
    }
}

/// What an error's body says, as far as it can be read. Anything may be missing.
#[derive(Debug, Default)]
struct ErrorBody {
    /// It has the form of Google's errors. Google's front end answers in HTML
    /// while it is at fault, and so do proxies and firewalls: that is no word
    /// of FCM's on a project, an account or a message.
    from_google: bool,
    /// There is an `FcmError`, whatever it holds.
    from_fcm: bool,
    code: Option<ErrorCode>,
    status: Option<String>,
    info: Option<String>,
    /// The wait that a `RetryInfo` asks for.
    wait: Option<Duration>,
    /// Names of the fields that were found wrong.
    violations: Vec<String>,
}

impl ErrorBody {
    fn read(body: &[u8]) -> Self {
        let Ok(json) = serde_json::from_slice::<Value>(body) else {
            return Self::default();
        };
        // With some gateways an error stands in an array of one.
        let error = json.get("error").or_else(|| json.get(0)?.get("error"));
        let Some(error) = error else {
            return Self::default();
        };
        let status = word(error.get("status"));
        let details = error.get("details").and_then(Value::as_array);
        let coded = error.get("code").is_some_and(Value::is_u64);
        let mut read = Self {
            from_google: coded || status.is_some() || details.is_some(),
            status,
            ..Self::default()
        };
        for detail in details.into_iter().flatten() {
            read.add(detail);
        }
        read
    }

    fn add(&mut self, detail: &Value) {
        let kind = detail
            .get("@type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if kind.ends_with(FCM_ERROR) {
            self.from_fcm = true;
            if self.code.is_none() {
                self.code = word(detail.get("errorCode")).map(ErrorCode::from_word);
            }
        } else if kind.ends_with(ERROR_INFO) {
            self.info = self.info.take().or_else(|| word(detail.get("reason")));
        } else if kind.ends_with(RETRY_INFO) {
            self.wait = self.wait.or_else(|| duration(detail.get("retryDelay")?));
        } else if kind.ends_with(BAD_REQUEST) {
            let violations = detail.get("fieldViolations").and_then(Value::as_array);
            self.violations.extend(
                violations
                    .into_iter()
                    .flatten()
                    .filter_map(|v| v.get("field")?.as_str())
                    .filter(|field| !field.is_empty())
                    .map(field_name),
            );
        }
    }

    /// The table. Every code is decided here and nowhere else.
    fn class(&self, status: u16) -> Class {
        match &self.code {
            Some(ErrorCode::Unregistered) if status == 404 => Class::DeadToken,
            Some(ErrorCode::InvalidArgument) if self.blames_payload() => Class::PayloadFault,
            // Google says that the token may be deleted if the payload is known
            // to be valid, which cannot be known of somebody's own data.
            Some(ErrorCode::InvalidArgument | ErrorCode::SenderIdMismatch) => Class::SuspectToken,
            Some(ErrorCode::QuotaExceeded) => Class::Throttled,
            Some(ErrorCode::Unavailable | ErrorCode::Internal) => Class::Unavailable,
            // An iOS or web token whose own service refused Firebase.
            Some(ErrorCode::ThirdPartyAuth) => Class::PayloadFault,
            // UNREGISTERED under any other status contradicts the
            // documentation; nothing is deleted on a contradiction.
            Some(ErrorCode::Unregistered | ErrorCode::Unspecified | ErrorCode::Unknown(_))
            | None => self.class_by_status(status),
        }
    }

    /// What is left to go by where no known code is given.
    fn class_by_status(&self, status: u16) -> Class {
        match status {
            429 => Class::Throttled,
            408 | 500..=599 => Class::Unavailable,
            400..=499 if !self.from_google => Class::Unavailable,
            _ if self.status.as_deref() == Some(ABORTED) => Class::Unavailable,
            400 if !self.from_fcm && self.blames_payload() => Class::PayloadFault,
            400 if !self.from_fcm && !self.violations.is_empty() => Class::SuspectToken,
            401 => Class::StaleCredential,
            403 => Class::CredentialFault,
            // The project does not exist or is not ours. Every token would
            // look dead; none is.
            404 if !self.from_fcm => Class::CredentialFault,
            _ => Class::Unknown,
        }
    }

    fn blames_payload(&self) -> bool {
        let of_payload = |field: &String| !TARGET_FIELDS.contains(&field.as_str());
        self.violations.iter().any(of_payload)
    }

    fn reason(&self, status: u16) -> String {
        self.code
            .as_ref()
            .map(|code| code.word().to_owned())
            .or_else(|| self.status.clone())
            .or_else(|| self.info.clone())
            .unwrap_or_else(|| format!("http_{status}"))
    }

    fn detail(&self, status: u16) -> Option<String> {
        if !self.from_google {
            return Some(format!("HTTP {status}, not from FCM: its errors are JSON"));
        }
        if !self.violations.is_empty() {
            return Some(format!("refused: {}", self.violations.join(", ")));
        }
        self.info.clone()
    }
}

/// Says what an answer means, by its status and its body.
#[must_use]
pub fn classify(head: &Parts, body: &[u8]) -> Answer {
    let status = head.status.as_u16();
    let mut answer = if head.status.is_success() {
        accepted(status, body)
    } else {
        let error = ErrorBody::read(body);
        let mut answer = Answer::new(error.class(status)).because(error.reason(status));
        answer.detail = error.detail(status);
        let asked = || retry_after(&head.headers, SystemTime::now()).or(error.wait);
        if answer.class == Class::Throttled {
            answer.retry_after = Some(asked().unwrap_or(DEFAULT_WAIT));
        } else if answer.class == Class::Unavailable {
            answer.retry_after = asked();
        }
        answer
    };
    answer.status = Some(status);
    answer
}

/// A success names the message. One that does not comes from something else
/// that stands in between, so nothing is known of the push.
fn accepted(status: u16, body: &[u8]) -> Answer {
    let message: Option<Message> = serde_json::from_slice(body).ok();
    let name = message.map(|message| message.name);
    let name = name.filter(|name| (1..=1024).contains(&name.len()));
    if name.is_none() {
        let mut answer = Answer::new(Class::Unknown).because(format!("http_{status}"));
        answer.detail = Some("a success without a message name".to_owned());
        return answer;
    }
    let mut answer = Answer::new(Class::Accepted);
    answer.provider_id = name;
    answer
}

/// The answer to a message that was taken ("REST Resource: projects.messages").
#[derive(Deserialize)]
struct Message {
    name: String,
}

/// A word such as `PERMISSION_DENIED`; what is not one would only spoil
/// labels, logs and routing.
fn word(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    ((1..=64).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
}

/// A duration as JSON has it in Google's APIs: `"1.5s"`.
fn duration(value: &Value) -> Option<Duration> {
    let seconds: f64 = value.as_str()?.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// A field's path, cut to what a path can hold. The description beside it may
/// quote values and is never looked at.
fn field_name(path: &str) -> String {
    path.chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '[' | ']' | '-'))
        .take(100)
        .collect()
}

#[cfg(test)]
mod tests;
