//! What happens to an event between the queue and the report.

pub mod calls;
mod cancel;
mod course;
pub mod deadline;
pub mod delivery;
mod device;
pub mod dispatch;
mod flights;
pub mod history;
pub mod job;
mod journey;
pub mod lane;
mod message;
pub mod meter;
mod own_rings;
mod pause;
mod report;
pub mod routes;
pub mod settings;
mod taken;
pub mod tokens;
mod verdict;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
