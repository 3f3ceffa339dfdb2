//! What a push writes down while it is under way.

use super::History;
use super::push::{Attempted, Ended, LONGEST_SENTENCE, LONGEST_WORD, Seen, Stage, cut, shortened};
use crate::call::outcome::PushOutcome;

/// The most attempts kept of one push: the first few and the last ones.
pub(super) const MAX_ATTEMPTS: usize = 32;
const FIRST_ATTEMPTS: usize = 8;

/// Where a push writes down what happens to it. If it is dropped before the
/// end, the worker has left the push to the broker.
#[derive(Debug)]
pub struct Trail<'a> {
    pub(super) history: &'a History,
    pub(super) number: u64,
    pub(super) open: bool,
}

impl Trail<'_> {
    /// An attempt has ended.
    pub fn attempt(&self, mut attempt: Attempted) {
        attempt.reason = attempt.reason.map(|text| shortened(text, LONGEST_WORD));
        attempt.detail = attempt.detail.map(|text| shortened(text, LONGEST_SENTENCE));
        let mut kept = self.history.lock();
        kept.change(self.number, |push| {
            if push.attempts.len() >= MAX_ATTEMPTS {
                push.attempts.remove(FIRST_ATTEMPTS);
                push.left_out += 1;
            }
            push.attempts.push(attempt);
        });
        kept.trim(self.history.capacity);
    }

    /// It is final.
    pub fn end(mut self, outcome: &PushOutcome) {
        self.open = false;
        let word = |text: &Option<String>| text.as_deref().map(|t| cut(t, LONGEST_WORD));
        let ended = Ended {
            at: outcome.at,
            result: outcome.result,
            reason: word(&outcome.reason),
            detail: outcome.detail.as_deref().map(|t| cut(t, LONGEST_SENTENCE)),
            provider_id: outcome
                .provider_id
                .as_deref()
                .map(|t| cut(t, 2 * LONGEST_WORD)),
            environment: outcome.environment,
            attempts: outcome.attempts,
            queue_ms: outcome.queue_ms,
            push_ms: outcome.push_ms,
        };
        self.history.end(self.number, Box::new(ended), outcome);
    }
}

impl Drop for Trail<'_> {
    fn drop(&mut self) {
        if self.open {
            let left = |push: &mut Seen| push.stage = Stage::Left;
            self.history.lock().change(self.number, left);
        }
    }
}
