//! What can go wrong with the broker, and whether a person has to act.

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

/// A failure of the broker's side. The texts name host, port and virtual host,
/// never user or password.
#[derive(Debug, thiserror::Error)]
pub enum AmqpError {
    /// A key of `[amqp]` cannot be used as it is.
    #[error("amqp.{key}: {problem}; {cure}")]
    Setting {
        /// The key below `[amqp]`.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
        /// What to do about it.
        cure: &'static str,
    },
    /// Nobody answers, or not as a broker.
    #[error(
        "cannot reach RabbitMQ at {endpoint}: {reason}; start RabbitMQ, or mend host and port of amqp.url \
         (5672, or 5671 for amqps)"
    )]
    Unreachable {
        /// Host, port and virtual host.
        endpoint: String,
        /// What the attempt ended with.
        reason: String,
    },
    /// TLS failed because of certificates.
    #[error(
        "TLS to RabbitMQ at {endpoint} failed: {reason}; check amqp.ca_file (the broker's CA), \
         host name and port in amqp.url (5671; 5672 is plain amqp), and amqp.client_cert_file if \
         the broker asks for a certificate"
    )]
    Tls {
        /// Host, port and virtual host.
        endpoint: String,
        /// What the handshake ended with.
        reason: String,
    },
    /// User or password are wrong.
    #[error(
        "RabbitMQ at {endpoint} refuses the login: {reason}; check user and password in amqp.url \
         (the user guest may only log in from the broker's own host)"
    )]
    Login {
        /// Host, port and virtual host.
        endpoint: String,
        /// The broker's words.
        reason: String,
    },
    /// The virtual host does not exist or is not open to the user.
    #[error(
        "RabbitMQ refuses the virtual host of {endpoint}: {reason}; create it, give the user \
         permissions on it, or mend the path of amqp.url (the default one is written %2f)"
    )]
    VirtualHost {
        /// Host, port and virtual host.
        endpoint: String,
        /// The broker's words.
        reason: String,
    },
    /// Something exists with other arguments than those to be declared (406).
    #[error(
        "{what} exists already with other arguments: {reason}; delete it, choose another \
         amqp.prefix, or set amqp.declare = false to use it as it is"
    )]
    Mismatch {
        /// `queue ringpush.ios` and the like.
        what: String,
        /// The broker's words, which name the argument.
        reason: String,
    },
    /// Something is not there and may not be declared (404).
    #[error(
        "{what} does not exist: {reason}; create it as the documentation of the topology says, or \
         set amqp.declare = true"
    )]
    Missing {
        /// `queue ringpush.ios` and the like.
        what: String,
        /// The broker's words.
        reason: String,
    },
    /// The user lacks a permission (403).
    #[error(
        "the user of amqp.url may not use {what}: {reason}; give it configure, write and read \
         permissions on names that begin with the prefix, and write on amq.default"
    )]
    Denied {
        /// `queue ringpush.ios` and the like.
        what: String,
        /// The broker's words.
        reason: String,
    },
    /// A session that had been established ended.
    #[error("{what}: {reason}")]
    Lost {
        /// Which part of it.
        what: String,
        /// Why.
        reason: String,
    },
}

impl AmqpError {
    /// Whether trying again is pointless until a person has changed
    /// configuration or broker. A worker that meets one of these before its
    /// first session ends with it; later it keeps trying, for the change may
    /// be under way.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::Setting { .. }
            | Self::Tls { .. }
            | Self::Login { .. }
            | Self::VirtualHost { .. }
            | Self::Mismatch { .. }
            | Self::Missing { .. }
            | Self::Denied { .. } => true,
            Self::Unreachable { .. } | Self::Lost { .. } => false,
        }
    }

    /// The same, if something is missing, as a fault that may pass by itself.
    pub(crate) fn passing(self) -> Self {
        if let Self::Missing { what, reason } = self {
            return Self::Lost { what, reason };
        }
        self
    }

    pub(crate) fn lost(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Lost {
            what: what.into(),
            reason: reason.into(),
        }
    }

    /// What a failed operation on `what` means, by the broker's reply code.
    pub(crate) fn of_operation(what: impl Into<String>, error: &lapin::Error) -> Self {
        let (what, reason) = (what.into(), reason(error));
        match soft_code(error) {
            Some(AMQPSoftError::PRECONDITIONFAILED) => Self::Mismatch { what, reason },
            Some(AMQPSoftError::NOTFOUND) => Self::Missing { what, reason },
            Some(AMQPSoftError::ACCESSREFUSED) => Self::Denied { what, reason },
            Some(
                AMQPSoftError::CONTENTTOOLARGE
                | AMQPSoftError::NOCONSUMERS
                | AMQPSoftError::NOROUTE
                | AMQPSoftError::RESOURCELOCKED,
            )
            | None => Self::Lost { what, reason },
        }
    }

    /// What a failed connection attempt means.
    pub(crate) fn of_connect(endpoint: String, error: &lapin::Error) -> Self {
        let reason = reason(error);
        if soft_code(error) == Some(AMQPSoftError::ACCESSREFUSED) {
            return Self::Login { endpoint, reason };
        }
        if hard_code(error) == Some(AMQPHardError::NOTALLOWED) {
            return Self::VirtualHost { endpoint, reason };
        }
        // rustls' errors arrive as I/O errors of this kind; so would bytes that
        // are not TLS at all, which is a matter of configuration too.
        if let ErrorKind::IOError(io) = error.kind()
            && io.kind() == std::io::ErrorKind::InvalidData
        {
            return Self::Tls { endpoint, reason };
        }
        Self::Unreachable { endpoint, reason }
    }
}

fn soft_code(error: &lapin::Error) -> Option<AMQPSoftError> {
    let ErrorKind::ProtocolError(amqp) = error.kind() else {
        return None;
    };
    match amqp.kind() {
        AMQPErrorKind::Soft(code) => Some(code.clone()),
        AMQPErrorKind::Hard(_) => None,
    }
}

fn hard_code(error: &lapin::Error) -> Option<AMQPHardError> {
    let ErrorKind::ProtocolError(amqp) = error.kind() else {
        return None;
    };
    match amqp.kind() {
        AMQPErrorKind::Hard(code) => Some(code.clone()),
        AMQPErrorKind::Soft(_) => None,
    }
}

/// The broker's own words where there are some, without lapin's wrapping.
pub(crate) fn reason(error: &lapin::Error) -> String {
    if let ErrorKind::ProtocolError(amqp) = error.kind() {
        return amqp.get_message().to_string();
    }
    if let ErrorKind::IOError(io) = error.kind() {
        return io.to_string();
    }
    if matches!(error.kind(), ErrorKind::ParsingError(_)) {
        return "what answers there does not speak AMQP".to_owned();
    }
    error.to_string()
}
