//! One event, from bytes to a verdict.

use crate::call::event::{Event, Limits};

use super::delivery::{Delivery, Verdict};

/// Takes events and makes phones ring.
#[derive(Debug)]
pub struct Dispatcher {
    limits: Limits,
}

impl Dispatcher {
    /// A dispatcher that lets rings live this long.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits }
    }

    /// Handles one message to its end.
    pub async fn handle(&self, delivery: Delivery) -> Verdict {
        match Event::decode(&delivery.body, self.limits) {
            Ok(_) => Verdict::Settled,
            Err(error) => Verdict::Dead(error),
        }
    }

    /// Learns of a cancel that was sent to every worker. What is not a cancel
    /// is skipped: whoever takes it from its queue reports it.
    pub fn learn(&self, body: &[u8]) {
        let _ = Event::decode(body, self.limits);
    }
}
