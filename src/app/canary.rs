//! Proves each lane's credential now and then, without a phone: what has
//! expired, was revoked or switched off is known before the next call.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::lanes::{Client, Lanes};
use crate::call::push::Answer;
use crate::call::time::Timestamp;
use crate::engine::deadline::wall_clock;
use crate::metrics::LaneLabels;

/// Bound on one proof.
const LIMIT: Duration = Duration::from_secs(10);

/// Proofs under way at once.
const ABREAST: usize = 8;

/// What a lane's last proof said.
#[derive(Clone, Debug)]
pub(super) struct Proven {
    /// The provider's word if the credential was refused.
    pub(super) refused: Option<String>,
    pub(super) at: Timestamp,
}

/// The last proofs by lane. It talks to the clients and not through the lanes,
/// so that nothing of it counts for pauses, brakes and samples.
#[derive(Debug, Default)]
pub(super) struct Canary {
    proven: Mutex<HashMap<LaneLabels, Proven>>,
    hurry: Notify,
}

impl Canary {
    /// What a lane's last proof said, if there was one.
    pub(super) fn of(&self, labels: &LaneLabels) -> Option<Proven> {
        self.lock().get(labels).cloned()
    }

    /// Proves all now: credentials may be new.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Proves all lanes that are used, at once and then `every` so often. With
    /// up to a tenth less, or many workers would ask in the same moment.
    pub(super) async fn run(&self, every: Duration, lanes: impl Fn() -> Lanes) {
        loop {
            let lanes = lanes();
            let look = AssertUnwindSafe(self.look(&lanes)).catch_unwind();
            if look.await.is_err() {
                tracing::error!("proving credentials panicked, which is a bug to report");
            }
            let mut bytes = [0; 1];
            // Without randomness it is asked punctually.
            let _ = getrandom::fill(&mut bytes);
            let pause = every.mul_f64(1.0 - f64::from(bytes[0]) / 2560.0);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.hurry.notified() => {}
            }
        }
    }

    async fn look(&self, lanes: &Lanes) {
        let lanes = lanes.by_label();
        let used: Vec<_> = lanes
            .iter()
            .filter(|(_, client)| client.is_used())
            .collect();
        let mut answers = Vec::new();
        // A few at a time: rings need the streams, too.
        for few in used.chunks(ABREAST) {
            let proofs = few.iter().map(async |(lane, client)| {
                let answer = prove(client).await;
                (lane.labels().clone(), answer)
            });
            answers.extend(join_all(proofs).await);
        }
        let mut proven = self.lock();
        proven.retain(|labels, _| lanes.iter().any(|(lane, _)| lane.labels() == labels));
        for (labels, answer) in answers {
            // A provider that is away says nothing about the credential.
            let Some((taken, answer)) = answer else {
                continue;
            };
            let before = proven
                .get(&labels)
                .is_none_or(|proven| proven.refused.is_none());
            tell(&labels, before, taken, &answer);
            let now = Proven {
                // Our own faults have no word of a provider's.
                refused: (!taken).then(|| {
                    let class = || answer.class.name().to_owned();
                    answer.reason.unwrap_or_else(class)
                }),
                at: wall_clock(),
            };
            proven.insert(labels, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LaneLabels, Proven>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the credential is taken, if the answer says so.
async fn prove(client: &Client) -> Option<(bool, Answer)> {
    let answer = timeout(LIMIT, client.prove(LIMIT)).await.ok()?;
    Some((answer.class.proves_credential()?, answer))
}

fn tell(labels: &LaneLabels, before: bool, taken: bool, answer: &Answer) {
    let LaneLabels {
        app,
        platform,
        environment,
    } = labels;
    let (reason, detail) = (answer.reason.as_deref(), answer.detail.as_deref());
    if before && !taken {
        tracing::error!(
            app,
            platform,
            environment,
            reason,
            detail,
            "the canary was refused: rings would be, too; `ringpush explain` knows the reason"
        );
    } else if !before && taken {
        tracing::warn!(app, platform, environment, "the canary is accepted again");
    }
}
