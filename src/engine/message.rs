//! One message: settled once, or cut up.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use futures_util::future::join_all;
use uuid::Uuid;

use super::delivery::{Delivery, Source, Verdict};
use super::device::Done;
use super::dispatch::Dispatcher;
use super::flights::Entered;
use super::taken::Taken;
use crate::call::event::{Event, EventKind, MAX_PART, PartNumber, Platform, split};
use crate::call::outcome::{PushResult, ReportBody, Unreachable};

impl Dispatcher {
    /// A message that comes twice while the first is under way joins it.
    pub(super) async fn settle_once(&self, taken: &Taken, delivery: &Delivery) -> Verdict {
        let key = self.key_of(taken, delivery);
        let flight = match self.messages.enter(&key) {
            Entered::First(flight) => flight,
            Entered::Second(landing) => {
                return match landing.wait().await {
                    Some(true) => Verdict::Settled,
                    Some(false) | None => Verdict::Abandoned,
                };
            }
        };
        // Delivered again because its acknowledgement was lost.
        let before = self.settled.contains_key(&key);
        let settled = before || self.settle(taken, delivery).await;
        if settled {
            self.settled.insert(key, ());
        }
        flight.land(settled);
        if settled {
            Verdict::Settled
        } else {
            Verdict::Abandoned
        }
    }

    /// Tells a message from others, also of the same event.
    fn key_of(&self, taken: &Taken, delivery: &Delivery) -> (Uuid, u64) {
        let hash = self.hasher.hash_one((&delivery.body, delivery.source));
        (taken.event.event_id, hash)
    }

    /// Makes every device final and its reports safe.
    async fn settle(&self, taken: &Taken, delivery: &Delivery) -> bool {
        let done = join_all(taken.event.devices().iter().map(async |entry| {
            match (&entry.device, taken.event.kind()) {
                (Err(bad), _) => {
                    self.reject(taken, bad);
                    Done::Final(PushResult::Rejected)
                }
                (Ok(device), EventKind::Ring) => self.ring(taken, device).await,
                (Ok(device), EventKind::Cancel) => self.cancel(taken, device).await,
            }
        }))
        .await;
        let platform = match delivery.source {
            Source::Platform(platform) => platform,
            Source::Calls => Platform::Unknown,
        };
        let mut results = BTreeMap::<PushResult, u32>::new();
        let (mut own, mut unfinished) = (false, false);
        for done in done {
            match done {
                Done::Final(result) => {
                    own = true;
                    *results.entry(result).or_default() += 1;
                }
                Done::Elsewhere(result) => *results.entry(result).or_default() += 1,
                Done::Nothing => {}
                Done::Unfinished => unfinished = true,
            }
        }
        if own && !unfinished && taken.event.kind() == EventKind::Ring {
            self.unreachable(taken, results, platform, delivery.part);
        }
        self.reports.settle(platform, &taken.receipts).await && !unfinished
    }

    fn unreachable(
        &self,
        taken: &Taken,
        results: BTreeMap<PushResult, u32>,
        platform: Platform,
        number: PartNumber,
    ) {
        if results.contains_key(&PushResult::Accepted) {
            return;
        }
        let event = &taken.event;
        self.publish(
            taken,
            ReportBody::Unreachable(Unreachable {
                event_id: event.event_id,
                call_id: Arc::clone(&event.call_id),
                callee: event.callee.clone(),
                devices: event.devices().len(),
                results,
                platform,
                part: number.part,
                parts: number.parts,
            }),
        );
    }

    /// Cuts a message up; devices that are in no part are reported here.
    pub(super) async fn split(&self, taken: &Taken, delivery: &Delivery) -> Verdict {
        let parts = match split(&delivery.body, &taken.event) {
            Ok(parts) => parts,
            Err(error) => return Verdict::Dead(error),
        };
        if parts.is_empty() {
            // No device at all (a cancel of the whole call) or only bad ones.
            return self.settle_once(taken, delivery).await;
        }
        let bad = taken
            .event
            .devices()
            .iter()
            .filter_map(|entry| entry.device.as_ref().err());
        let key = self.key_of(taken, delivery);
        if self.settled.contains_key(&key) {
            // Delivered again: what is bad has been reported.
            return Verdict::Split(parts);
        }
        bad.for_each(|bad| self.reject(taken, bad));
        if self
            .reports
            .settle(Platform::Unknown, &taken.receipts)
            .await
        {
            self.settled.insert(key, ());
            Verdict::Split(parts)
        } else {
            Verdict::Abandoned
        }
    }
}

/// Whether a message has to be cut up before its devices can ring.
pub(super) fn must_split(event: &Event, source: Source) -> bool {
    let platform = match source {
        Source::Calls => return true,
        Source::Platform(platform) => platform,
    };
    let elsewhere = |device: &Platform| *device != platform;
    event.devices().len() > MAX_PART
        || event
            .devices()
            .iter()
            .any(|entry| entry.device.as_ref().is_ok_and(|d| elsewhere(&d.platform)))
}
