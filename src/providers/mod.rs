//! The push services. Each folder is one of them; they never know each other.

pub mod fcm;
pub mod tls;
