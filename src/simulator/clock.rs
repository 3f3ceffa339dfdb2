//! The services' clock, which may be set wrong from the client's view.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderValue;

use super::Simulator;

/// How far it is ahead of this machine's, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Clock(AtomicI64);

impl Clock {
    pub(super) fn now(&self) -> DateTime<Utc> {
        let ahead = TimeDelta::try_milliseconds(self.0.load(Ordering::Relaxed));
        let now = Utc::now();
        now.checked_add_signed(ahead.unwrap_or_default())
            .unwrap_or(now)
    }

    /// The header `date` (RFC 9110, 6.6.1).
    pub(super) fn date(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&httpdate::fmt_http_date(self.now().into())).ok()
    }
}

impl Simulator {
    /// Sets all services' clocks ahead of this machine's, or behind it. Times
    /// in signatures are then judged by those, and `date` says so.
    pub fn set_clock(&self, ahead: TimeDelta) {
        let millis = ahead.num_milliseconds();
        self.world.accounts.clock.0.store(millis, Ordering::Relaxed);
    }
}
