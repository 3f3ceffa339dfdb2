//! Faults, one at a time, between the running program, a real broker and the
//! simulator. Each scenario counts rings in, and pushes, outcomes and token
//! events out: none may be missing. The providers' faults are scripts in
//! `fixtures/faults`, which `ringpush simulate --script` plays as well.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod apns;
mod broker;
mod credentials;
mod docs;
mod fcm;
mod ledger;
mod life;
mod scene;
