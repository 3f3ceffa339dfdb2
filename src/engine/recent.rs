//! The newest of something, for a while: [`Recent`].

use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

/// What was put in last, by key: so many at most, and each for so long.
/// Asking for one keeps it no longer.
#[derive(Debug)]
pub(super) struct Recent<K: Hash + Eq, V> {
    entries: Mutex<LruCache<K, (Instant, V)>>,
    at_most: usize,
    keep: Duration,
}

impl<K: Hash + Eq, V: Clone> Recent<K, V> {
    pub(super) fn new(at_most: usize, keep: Duration) -> Self {
        Self {
            // One with a bound takes all of its memory at once.
            entries: Mutex::new(LruCache::unbounded()),
            at_most,
            keep,
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        let entries = self.lock();
        let (since, value) = entries.peek(key)?;
        (since.elapsed() < self.keep).then(|| value.clone())
    }

    pub(super) fn insert(&self, key: K, value: V) {
        let mut entries = self.lock();
        self.put(&mut entries, key, value);
    }

    /// What is there, or a new one, and whether it is new.
    pub(super) fn get_or_insert_with(&self, key: K, new: impl FnOnce() -> V) -> (V, bool) {
        let mut entries = self.lock();
        if let Some((since, value)) = entries.peek(&key)
            && since.elapsed() < self.keep
        {
            return (value.clone(), false);
        }
        let value = new();
        self.put(&mut entries, key, value.clone());
        (value, true)
    }

    fn put(&self, entries: &mut LruCache<K, (Instant, V)>, key: K, value: V) {
        let now = Instant::now();
        entries.put(key, (now, value));
        // Two at a time, so that those whose time is over go although none is
        // looked for.
        for _ in 0..2 {
            let old = |&(since, _): &(Instant, V)| now.duration_since(since) >= self.keep;
            if entries.len() > self.at_most || entries.peek_lru().is_some_and(|(_, last)| old(last))
            {
                entries.pop_lru();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<K, (Instant, V)>> {
        // Nothing in here can panic half-way, so what is poisoned is whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const KEEP: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn it_keeps_each_for_its_time_and_frees_it_with_the_next() {
        let recent = Recent::new(100, KEEP);
        recent.insert(1, "one");
        advance(KEEP / 2).await;
        assert_eq!(recent.get_or_insert_with(1, || "again"), ("one", false));
        recent.insert(2, "two");
        advance(KEEP / 2).await;
        assert_eq!(recent.get(&1), None, "asking for it kept it no longer");
        assert_eq!(recent.get(&2), Some("two"));
        recent.insert(3, "three");
        assert_eq!(
            recent.lock().len(),
            2,
            "the first is not in memory any more"
        );
        assert_eq!(recent.get_or_insert_with(1, || "again"), ("again", true));
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let recent = Recent::new(3, KEEP);
        for key in 0..10 {
            recent.insert(key, key);
        }
        let kept: Vec<_> = (0..10).filter(|key| recent.get(key).is_some()).collect();
        assert_eq!(kept, [7, 8, 9]);
    }
}
