//! The commands for people, as processes, against the simulator: what they say
//! of a set-up that is wrong, and how they end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod check;
mod check_broker;
mod explain;
mod google;
mod health;
mod proxy;
mod reference;
mod rig;
mod send;
#[path = "../support/mod.rs"]
mod support;
mod variables;
