//! Google's error bodies: `google.rpc.Status` as JSON with typed details, by
//! "Error handling" of Google's APIs and FCM's "`ErrorCode`" reference.

use serde_json::{Value, json};

use super::exchange::Reply;

const FCM_ERROR: &str = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// FCM's own error codes; other words travel in an `ErrorInfo`.
const FCM_CODES: [&str; 8] = [
    "UNSPECIFIED_ERROR",
    "INVALID_ARGUMENT",
    "UNREGISTERED",
    "SENDER_ID_MISMATCH",
    "QUOTA_EXCEEDED",
    "UNAVAILABLE",
    "INTERNAL",
    "THIRD_PARTY_AUTH_ERROR",
];

/// A field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) field: String,
    pub(super) description: String,
}

/// A refusal by rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
    /// `FcmError.errorCode`.
    pub(super) code: Option<&'static str>,
    /// `ErrorInfo.reason`.
    pub(super) info: Option<&'static str>,
    pub(super) violations: Vec<Violation>,
}

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            code: None,
            info: None,
            violations: Vec::new(),
        }
    }

    pub(super) fn code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    pub(super) fn info(self, reason: &'static str) -> Self {
        Self {
            info: Some(reason),
            ..self
        }
    }

    /// 400 for one field, the message being its description.
    pub(super) fn field(field: &str, description: impl Into<String>) -> Self {
        let description = description.into();
        let violation = Violation {
            field: field.to_owned(),
            description: description.clone(),
        };
        Self {
            violations: vec![violation],
            ..Self::new(400, description)
        }
    }

    /// The word a person would look for.
    pub(super) fn reason(&self) -> &'static str {
        self.code.or(self.info).unwrap_or(canonical(self.status))
    }

    pub(super) fn reply(&self) -> Reply {
        let mut details = Vec::new();
        if let Some(code) = self.code {
            details.push(json!({ "@type": FCM_ERROR, "errorCode": code }));
        }
        if let Some(reason) = self.info {
            details.push(info(reason));
        }
        if !self.violations.is_empty() {
            let list: Vec<Value> = self
                .violations
                .iter()
                .map(|v| json!({ "field": v.field, "description": v.description }))
                .collect();
            details.push(json!({ "@type": BAD_REQUEST, "fieldViolations": list }));
        }
        Reply::json(self.status, &body(self.status, &self.message, details))
    }
}

fn info(reason: &str) -> Value {
    json!({
        "@type": ERROR_INFO,
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {
            "service": "fcm.googleapis.com",
            "method": "google.firebase.fcm.v1.FcmService.SendMessage",
        },
    })
}

/// The refusal that a script asks for by status and reason.
pub(super) fn scripted(status: u16, reason: Option<&str>) -> Reply {
    let detail = reason.map(|reason| {
        if FCM_CODES.contains(&reason) {
            json!({ "@type": FCM_ERROR, "errorCode": reason })
        } else {
            info(reason)
        }
    });
    let message = match status {
        404 => "Requested entity was not found.",
        429 => "Quota exceeded for this request.",
        500 => "Internal error encountered.",
        503 => "The service is currently unavailable.",
        _ => "The request was refused.",
    };
    Reply::json(status, &body(status, message, detail.into_iter().collect()))
}

fn body(status: u16, message: &str, details: Vec<Value>) -> Value {
    let mut error = json!({ "code": status, "message": message, "status": canonical(status) });
    if let (false, Some(fields)) = (details.is_empty(), error.as_object_mut()) {
        fields.insert("details".to_owned(), details.into());
    }
    json!({ "error": error })
}

/// The canonical code that belongs to an HTTP status.
fn canonical(status: u16) -> &'static str {
    match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        500 => "INTERNAL",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "UNKNOWN",
    }
}
