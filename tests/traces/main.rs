//! Spans that reach a collector: a small one, which takes OTLP over HTTP as
//! the real ones do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may end where it stumbles"
)]

mod collector;
mod export;
mod ring;
#[path = "../support/mod.rs"]
mod support;
