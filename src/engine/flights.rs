//! Work that must be done once: whoever comes second waits for the first.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Things under way by key. As many entries as there is work in flight.
#[derive(Debug)]
pub struct Flights<K: Eq + Hash, V> {
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
}

impl<K: Eq + Hash, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self {
            under_way: Arc::default(),
        }
    }
}

/// The answer to "may I do this?".
#[derive(Debug)]
pub enum Entered<K: Eq + Hash, V> {
    /// Yes, and land it when done.
    First(Flight<K, V>),
    /// Somebody does it already.
    Second(Landing<V>),
}

/// The right and duty to do the work. Dropping it without landing tells those
/// who wait that it was not finished.
#[derive(Debug)]
pub struct Flight<K: Eq + Hash, V> {
    key: Option<K>,
    done: watch::Sender<Option<V>>,
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
}

/// A wait for somebody else's work.
#[derive(Debug)]
pub struct Landing<V>(watch::Receiver<Option<V>>);

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    /// Starts the work of this key, or joins it.
    pub fn enter(&self, key: &K) -> Entered<K, V> {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = under_way.get(key) {
            return Entered::Second(Landing(running.clone()));
        }
        let (done, running) = watch::channel(None);
        under_way.insert(key.clone(), running);
        let under_way = Arc::clone(&self.under_way);
        Entered::First(Flight {
            key: Some(key.clone()),
            done,
            under_way,
        })
    }

    /// How much is under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}

impl<K: Eq + Hash, V> Flight<K, V> {
    /// The work is done; those who wait get the value.
    pub fn land(self, value: V) {
        self.done.send_replace(Some(value));
    }
}

impl<K: Eq + Hash, V> Drop for Flight<K, V> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.under_way
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&key);
        }
    }
}

impl<V: Clone> Landing<V> {
    /// The value that the first one landed with; `None` if it never landed.
    pub async fn wait(mut self) -> Option<V> {
        self.0
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|value| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_gets_what_the_first_landed_with() {
        let flights = Flights::<u8, &str>::default();
        let Entered::First(flight) = flights.enter(&1) else {
            panic!("nothing is under way")
        };
        let Entered::Second(landing) = flights.enter(&1) else {
            panic!("1 is under way")
        };
        assert!(matches!(flights.enter(&2), Entered::First(_)));
        flight.land("done");
        assert_eq!(landing.wait().await, Some("done"));
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn a_flight_that_is_dropped_frees_its_key_and_wakes_those_who_wait() {
        let flights = Flights::<u8, &str>::default();
        let Entered::First(flight) = flights.enter(&1) else {
            panic!("nothing is under way")
        };
        let Entered::Second(landing) = flights.enter(&1) else {
            panic!("1 is under way")
        };
        drop(flight);
        assert_eq!(landing.wait().await, None);
        assert!(matches!(flights.enter(&1), Entered::First(_)));
    }
}
