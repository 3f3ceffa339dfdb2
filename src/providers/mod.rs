//! The providers that make phones ring. They know the call and its pushes
//! ([`crate::call`]) and the metrics, never each other.

pub mod apns;
pub mod fcm;
pub mod probe;
pub mod tls;
