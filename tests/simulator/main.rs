//! The simulator from outside, over TLS and HTTP/2, by clients that share
//! nothing with it: an HTTP/2 library and hand-made frames.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(clippy::too_many_lines, reason = "tables of cases")]
#![allow(unreachable_pub, reason = "shared between the modules of this test")]

mod apns;
mod apns_tokens;
mod client;
mod connections;
mod docs;
mod faults;
mod fcm;
mod files;
mod load;
mod oauth;
mod outages;
mod raw;
