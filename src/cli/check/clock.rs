//! This machine's clock against the providers'.

use std::time::SystemTime;

use super::proof::Proof;

/// A `Date` has whole seconds, and an answer takes its time.
const SLACK: i64 = 2;
/// Deadlines and signatures begin to suffer.
const WARNING: i64 = 5;
/// Google refuses signatures that are minutes off, and rings end early or late.
const FAILED: i64 = 60;

/// A provider's clock and ours at the same moment.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    pub(super) of: String,
    pub(super) theirs: SystemTime,
    pub(super) ours: SystemTime,
}

impl Clock {
    /// Seconds that ours is ahead.
    fn ahead(&self) -> i64 {
        let whole = |time: std::time::Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        match self.ours.duration_since(self.theirs) {
            Ok(ahead) => whole(ahead),
            Err(behind) => -whole(behind.duration()),
        }
    }
}

/// Judges by the clock that differs most.
pub(super) fn prove(clocks: &[Clock]) -> Proof {
    let Some(clock) = clocks.iter().max_by_key(|clock| clock.ahead().abs()) else {
        return Proof::skipped("clock", "no provider said what time it is");
    };
    let (ahead, of) = (clock.ahead(), &clock.of);
    let found = match ahead {
        _ if ahead.abs() <= SLACK => format!("agrees with {of}"),
        1.. => format!("{ahead} s ahead of {of}"),
        _ => format!("{} s behind {of}", ahead.abs()),
    };
    let cure = "set the clock by NTP: deadlines and signatures depend on it";
    match ahead.abs() {
        ..WARNING => Proof::ok("clock", found),
        WARNING..FAILED => Proof::warning("clock", found, cure),
        _ => Proof::failed("clock", found, cure),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::proof::State;
    use super::*;

    #[test]
    fn the_clock_that_differs_most_decides() {
        let ours = SystemTime::now();
        let clock = |of: &str, theirs| Clock {
            of: of.to_owned(),
            theirs,
            ours,
        };
        let near = clock("near", ours - Duration::from_secs(1));
        assert_eq!(prove(std::slice::from_ref(&near)).state, State::Ok);
        let late = clock("late", ours + Duration::from_secs(20));
        let proof = prove(&[near.clone(), late]);
        assert_eq!(
            (proof.state, &*proof.found),
            (State::Warning, "20 s behind late")
        );
        let early = clock("early", ours - Duration::from_secs(3600));
        let proof = prove(&[near, early]);
        assert_eq!(
            (proof.state, &*proof.found),
            (State::Failed, "3600 s ahead of early")
        );
        assert_eq!(prove(&[]).state, State::Skipped);
    }
}
