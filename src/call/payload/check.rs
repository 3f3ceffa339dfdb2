//! A profile tried on examples before the first call depends on it.

use std::time::Duration;

use serde_json::Value;

use super::error::{PayloadError, ProfileError};
use super::profile::Profile;
use crate::call::event::{Event, Limits};

/// Events that say as much and as little as events may.
const EXAMPLES: [&str; 4] = [
    include_str!("examples/ring.json"),
    include_str!("examples/ring_minimal.json"),
    include_str!("examples/cancel.json"),
    include_str!("examples/cancel_minimal.json"),
];

const LIMITS: Limits = Limits {
    ttl: Duration::from_secs(45),
    max_ttl: Duration::from_secs(120),
};

impl Profile {
    /// Renders the profile for example events, ring and cancel, full and
    /// minimal, on both platforms.
    ///
    /// A key that only an event's own `data` can fill is no fault, unless the
    /// profile brings `example_data`: then the full ring must render with it.
    ///
    /// # Errors
    /// The first payload that a provider would refuse or the apps could not
    /// read, with the key and the cure.
    pub fn check(&self) -> Result<(), ProfileError> {
        for (index, example) in EXAMPLES.iter().enumerate() {
            let event = self.example(example)?;
            let complete = index == 0 && self.example_data().is_some();
            for entry in event.devices() {
                let Ok(device) = &entry.device else { continue };
                let result = self.render(&event, device, event.sent_at);
                let error = match result {
                    Ok(_) | Err(PayloadError::NoCancel) => continue,
                    Err(
                        PayloadError::Missing { .. }
                        | PayloadError::NotObject { .. }
                        | PayloadError::Empty,
                    ) if !complete => continue,
                    Err(error) => error,
                };
                let place = format!("{}.{}", event.kind().name(), device.platform.name());
                return Err(ProfileError::new(self.name(), place, explain(&error)));
            }
        }
        Ok(())
    }

    fn example(&self, text: &str) -> Result<Event, ProfileError> {
        let error = |problem: String| ProfileError::new(self.name(), "example_data", problem);
        let mut event: Value = serde_json::from_str(text).map_err(|e| error(e.to_string()))?;
        if let Some(data) = self.example_data() {
            event["data"] = Value::Object(data.clone());
        }
        Event::decode(event.to_string().as_bytes(), LIMITS).map_err(|e| error(e.to_string()))
    }
}

/// The error and what to do about it.
fn explain(error: &PayloadError) -> String {
    let cure = match error {
        PayloadError::TooLarge { .. } => "leave something out, or cut it with `| truncate(n)`",
        PayloadError::Missing { .. } => {
            "take it off `required`, or put what fills it into `example_data`"
        }
        PayloadError::Empty => "write at least one key that every event can fill",
        PayloadError::NotUuid { .. } => "use call_uuid",
        PayloadError::ReservedKey { .. } => "choose another name",
        PayloadError::NotObject { .. } => "splice in an object, as {{ data }}",
        PayloadError::Expression { .. } => {
            "it has to hold for every event; the tests are defined, string, number and mapping"
        }
        PayloadError::NoCancel | PayloadError::UnknownPlatform => "add a tree for this platform",
    };
    format!("for an example event {error}: {cure}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::event::EventKind::{self, Cancel, Ring};
    use crate::call::payload::Profiles;

    #[test]
    fn every_example_is_a_whole_event_with_a_device_on_each_platform() {
        let profiles = Profiles::built_in().unwrap();
        let plain = profiles.get("plain").unwrap();
        let kinds: Vec<EventKind> = EXAMPLES
            .iter()
            .map(|text| {
                let event = plain.example(text).unwrap();
                let platforms: Vec<_> = event
                    .devices()
                    .iter()
                    .map(|entry| entry.device.as_ref().unwrap().platform.name())
                    .collect();
                assert_eq!(platforms, ["ios", "android"]);
                event.kind()
            })
            .collect();
        assert_eq!(kinds, [Ring, Ring, Cancel, Cancel]);
    }
}
