//! What happens to an event between the queue and the report.
//!
//! Begin with [`dispatch::Dispatcher::handle`]: one event, joined with its
//! duplicates, fanned out to its devices, settled once. [`lane`] sends one push
//! with its retries, [`calls`] knows the cancels and this worker's rings,
//! [`tokens`] judges what an answer says of a token, [`history`] remembers the
//! last pushes for people. Nothing in here knows a broker or a provider.

pub mod calls;
pub mod deadline;
pub mod delivery;
pub mod dispatch;
pub mod history;
pub mod lane;
pub mod push;
mod recent;
pub mod routes;
pub mod settings;
pub mod tokens;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
