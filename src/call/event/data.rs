//! Fields that only the apps understand.

use std::fmt;
use std::sync::{Arc, LazyLock};

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
