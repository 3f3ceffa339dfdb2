//! The call and its pushes, as values: what an event says, what a device is
//! sent, what became of it. Pure: no clock, no I/O, nothing of ours below it.

#[macro_use]
mod words;

pub mod event;
mod from_text;
pub mod ids;
pub mod outcome;
pub mod payload;
pub mod preview;
pub mod push;
pub mod receipt;
pub mod secret;
pub mod time;
pub mod trace;
