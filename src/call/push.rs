//! One device's push and the seam behind which a provider sends it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::event::TargetKind;
use super::payload::Payload;
use super::secret::Secret;
use super::time::Timestamp;

/// What kind of push a payload goes out as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushKind {
    /// Rings: a `PushKit` `VoIP` push, or a high-priority data message.
    Call,
    /// Tells an iOS app in the background something without ringing: push type
    /// `background`, priority 5, the bundle id as topic, the ordinary token.
    Background,
}

/// One attempt at one push, everything in it computed for this moment.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The same on every attempt of this push; the `apns-id`.
    pub id: Uuid,
    /// How it goes out.
    pub kind: PushKind,
    /// Whom it goes to.
    pub token: &'a Secret,
    /// Whether that is a token or an installation id.
    pub target: TargetKind,
    /// What it says.
    pub payload: &'a Payload,
    /// When the ring is over, on the wall clock.
    pub deadline: Timestamp,
    /// How long that is from now; the attempt must have ended by then.
    pub time_left: Duration,
    /// To be passed right before the request goes out.
    pub gate: &'a Gate,
}

/// The last moment at which an attempt can be taken back.
///
/// A client may have to wait (for a stream, for an access token) before it can
/// send, and the caller may hang up meanwhile. The client passes the gate right
/// before it hands the request to the connection; whoever waits for the client
/// may close it before that. Exactly one of the two succeeds, so a push that
/// was cancelled in time is never sent, and one that was sent is waited for.
#[derive(Debug, Default)]
pub struct Gate(AtomicU8);

const OPEN: u8 = 0;
const PASSED: u8 = 1;
const CLOSED: u8 = 2;

impl Gate {
    /// Goes through. `false` if it is closed: nothing may be sent. Going
    /// through again is fine.
    pub fn pass(&self) -> bool {
        match self
            .0
            .compare_exchange(OPEN, PASSED, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => true,
            Err(state) => state == PASSED,
        }
    }

    /// Closes it. `false` if somebody went through already.
    pub fn close(&self) -> bool {
        match self
            .0
            .compare_exchange(OPEN, CLOSED, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => true,
            Err(state) => state == CLOSED,
        }
    }

    /// Whether somebody went through.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.0.load(Ordering::Acquire) == PASSED
    }
}

/// Sends single pushes to one provider, for one app and environment.
///
/// A client keeps its own connections and credentials; it never retries, it
/// never waits beyond [`Attempt::time_left`], and dropping its future leaves
/// it whole.
pub trait PushClient: Send + Sync + 'static {
    /// Makes one attempt and says how it ended.
    fn send<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Answer>;

    /// Why a push could not be sent right now (no connection, no access
    /// token), for readiness; `None` if it could.
    fn why_not_ready(&self) -> Option<String>;

    /// Whether it is connected or connects. One that waits for its first push
    /// to do so is neither ready nor in trouble.
    fn is_used(&self) -> bool {
        true
    }
}

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the worker makes of it.
    pub class: Class,
    /// The provider's own word for it, or `timeout`, `connection`,
    /// `oauth_unavailable`. `None` when accepted.
    pub reason: Option<String>,
    /// The provider's id of the push (`apns-id`, FCM's message name).
    pub provider_id: Option<String>,
    /// When the token died, as far as the provider says so.
    pub provider_timestamp: Option<Timestamp>,
    /// How long the provider asks us to stay away.
    pub retry_after: Option<Duration>,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Whether a request went out at all; only those count as attempts.
    pub started: bool,
    /// A sentence for people: the field or violation that was named, the
    /// error of a connection. Never holds a token, key or payload.
    pub detail: Option<String>,
}

impl Answer {
    /// An answer of this class with nothing else to say; a request went out.
    #[must_use]
    pub fn new(class: Class) -> Self {
        Self {
            class,
            reason: None,
            provider_id: None,
            provider_timestamp: None,
            retry_after: None,
            status: None,
            started: true,
            detail: None,
        }
    }

    /// The same with a reason.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// The same, but no request went out.
    #[must_use]
    pub fn unstarted(mut self) -> Self {
        self.started = false;
        self
    }
}

/// Every way an attempt can end, as far as the worker acts on it. Providers
/// translate their answers into this; the lane acts on it and knows no provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The provider took the push.
    Accepted,
    /// Provably not processed (connection failed, stream refused, above the
    /// last stream of a GOAWAY): repeat at once, on another connection.
    NotProcessed,
    /// It may or may not have been processed (reset or time-out after
    /// sending): repeat with the same id, the phone de-duplicates.
    Unclear,
    /// The provider has trouble (5xx): repeat after a back-off.
    Unavailable,
    /// The provider asks for fewer requests (429): repeat after a back-off.
    Throttled,
    /// The credential was stale or tied to a connection and has been renewed:
    /// repeat at once, but only once; a second time it is a credential fault.
    StaleCredential,
    /// The provider saw too many new signatures: repeat with the same one,
    /// backing off from a second; at the deadline a credential fault.
    SigningThrottled,
    /// No credential could be had for now (token server away): repeat until
    /// the deadline.
    NoCredential,
    /// The token is gone; `provider_timestamp` says since when, if known.
    DeadToken,
    /// The provider does not know the token. It may be one of the other
    /// environment, so whether it is dead is decided by how the rest fares.
    BadToken,
    /// Something is wrong with the token, but not so that it may be deleted.
    SuspectToken,
    /// Key, certificate, topic or project are wrong: nothing will get
    /// through, and no token is to blame.
    CredentialFault,
    /// The payload was refused.
    PayloadFault,
    /// A request that this program should never have made.
    OwnFault,
    /// An answer not in any table. Not repeated, nothing deleted.
    Unknown,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Accepted,
        Self::NotProcessed,
        Self::Unclear,
        Self::Unavailable,
        Self::Throttled,
        Self::StaleCredential,
        Self::SigningThrottled,
        Self::NoCredential,
        Self::DeadToken,
        Self::BadToken,
        Self::SuspectToken,
        Self::CredentialFault,
        Self::PayloadFault,
        Self::OwnFault,
        Self::Unknown,
    ];

    /// Whether it is about what this worker shows or sends, and a person has to
    /// mend it: no phone and no provider is to blame.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        match self {
            Self::StaleCredential
            | Self::SigningThrottled
            | Self::CredentialFault
            | Self::PayloadFault
            | Self::OwnFault => true,
            Self::Accepted
            | Self::NotProcessed
            | Self::Unclear
            | Self::Unavailable
            | Self::Throttled
            | Self::NoCredential
            | Self::DeadToken
            | Self::BadToken
            | Self::SuspectToken
            | Self::Unknown => false,
        }
    }

    /// What an answer to a push for nobody says of the credential: whether it is
    /// taken; nothing where the answer is about something else.
    #[must_use]
    pub const fn proves_credential(self) -> Option<bool> {
        match self {
            Self::Accepted
            | Self::DeadToken
            | Self::BadToken
            | Self::SuspectToken
            | Self::PayloadFault => Some(true),
            Self::CredentialFault | Self::StaleCredential | Self::OwnFault => Some(false),
            Self::NotProcessed
            | Self::Unclear
            | Self::Unavailable
            | Self::Throttled
            | Self::SigningThrottled
            | Self::NoCredential
            | Self::Unknown => None,
        }
    }

    /// The name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::NotProcessed => "not_processed",
            Self::Unclear => "unclear",
            Self::Unavailable => "unavailable",
            Self::Throttled => "throttled",
            Self::StaleCredential => "stale_credential",
            Self::SigningThrottled => "signing_throttled",
            Self::NoCredential => "no_credential",
            Self::DeadToken => "dead_token",
            Self::BadToken => "bad_token",
            Self::SuspectToken => "suspect_token",
            Self::CredentialFault => "credential_fault",
            Self::PayloadFault => "payload_fault",
            Self::OwnFault => "own_fault",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Gate;

    #[test]
    fn a_gate_is_either_passed_or_closed() {
        let gate = Gate::default();
        assert!(gate.pass() && gate.pass() && gate.passed());
        assert!(!gate.close());
        let gate = Gate::default();
        assert!(gate.close() && gate.close() && !gate.passed());
        assert!(!gate.pass());
    }
}
