//! One message on its way: through the engine, then what the engine says is to
//! be done with it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use lapin::message::Delivery as Delivered;
use tracing::{Instrument as _, Span, error, warn};

use crate::call::event::{EventError, Part, PartNumber};
use crate::call::outcome::TraceContext;
use crate::engine::delivery::{Delivery, Source, Verdict};
use crate::spans::{self, Carried};

use super::context::Context;
use super::forward::{Original, dead_letter, explained, part_message};
use super::publisher::{PublishError, Publisher, pause};
use super::wire::text_of;

/// What the broker is to be told of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is done with.
    Ack,
    /// Somebody else is to have it, through no fault of its own.
    Requeue,
    /// It could not be handled: it goes back to its queue, and that counts
    /// towards the queue's delivery limit.
    Reject,
}

/// What it takes to handle the messages of one queue.
pub(crate) struct Handling {
    pub(crate) context: Arc<Context>,
    pub(crate) publisher: Publisher,
    pub(crate) source: Source,
    pub(crate) queue: String,
}

impl Handling {
    /// Handles a message. Its tag, and what the broker is to be told; nothing
    /// if the session is gone, for then the broker delivers it again anyway.
    pub(crate) fn run(
        self: Arc<Self>,
        message: Delivered,
    ) -> impl Future<Output = (u64, Option<Answer>)> {
        let counted = self.context.messages.token();
        let tag = message.delivery_tag;
        let original = Original {
            body: Bytes::from(message.data),
            properties: message.properties,
        };
        // What the future needs is made before it, and what is large is boxed:
        // so it is small enough for the allocator's short way.
        let (span, delivery) = self.delivery(&original);
        let message = Box::new((original, delivery));
        async move {
            let _ = &counted;
            let (original, delivery) = &*message;
            let handling = async {
                let verdict = self.context.dispatcher.handle(delivery).await;
                self.carry_out(verdict, original, &delivery.trace).await
            };
            let handling = handling.instrument(span);
            // A message that makes the engine panic must not take the others with
            // it; the delivery limit moves it to the dead queue in the end.
            let Ok(answer) = AssertUnwindSafe(handling).catch_unwind().await else {
                error!(
                    queue = self.queue,
                    "handling a message panicked; it goes back to its queue"
                );
                pause().await;
                return (tag, Some(Answer::Reject));
            };
            (tag, answer)
        }
    }

    async fn carry_out(
        &self,
        verdict: Verdict,
        original: &Original,
        trace: &Arc<TraceContext>,
    ) -> Option<Answer> {
        match verdict {
            Verdict::Settled => Some(Answer::Ack),
            Verdict::Abandoned => Some(Answer::Requeue),
            // Boxed, for rings, which are many, never come here.
            Verdict::Dead(error) => self.bury(original, &error).boxed().await,
            Verdict::Split(parts) => {
                let parts = parts.iter().map(|part| self.pass_on(original, part, trace));
                let answers = join_all(parts).boxed().await;
                // Without a session the broker delivers it again anyway.
                let all: Option<Vec<Answer>> = answers.into_iter().collect();
                let failed = all?.into_iter().find(|answer| *answer != Answer::Ack);
                Some(failed.unwrap_or(Answer::Ack))
            }
        }
    }

    /// Publishes a dead letter.
    async fn bury(&self, original: &Original, error: &EventError) -> Option<Answer> {
        let names = self.context.topology.names();
        let user = self.context.connector.user();
        let why = explained(error, original);
        let letter = dead_letter(original, names, user, &why, &self.queue);
        warn!(
            queue = self.queue,
            error = why,
            "a message goes to the dead queue"
        );
        match self.publisher.publish(letter).await {
            Ok(()) => Some(Answer::Ack),
            Err(PublishError::Gone) => None,
            Err(error @ (PublishError::Refused | PublishError::Returned)) => {
                warn!(queue = self.queue, %error, "a dead letter could not be published; it goes back");
                pause().await;
                Some(Answer::Reject)
            }
        }
    }

    /// Publishes a part to its platform's queue. If that does not take it, its
    /// phones ring from here: if the whole message went back, the phones of the
    /// other parts would ring again, and these would ring late.
    async fn pass_on(
        &self,
        original: &Original,
        part: &Part,
        trace: &Arc<TraceContext>,
    ) -> Option<Answer> {
        let names = self.context.topology.names();
        let user = self.context.connector.user();
        let message = part_message(original, names, user, part);
        match self.publisher.publish(message).await {
            Ok(()) => Some(Answer::Ack),
            Err(PublishError::Gone) => None,
            Err(error @ (PublishError::Refused | PublishError::Returned)) => {
                if self.context.complain_of_parts() {
                    let queue = names.queue_of(part.platform);
                    warn!(queue, %error, "a part of an event is not taken by its queue; this worker rings it itself");
                }
                let delivery = Delivery::of_part(part, Arc::clone(trace));
                let verdict = self.context.dispatcher.handle(&delivery).await;
                Some(match verdict {
                    Verdict::Settled => Answer::Ack,
                    Verdict::Dead(_) | Verdict::Split(_) | Verdict::Abandoned => Answer::Requeue,
                })
            }
        }
    }

    /// The message for the engine, and the span in which it is handled.
    fn delivery(&self, original: &Original) -> (Span, Delivery) {
        let headers = original.properties.headers().as_ref();
        let header = |name: &str| headers.and_then(|table| text_of(table.inner().get(name)?));
        let sender = Carried {
            traceparent: header("traceparent"),
            tracestate: header("tracestate"),
        };
        let span = spans::message(&self.queue, &sender);
        // What comes of it belongs below our span, if anybody collects spans.
        let Carried {
            traceparent,
            tracestate,
        } = spans::context_of(&span).unwrap_or(sender);
        let delivery = Delivery {
            body: original.body.clone(),
            source: self.source,
            part: header("x-part")
                .and_then(|part| part.parse().ok())
                .unwrap_or(PartNumber::WHOLE),
            trace: Arc::new(TraceContext {
                traceparent,
                tracestate,
            }),
        };
        (span, delivery)
    }
}
