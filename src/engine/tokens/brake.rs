//! The brake that keeps a wrong key or environment from wiping a user base.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::call::secret::Secret;
use crate::engine::recent::Recent;
use crate::engine::settings::TokenSettings;
use crate::metrics::LaneLabels;

/// The most distinct tokens that one brake looks at. A worker that rings more
/// than that in a window judges by the newest, good and bad alike.
const MAX_SAMPLES: usize = 200_000;
/// The most bad tokens of the last day that it knows.
const MAX_COUNTED: usize = 100_000;

/// A token counts as bad once in this time, however often it is tried.
const BAD_ONCE_IN: Duration = Duration::from_secs(24 * 3600);

/// The brake of one app, platform and environment.
///
/// Knows tokens by a keyed hash only. All memory is bounded: the window's
/// samples by a constant, the bad of the last day by another.
#[derive(Debug)]
pub struct Brake {
    labels: LaneLabels,
    settings: TokenSettings,
    hasher: RandomState,
    counted: Recent<u64, ()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    samples: Samples,
    last_accepted: Option<Instant>,
    on: bool,
}

/// What an answer said of its token.
#[derive(Clone, Copy, Debug)]
enum Said {
    Accepted,
    Bad,
}

/// Distinct tokens, by when they were last accepted and when they were bad.
///
/// One order for both: where there are too many, as much time is forgotten of
/// the one as of the other, or their share would be of different times.
#[derive(Debug, Default)]
struct Samples {
    accepted: HashMap<u64, Instant>,
    bad: HashMap<u64, Instant>,
    order: VecDeque<(Instant, u64, Said)>,
}

impl Samples {
    fn len(&self) -> usize {
        self.accepted.len() + self.bad.len()
    }

    const fn of(&mut self, said: Said) -> &mut HashMap<u64, Instant> {
        match said {
            Said::Accepted => &mut self.accepted,
            Said::Bad => &mut self.bad,
        }
    }

    fn add(&mut self, token: u64, said: Said, now: Instant) {
        if self.of(said).insert(token, now) != Some(now) {
            self.order.push_back((now, token, said));
        }
    }

    fn forget(&mut self, before: Option<Instant>) {
        while let Some(&(seen, token, said)) = self.order.front() {
            let old = before.is_some_and(|before| seen < before);
            if !old && self.len() <= MAX_SAMPLES && self.order.len() <= 2 * MAX_SAMPLES {
                break;
            }
            self.order.pop_front();
            // Seen again since: a later entry stands for it.
            let last = self.of(said);
            if last.get(&token) == Some(&seen) {
                last.remove(&token);
            }
        }
    }
}

impl Brake {
    /// A brake that is off and has seen nothing.
    #[must_use]
    pub fn new(settings: TokenSettings, labels: LaneLabels) -> Self {
        Self {
            labels,
            settings,
            hasher: RandomState::new(),
            counted: Recent::new(MAX_COUNTED, BAD_ONCE_IN),
            state: Mutex::default(),
        }
    }

    /// A push to this token was accepted.
    pub fn accepted(&self, token: &Secret) {
        let token = self.hasher.hash_one(token);
        let now = Instant::now();
        let mut state = self.lock();
        state.samples.add(token, Said::Accepted, now);
        state.last_accepted = Some(now);
        self.judge(&mut state, now);
    }

    /// An answer said that something is wrong with this token.
    pub fn bad(&self, token: &Secret) {
        let token = self.hasher.hash_one(token);
        let ((), first) = self.counted.get_or_insert_with(token, || ());
        let now = Instant::now();
        let mut state = self.lock();
        if first {
            state.samples.add(token, Said::Bad, now);
        }
        self.judge(&mut state, now);
    }

    /// Whether every verdict is `suspect` for now.
    pub fn is_on(&self) -> bool {
        let mut state = self.lock();
        // It recovers without traffic as well.
        self.judge(&mut state, Instant::now());
        state.on
    }

    /// Whether an unknown token may be called dead: others got through lately
    /// and the brake is off.
    pub fn trusts_unknown_tokens(&self) -> bool {
        let mut state = self.lock();
        self.judge(&mut state, Instant::now());
        let lately = state
            .last_accepted
            .is_some_and(|at| at.elapsed() <= self.settings.brake_window);
        lately && !state.on
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic half-way, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, state: &mut State, now: Instant) {
        let before = now.checked_sub(self.settings.brake_window);
        state.samples.forget(before);
        let (bad, samples) = (state.samples.bad.len(), state.samples.len());
        #[allow(clippy::cast_precision_loss)] // at most MAX_SAMPLES
        let share = if samples == 0 {
            0.0
        } else {
            bad as f64 / samples as f64
        };
        let enough = samples >= self.settings.brake_min_samples;
        let limit = self.settings.brake_share;
        let on = if state.on {
            enough && share >= limit / 2.0
        } else {
            enough && share >= limit
        };
        if state.on != on {
            state.on = on;
            self.tell(on);
        }
    }

    fn tell(&self, on: bool) {
        let LaneLabels {
            app,
            platform,
            environment,
        } = &self.labels;
        if on {
            tracing::warn!(
                app,
                platform,
                environment,
                "token brake on: the share of bad tokens jumped, every verdict is suspect now; \
                 check the environment, the bundle id and the key before deleting any token"
            );
        } else {
            tracing::warn!(
                app,
                platform,
                environment,
                "token brake off: verdicts count again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(n: usize) -> Secret {
        Secret::from(format!("token-{n}"))
    }

    fn brake() -> Brake {
        let labels = LaneLabels {
            app: "app".into(),
            platform: "ios",
            environment: "production",
        };
        Brake::new(TokenSettings::default(), labels)
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_of_a_fifth_puts_it_on_and_below_a_tenth_off() {
        let brake = brake();
        (0..80).for_each(|n| brake.accepted(&token(n)));
        (100..119).for_each(|n| brake.bad(&token(n)));
        assert!(!brake.is_on());
        brake.bad(&token(119));
        assert!(brake.is_on());
        (200..300).for_each(|n| brake.accepted(&token(n)));
        assert!(brake.is_on());
        brake.accepted(&token(300));
        assert!(!brake.is_on(), "20 of 201 is below a tenth");
    }

    #[tokio::test(start_paused = true)]
    async fn too_few_tokens_say_nothing() {
        let brake = brake();
        (0..49).for_each(|n| brake.bad(&token(n)));
        assert!(!brake.is_on());
        brake.bad(&token(49));
        assert!(brake.is_on());
    }

    #[tokio::test(start_paused = true)]
    async fn one_bad_token_counts_once_however_often_it_is_tried() {
        let brake = brake();
        for n in 0..49 {
            brake.accepted(&token(n));
        }
        for _ in 0..100 {
            brake.bad(&token(100));
        }
        assert!(!brake.is_on());
    }

    #[tokio::test(start_paused = true)]
    async fn it_recovers_by_itself_when_the_window_has_passed() {
        let brake = brake();
        for n in 0..50 {
            brake.bad(&token(n));
        }
        assert!(brake.is_on());
        tokio::time::advance(Duration::from_secs(301)).await;
        assert!(!brake.is_on());
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_tokens_are_trusted_to_be_dead_only_while_others_get_through() {
        let brake = brake();
        assert!(!brake.trusts_unknown_tokens());
        brake.accepted(&token(1));
        assert!(brake.trusts_unknown_tokens());
        tokio::time::advance(Duration::from_secs(301)).await;
        assert!(!brake.trusts_unknown_tokens());
    }

    /// Of 6 000 phones 30 % move to installation ids within an hour, at random;
    /// the service lists token and id of each of them until the token is called
    /// dead. The minutes at which the brake goes on and off, within three hours,
    /// if each phone rings `rings` times an hour.
    async fn migration(rings: usize) -> Vec<(usize, bool)> {
        const PHONES: usize = 6_000;
        const SECONDS: usize = 3 * 3600;
        let brake = brake();
        // Two orders of the phones that have nothing to do with each other.
        let place = |phone: usize, step: usize| phone * step % PHONES;
        let moves_at = |phone| match place(phone, 2_477) {
            place if place < PHONES * 3 / 10 => place * 3600 / (PHONES * 3 / 10),
            _ => usize::MAX,
        };
        let mut changes = Vec::new();
        let mut cleared = vec![false; PHONES];
        let mut on = false;
        for second in 0..SECONDS {
            let due = |second: usize| second * rings * PHONES / 3600;
            for phone in (due(second)..due(second + 1)).map(|ring| place(ring, 1_009)) {
                if moves_at(phone) > second {
                    brake.accepted(&token(phone));
                    continue;
                }
                brake.accepted(&token(PHONES + phone));
                if !cleared[phone] {
                    brake.bad(&token(phone));
                    cleared[phone] = !brake.is_on();
                }
            }
            if brake.is_on() != on {
                on = !on;
                changes.push((second / 60, on));
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(!brake.is_on());
        let left = (0..PHONES).filter(|phone| moves_at(*phone) != usize::MAX && !cleared[*phone]);
        assert_eq!(left.count(), 0, "every old token is called dead in the end");
        changes
    }

    #[tokio::test(start_paused = true)]
    async fn a_wave_of_phones_that_move_to_installation_ids_ends_by_itself() {
        for rings in [12, 4, 2] {
            assert_eq!(migration(rings).await, [], "{rings} rings an hour");
        }
        // Where a phone seldom rings, all that has piled up is found at once.
        assert_eq!(migration(1).await, [(53, true), (98, false)]);
    }

    /// One token in twenty is bad, and in the window there are more than are
    /// kept.
    #[tokio::test(start_paused = true)]
    async fn a_share_is_of_one_and_the_same_time_however_many_there_are() {
        let brake = brake();
        let mut n = 0;
        for _ in 0..110 {
            for _ in 0..4_750 {
                n += 1;
                brake.accepted(&token(n));
            }
            for _ in 0..250 {
                n += 1;
                brake.bad(&token(n));
            }
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(!brake.is_on(), "a twentieth is no jump");
        }
        for _ in 0..60_000 {
            n += 1;
            brake.bad(&token(n));
        }
        assert!(brake.is_on());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let mut samples = Samples::default();
        let now = Instant::now();
        for n in 0..(MAX_SAMPLES as u64 + 10) {
            let bad = n % 2 == 1;
            samples.add(n, if bad { Said::Bad } else { Said::Accepted }, now);
            samples.forget(None);
        }
        assert_eq!(samples.len(), MAX_SAMPLES);
        assert!(!samples.accepted.contains_key(&0), "the oldest go first");
        assert!(samples.order.len() <= 2 * MAX_SAMPLES);
    }
}
