//! The providers that make phones ring. They know the call and its pushes
//! ([`crate::call`]) and the metrics, never each other; they share one pool of
//! HTTP/2 connections ([`http2`]).

pub mod apns;
pub mod endpoint;
pub mod fcm;
pub mod http1;
pub mod http2;
pub mod probe;
pub mod retry;
pub mod tls;
