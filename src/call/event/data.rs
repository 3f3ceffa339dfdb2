//! Fields that only the apps understand, and fields that nobody does.

use std::fmt;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Opaque fields for the app, in the producer's order. Cheap to clone; `Debug`
/// shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Data(pub Arc<Map<String, Value>>);

impl Data {
    /// These with the fields of `own` over them.
    pub(super) fn with(&self, own: Map<String, Value>) -> Self {
        if own.is_empty() {
            return self.clone();
        }
        if self.0.is_empty() {
            return Self(Arc::new(own));
        }
        let mut data = (*self.0).clone();
        data.extend(own);
        Self(Arc::new(data))
    }
}

impl Default for Data {
    fn default() -> Self {
        // Most devices have none, so they share one.
        static EMPTY: LazyLock<Arc<Map<String, Value>>> = LazyLock::new(Arc::default);
        Self(Arc::clone(&EMPTY))
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Data([redacted])")
    }
}

/// Fields of a nested object that mean nothing. They are ignored, but they must
/// be values that can be held (numbers of a size that exists, not nested too
/// deep).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::<String, Value>::deserialize(deserializer).map(|_| Self)
    }
}
