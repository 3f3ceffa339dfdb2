//! Opens connections, and opens them again when they have failed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;

use super::failure;
use super::pool::{Channel, Slots};

/// Wait before a connection in trouble is tried again; it doubles.
const FIRST: Duration = Duration::from_secs(1);
/// The longest such wait.
const LONGEST: Duration = Duration::from_secs(15);

/// Makes the first request of a connection.
#[derive(Clone)]
pub(super) struct Opener {
    /// What is asked for: FCM answers 404 to its root, without a credential
    /// and without an effect.
    root: Arc<str>,
    limit: Duration,
    /// What the last failure was.
    trouble: Arc<Mutex<Option<String>>>,
}

impl Opener {
    pub(super) fn new(root: String, limit: Duration) -> Self {
        Self {
            root: root.into(),
            limit,
            trouble: Arc::default(),
        }
    }

    /// Opens one, or gives up in time.
    pub(super) async fn open(&self, channel: &Channel) {
        let request = channel.http().head(&*self.root).send();
        let trouble = match tokio::time::timeout(self.limit, request).await {
            Ok(Ok(_)) => return channel.answered(),
            Ok(Err(error)) => failure::classify(&error).detail,
            Err(_) => None,
        };
        let trouble = trouble.unwrap_or_else(|| "no answer in time".to_owned());
        *self.place() = Some(trouble);
    }

    /// Opens several at once.
    pub(super) async fn open_all(&self, channels: &[Arc<Channel>]) {
        join_all(channels.iter().map(|channel| self.open(channel))).await;
    }

    /// What the last failure was.
    pub(super) fn trouble(&self) -> Option<String> {
        self.place().clone()
    }

    /// Says in the log that there is no connection.
    pub(super) fn complain(&self) {
        let detail = self.trouble();
        tracing::warn!(
            platform = "android",
            endpoint = %self.root,
            detail,
            "could not connect to FCM, trying again; `ringpush check` looks at name, route and TLS"
        );
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens again what is in trouble and has nothing under way that would show
/// whether it still is. Never ends.
pub(super) async fn keep(slots: Arc<Slots>, opener: Opener) {
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        let mut idle = slots.all();
        idle.retain(|channel| channel.is_idle());
        if idle.is_empty() {
            pause = FIRST;
            continue;
        }
        let none = slots.ready() == 0;
        opener.open_all(&idle).await;
        let still = idle.iter().any(|channel| channel.is_idle());
        pause = if still {
            (pause * 2).min(LONGEST)
        } else {
            FIRST
        };
        if none && slots.ready() > 0 {
            tracing::info!(platform = "android", "connected to FCM");
        }
    }
}
