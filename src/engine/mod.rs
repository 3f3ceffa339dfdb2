//! What happens to an event between the queue and the report.

pub mod delivery;
pub mod dispatch;
