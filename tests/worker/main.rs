//! The running program between a real broker (the one at `AMQP_URL`, or a
//! private node) and the simulator. Every test has its own prefix on the broker
//! and its own simulator, and ends only processes of its own.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod cancels;
mod cases;
mod commands;
mod lanes;
mod load;
mod malformed;
mod mistakes;
mod reports;
mod rings;
mod secrets;
mod stdin;
