//! Rings for phones that do not exist, made while they are sent.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use uuid::Uuid;

use super::args::Args;
use super::target::Target;
use crate::app::profiles;
use crate::call::event::{Event, Platform};
use crate::call::time::Timestamp;
use crate::cli::Usage;
use crate::engine::deadline::wall_clock;

/// What a ring is made of; everything in it but ids, tokens and times.
#[derive(Debug)]
pub(super) struct Rings {
    platforms: Vec<Platform>,
    devices: u32,
    life: Duration,
    app: String,
    /// From `media` to before `devices`.
    middle: String,
    /// Tells this run's ids and tokens from another's.
    nonce: u64,
}

/// A ring as a producer publishes it.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    pub(super) event_id: Uuid,
    /// Of all its phones.
    pub(super) platform: Platform,
    pub(super) body: Bytes,
}

/// When a ring is due, from the beginning of the run. It travels in the ring's
/// id, so that nothing has to be remembered of rings under way.
pub(super) fn due(event_id: Uuid) -> Duration {
    Duration::from_nanos(event_id.as_u64_pair().1)
}

/// The same of a phone's token, which the provider sees. None of another's.
pub(super) fn due_of_token(token: &str) -> Option<Duration> {
    let digits = token.split_once(":APA91b").map_or(token, |(_, rest)| rest);
    let word = |range| u64::from_str_radix(digits.get(range)?, 16).ok();
    Some(Duration::from_nanos(word(0..16)? ^ word(16..32)?))
}

impl Rings {
    /// # Errors
    /// There is no such profile, or a ring with it is not a valid event.
    pub(super) fn new(target: &Target, args: &Args) -> anyhow::Result<Self> {
        let known = profiles(&target.config)?;
        let name = args.profile.as_deref().unwrap_or(&target.profile);
        let Some(profile) = known.get(name) else {
            let names: Vec<&str> = known.names().collect();
            let problem = format!("no such profile; known are {}", names.join(", "));
            return Err(Usage(format!("--profile {name}: {problem}")).into());
        };
        let caller = json!({"id": "bench-caller", "name": "Bench Caller", "handle": "+15550100"});
        let data = json!(profile.example_data());
        let rings = Self {
            platforms: target.platforms(),
            devices: args.devices,
            life: args.timeout,
            app: json!(target.app).to_string(),
            middle: format!(
                r#""media":"audio","profile":{},"caller":{caller},"callee":{{"id":"bench-callee"}},"data":{data}"#,
                json!(name)
            ),
            nonce: Uuid::new_v4().as_u64_pair().1,
        };
        let first = rings.ring(0, Duration::ZERO, wall_clock());
        let event = Event::decode(&first.body, target.config.ring.limits())?;
        if let Some(Err(bad)) = event.devices().first().map(|entry| &entry.device) {
            anyhow::bail!("a ring of this app is broken: {}", bad.error);
        }
        Ok(rings)
    }

    /// Pushes in a ring.
    pub(super) const fn devices(&self) -> u32 {
        self.devices
    }

    /// The ring with this number, due so long after the beginning.
    pub(super) fn ring(&self, number: u64, due: Duration, sent_at: Timestamp) -> Ring {
        let place = usize::try_from(number).unwrap_or_default() % self.platforms.len().max(1);
        let platform = self.platforms.get(place).copied().unwrap_or(Platform::Ios);
        let due = u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
        let id = Uuid::from_u64_pair(self.nonce.wrapping_add(number), due);
        let end = sent_at.plus(self.life);
        let mut body = format!(
            r#"{{"v":1,"event":"ring","event_id":"{id}","call_id":"bench-{id}","sent_at":"{sent_at}","expires_at":"{end}",{},"devices":["#,
            self.middle
        );
        for device in 0..self.devices {
            let token = self.token(platform, number, device, due);
            let (comma, name) = (if device > 0 { "," } else { "" }, platform.name());
            // Writing to a string does not fail.
            let _ = write!(
                body,
                r#"{comma}{{"id":"phone-{device}","platform":"{name}","app":{},"token":"{token}"}}"#,
                self.app
            );
        }
        body.push_str("]}");
        Ring {
            event_id: id,
            platform,
            body: Bytes::from(body),
        }
    }

    /// A token of the usual form and length that no other phone of any run has. Two
    /// of its words make out when the ring is due.
    fn token(&self, platform: Platform, number: u64, device: u32, due: u64) -> String {
        let phone = number
            .wrapping_mul(u64::from(self.devices))
            .wrapping_add(u64::from(device));
        let first = scattered(self.nonce.wrapping_add(phone));
        let rest = first ^ due;
        match platform {
            Platform::Ios => format!("{first:016x}{rest:016x}{first:016x}{rest:016x}"),
            Platform::Android | Platform::Unknown => {
                let pair = format!("{first:016x}{rest:016x}");
                format!("{}:APA91b{pair}{pair}{pair}{pair}", &pair[..22])
            }
        }
    }
}

/// Every number has another, and neighbours look nothing alike (`SplitMix64`).
const fn scattered(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::call::event::Limits;

    fn rings(devices: u32) -> Rings {
        Rings {
            platforms: vec![Platform::Ios, Platform::Android],
            devices,
            life: Duration::from_secs(10),
            app: "\"com.example.calls\"".to_owned(),
            middle: r#""caller":{"id":"a"}"#.to_owned(),
            nonce: u64::MAX - 3,
        }
    }

    #[test]
    fn rings_are_valid_and_no_id_or_token_comes_twice() {
        let limits = Limits {
            ttl: Duration::from_secs(45),
            max_ttl: Duration::from_secs(120),
        };
        let rings = rings(3);
        let (mut ids, mut tokens) = (HashSet::new(), HashSet::new());
        for number in 0..200 {
            let due = Duration::from_micros(number * 2_000);
            let now = Timestamp::from_millis(1_790_000_000_000);
            let ring = rings.ring(number, due, now);
            let event = Event::decode(&ring.body, limits).unwrap();
            assert_eq!(event.event_id, ring.event_id);
            assert_eq!(super::due(event.event_id), due);
            assert_eq!(event.expires_at.since(event.sent_at), rings.life);
            assert!(ids.insert(event.event_id));
            for entry in event.devices() {
                let device = entry.device.as_ref().unwrap();
                let wanted = rings.platforms[usize::try_from(number % 2).unwrap()];
                assert_eq!(device.platform, wanted);
                assert_eq!(ring.platform, wanted);
                assert_eq!(due_of_token(device.token.expose()), Some(due));
                assert!(tokens.insert(device.token.expose().to_owned()));
            }
        }
        assert_eq!(tokens.len(), 600);
        for other in [
            "",
            "80f1c2",
            "not hexadecimal at all, but long",
            "x:APA91b12",
        ] {
            assert_eq!(due_of_token(other), None);
        }
    }

    /// So that a script can pick a share of the phones by their first digit.
    #[test]
    fn first_digits_of_tokens_are_evenly_spread() {
        let rings = rings(1);
        for platform in [Platform::Ios, Platform::Android] {
            let zeros = (0..16_000)
                .filter(|n| rings.token(platform, *n, 0, 7).starts_with('0'))
                .count();
            assert!((800..1_200).contains(&zeros), "{zeros} of 16000");
        }
    }
}
