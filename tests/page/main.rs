//! The status page, `/trace` and the logs of the real program, run on standard
//! input against the simulator.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may end where it stumbles"
)]

mod logs;
mod page;
mod rig;
mod trace;
