//! The providers that make phones ring. They know the call and its pushes
//! ([`crate::call`]) and the metrics, never each other.

pub mod fcm;
pub mod tls;
