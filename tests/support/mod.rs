//! What several black-box tests need.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::print_stderr, reason = "a failed test shows what happened")]

pub(crate) mod broker;
pub(crate) mod client;
pub(crate) mod events;
pub(crate) mod front;
pub(crate) mod google;
pub(crate) mod proxy;
pub(crate) mod stage;
pub(crate) mod worker;
