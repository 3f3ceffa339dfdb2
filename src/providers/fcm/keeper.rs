//! Opens connections, and opens them again when they have failed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::failure;
use super::pool::{Channel, Slots, State};

/// How often connections are seen to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    /// Wait before a connection in trouble is tried again; it doubles.
    pub(super) first: Duration,
    /// The longest such wait.
    pub(super) longest: Duration,
    /// All idle connections are looked at this often: that one ended, or that no
    /// new one could be made in its place, would else show only with the next
    /// ring.
    pub(super) look_every: Duration,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(15),
            look_every: Duration::from_secs(15),
        }
    }
}

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
        match self.ask(channel).await {
            Ok(()) => channel.answered(),
            Err(trouble) => *self.place() = Some(trouble),
        }
    }

    /// Sees whether one that was proven still is.
    async fn look(&self, channel: &Channel) {
        if self.ask(channel).await.is_ok() {
            return;
        }
        // That an old connection has ended says nothing of a new one.
        if let Err(trouble) = self.ask(channel).await {
            *self.place() = Some(trouble);
            channel.broken();
        }
    }

    async fn ask(&self, channel: &Channel) -> Result<(), String> {
        let request = channel.http().head(&*self.root).send();
        let trouble = match tokio::time::timeout(self.limit, request).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => failure::classify(&error).detail,
            Err(_) => None,
        };
        Err(trouble.unwrap_or_else(|| "no answer in time".to_owned()))
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
/// whether it still is, and looks now and then whether one that is idle could
/// still be used. Never ends.
pub(super) async fn keep(slots: Arc<Slots>, opener: Opener, rhythm: Rhythm) {
    let mut pause = rhythm.first;
    let mut looked = Instant::now();
    loop {
        tokio::time::sleep(pause).await;
        let mut idle = slots.all();
        idle.retain(|channel| channel.is_idle());
        let (proven, broken): (Vec<_>, Vec<_>) = idle
            .into_iter()
            .partition(|channel| channel.state() == State::Ready);
        let none = slots.ready() == 0;
        opener.open_all(&broken).await;
        if looked.elapsed() >= rhythm.look_every {
            looked = Instant::now();
            // One after the other it would take a provider that is gone as many
            // looks as there are connections to be noticed.
            join_all(proven.iter().map(|channel| opener.look(channel))).await;
        }
        let still = broken.iter().any(|channel| channel.state() != State::Ready);
        pause = if still {
            (pause * 2).min(rhythm.longest)
        } else {
            rhythm.first
        };
        match (none, slots.ready() == 0) {
            (true, false) => tracing::info!(platform = "android", "connected to FCM"),
            (false, true) => opener.complain(),
            (true, true) | (false, false) => {}
        }
    }
}
