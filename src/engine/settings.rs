//! The engine's part of the configuration.

use std::time::Duration;

use serde::Deserialize;

use crate::call::event::Limits;

/// `[ring]`: how long a ring lives.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RingSettings {
    /// From `sent_at`, if the event does not say.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
    /// At most, whatever the event says.
    #[serde(with = "humantime_serde")]
    pub max_ttl: Duration,
}

impl Default for RingSettings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(45),
            max_ttl: Duration::from_secs(120),
        }
    }
}

impl RingSettings {
    /// For the decoder.
    #[must_use]
    pub const fn limits(self) -> Limits {
        Limits {
            ttl: self.ttl,
            max_ttl: self.max_ttl,
        }
    }

    /// How long anything about a ring is remembered: its longest life and
    /// some slack for clocks and the broker.
    #[must_use]
    pub const fn window(self) -> Duration {
        self.max_ttl.saturating_add(Duration::from_secs(30))
    }

    /// What is wrong with it, as key and cure.
    ///
    /// # Errors
    /// A life of zero, or a default longer than the longest.
    pub fn validate(self) -> Result<(), String> {
        if self.ttl < Duration::from_secs(1) {
            return Err("ring.ttl: give a ring at least 1s, 45s is usual".into());
        }
        if self.max_ttl < self.ttl {
            return Err("ring.max_ttl: must not be shorter than ring.ttl".into());
        }
        if self.max_ttl > Duration::from_secs(3600) {
            return Err("ring.max_ttl: at most 1h, cancels are kept no longer".into());
        }
        Ok(())
    }
}

/// `[retry]`: the back-off inside a ring's life.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySettings {
    /// Before the second attempt.
    #[serde(with = "humantime_serde")]
    pub initial: Duration,
    /// The longest wait between two attempts.
    #[serde(with = "humantime_serde")]
    pub max: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(200),
            max: Duration::from_secs(2),
        }
    }
}

impl RetrySettings {
    /// What is wrong with it, as key and cure.
    ///
    /// # Errors
    /// No wait at all, or a first wait longer than the longest.
    pub fn validate(self) -> Result<(), String> {
        if self.initial < Duration::from_millis(10) {
            return Err("retry.initial: at least 10ms, 200ms is usual".into());
        }
        if self.max < self.initial {
            return Err("retry.max: must not be shorter than retry.initial".into());
        }
        Ok(())
    }
}

/// `[tokens]`: the brake on mass invalidation.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenSettings {
    /// How far back answers count.
    #[serde(with = "humantime_serde")]
    pub brake_window: Duration,
    /// Below this many distinct tokens the brake stays off.
    pub brake_min_samples: usize,
    /// Share of bad answers, 0 to 1, at which every verdict becomes `suspect`.
    pub brake_share: f64,
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self {
            brake_window: Duration::from_secs(300),
            brake_min_samples: 50,
            brake_share: 0.2,
        }
    }
}

impl TokenSettings {
    /// What is wrong with it, as key and cure.
    ///
    /// # Errors
    /// A share outside 0 to 1, or an empty window.
    pub fn validate(self) -> Result<(), String> {
        if !(self.brake_share > 0.0 && self.brake_share <= 1.0) {
            return Err("tokens.brake_share: must be above 0 and at most 1, 0.2 is usual".into());
        }
        if self.brake_window < Duration::from_secs(1) {
            return Err("tokens.brake_window: at least 1s, 5m is usual".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        RingSettings::default().validate().unwrap();
        RetrySettings::default().validate().unwrap();
        TokenSettings::default().validate().unwrap();
    }

    #[test]
    fn what_cannot_work_is_named_by_its_key() {
        let ring = RingSettings {
            ttl: Duration::from_secs(200),
            ..RingSettings::default()
        };
        assert!(ring.validate().unwrap_err().starts_with("ring.max_ttl:"));
        let retry = RetrySettings {
            initial: Duration::ZERO,
            ..RetrySettings::default()
        };
        assert!(retry.validate().unwrap_err().starts_with("retry.initial:"));
        for brake_share in [0.0, 1.1, f64::NAN] {
            let tokens = TokenSettings {
                brake_share,
                ..TokenSettings::default()
            };
            assert!(
                tokens
                    .validate()
                    .unwrap_err()
                    .starts_with("tokens.brake_share:")
            );
        }
    }
}
