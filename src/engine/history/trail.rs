//! What a push writes down while it is under way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::History;
use super::push::{
    Attempted, Course, Ended, LONGEST_SENTENCE, LONGEST_WORD, Push, Stage, cut, shortened,
};
use crate::call::outcome::PushOutcome;

/// The most attempts kept of one push: the first few and the last ones.
pub(super) const MAX_ATTEMPTS: usize = 32;
const FIRST_ATTEMPTS: usize = 8;

/// Where a push writes down what happens to it. If it is dropped before the
/// end, the worker has left the push to the broker.
#[derive(Debug)]
pub struct Trail<'a> {
    pub(super) history: &'a History,
    pub(super) push: Arc<Push>,
}

impl Trail<'_> {
    /// The call.
    #[must_use]
    pub fn call_id(&self) -> &str {
        &self.push.subject.call_id
    }

    /// The trace.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.push.subject.trace_id.as_deref()
    }

    /// An attempt has ended.
    pub fn attempt(&self, mut attempt: Attempted) {
        attempt.reason = attempt.reason.map(|text| shortened(text, LONGEST_WORD));
        attempt.detail = attempt.detail.map(|text| shortened(text, LONGEST_SENTENCE));
        let more = attempt.bytes();
        let mut less = 0;
        let mut course = self.push.course();
        if course.attempts.len() >= MAX_ATTEMPTS {
            less = course.attempts.remove(FIRST_ATTEMPTS).bytes();
            course.left_out += 1;
        }
        course.attempts.push(attempt);
        self.grow(&mut course, more, less);
    }

    /// It is final.
    pub fn end(&self, outcome: &PushOutcome) {
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
        let texts = [&ended.reason, &ended.detail, &ended.provider_id];
        let text: usize = texts
            .iter()
            .map(|t| t.as_ref().map_or(0, String::len))
            .sum();
        {
            let mut course = self.push.course();
            course.stage = Stage::Final(Box::new(ended));
            self.grow(&mut course, size_of::<Ended>() + text, 0);
        }
        self.history.count(outcome);
    }

    fn grow(&self, course: &mut Course, more: usize, less: usize) {
        if course.gone {
            return;
        }
        course.bytes = course.bytes + more - less;
        self.history.bytes.fetch_add(more, Ordering::Relaxed);
        self.history.bytes.fetch_sub(less, Ordering::Relaxed);
    }
}

impl Drop for Trail<'_> {
    fn drop(&mut self) {
        let mut course = self.push.course();
        if course.stage == Stage::UnderWay {
            course.stage = Stage::Left;
        }
    }
}
