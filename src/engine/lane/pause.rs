//! A lane whose credentials are refused stops asking, and finds out by itself
//! when they work again.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use crate::call::push::Class;

/// Credential faults in a row, without an acceptance, that pause a lane.
const FAULTS: u32 = 5;
const FIRST_PROBE: Duration = Duration::from_secs(1);
const LAST_PROBE: Duration = Duration::from_secs(10);

/// Whether a lane is paused; shared by all of its pushes.
#[derive(Debug, Default)]
pub struct Pause {
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Running {
        faults: u32,
    },
    Paused {
        wait: Duration,
        probe_at: Instant,
        since: Instant,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Running { faults: 0 }
    }
}

/// What an answer did to the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseChange {
    /// Nothing that anybody would want to know.
    None,
    /// It is paused from now on.
    Paused,
    /// It is running again.
    Resumed,
}

impl Pause {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing in here can panic half-way, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a push may be tried now. While paused, one may once in a while.
    pub fn admits(&self) -> bool {
        match &mut *self.state() {
            State::Running { .. } => true,
            State::Paused { wait, probe_at, .. } => {
                let now = Instant::now();
                let due = now >= *probe_at;
                if due {
                    // The next one in line is due later, whether this one
                    // answers or not.
                    *wait = (*wait * 2).min(LAST_PROBE);
                    *probe_at = now + *wait;
                }
                due
            }
        }
    }

    /// Whether it would turn a push away right now.
    pub fn refuses(&self) -> bool {
        match &*self.state() {
            State::Running { .. } => false,
            State::Paused { probe_at, .. } => Instant::now() < *probe_at,
        }
    }

    /// Learns how an attempt ended.
    pub fn record(&self, class: Class) -> PauseChange {
        let mut state = self.state();
        match (&mut *state, class) {
            (State::Running { faults }, Class::CredentialFault) => {
                *faults += 1;
                if *faults < FAULTS {
                    return PauseChange::None;
                }
                let now = Instant::now();
                *state = State::Paused {
                    wait: FIRST_PROBE,
                    probe_at: now + FIRST_PROBE,
                    since: now,
                };
                PauseChange::Paused
            }
            (State::Running { faults }, Class::Accepted) => {
                *faults = 0;
                PauseChange::None
            }
            (State::Paused { .. }, Class::Accepted) => {
                *state = State::default();
                PauseChange::Resumed
            }
            (State::Running { .. } | State::Paused { .. }, _) => PauseChange::None,
        }
    }

    /// Lets the next push try at once: the credentials may be new.
    pub fn probe_now(&self) {
        if let State::Paused { wait, probe_at, .. } = &mut *self.state() {
            *wait = FIRST_PROBE;
            *probe_at = Instant::now();
        }
    }

    /// For how long it has been paused, if it is.
    pub fn paused_for(&self) -> Option<Duration> {
        match &*self.state() {
            State::Running { .. } => None,
            State::Paused { since, .. } => Some(since.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paused() -> Pause {
        let pause = Pause::default();
        for _ in 0..4 {
            assert_eq!(pause.record(Class::CredentialFault), PauseChange::None);
        }
        assert_eq!(pause.record(Class::CredentialFault), PauseChange::Paused);
        pause
    }

    #[tokio::test(start_paused = true)]
    async fn five_faults_in_a_row_pause_it() {
        let pause = paused();
        assert!(pause.refuses() && !pause.admits());
    }

    #[tokio::test(start_paused = true)]
    async fn an_acceptance_in_between_starts_the_count_anew_and_nothing_else_does() {
        let pause = Pause::default();
        for class in [Class::CredentialFault; 4] {
            pause.record(class);
        }
        pause.record(Class::DeadToken);
        assert_eq!(pause.record(Class::CredentialFault), PauseChange::Paused);
        let pause = Pause::default();
        for class in [Class::CredentialFault; 4] {
            pause.record(class);
        }
        pause.record(Class::Accepted);
        assert_eq!(pause.record(Class::CredentialFault), PauseChange::None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_push_is_tried_after_a_second_then_two_then_up_to_ten() {
        let pause = paused();
        for wait in [1, 2, 4, 8, 10, 10] {
            tokio::time::advance(Duration::from_millis(wait * 1000 - 1)).await;
            assert!(!pause.admits(), "too early, {wait} s");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(pause.admits(), "{wait} s");
            assert!(!pause.admits(), "only one, {wait} s");
            pause.record(Class::CredentialFault);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_acceptance_resumes_it_and_new_credentials_are_tried_at_once() {
        let pause = paused();
        pause.probe_now();
        assert!(pause.admits() && !pause.admits());
        assert_eq!(pause.record(Class::Accepted), PauseChange::Resumed);
        assert!(pause.admits() && pause.admits());
        assert_eq!(pause.paused_for(), None);
    }
}
