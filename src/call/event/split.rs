//! One event as several, each for one platform's queue.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::decode::without_mark;
use super::error::EventError;
use super::types::Event;
use super::words::Platform;

/// The most devices in one part.
pub const MAX_PART: usize = 100;

/// Which part of how many, as in the header `x-part: 1/2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartNumber {
    /// From 1.
    pub part: u32,
    /// At least `part`.
    pub parts: u32,
}

impl PartNumber {
    /// An event that was not split.
    pub const WHOLE: Self = Self { part: 1, parts: 1 };
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.part, self.parts)
    }
}

/// Not of the form `1/2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a part number such as 1/2")]
pub struct InvalidPartNumber;

impl FromStr for PartNumber {
    type Err = InvalidPartNumber;

    fn from_str(text: &str) -> Result<Self, InvalidPartNumber> {
        let (part, parts) = text.split_once('/').ok_or(InvalidPartNumber)?;
        let part = part.parse().map_err(|_| InvalidPartNumber)?;
        let parts = parts.parse().map_err(|_| InvalidPartNumber)?;
        if part == 0 || part > parts {
            return Err(InvalidPartNumber);
        }
        Ok(Self { part, parts })
    }
}

/// A part of an event, to be published to its platform's queue with all
/// properties and headers of the original.
#[derive(Clone, PartialEq, Eq)]
pub struct Part {
    /// [`Platform::Ios`] or [`Platform::Android`].
    pub platform: Platform,
    /// Which part this is.
    pub number: PartNumber,
    /// The message body.
    pub body: Bytes,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Part({} {}, {} bytes)",
            self.platform.name(),
            self.number,
            self.body.len()
        )
    }
}

/// Splits an event by platform and into parts of at most [`MAX_PART`] devices.
/// Every field of the body stays as it came; bad devices are in no part (they
/// are reported where the event is split).
///
/// # Errors
/// The body is not the one that `event` was decoded from.
pub fn split(body: &[u8], event: &Event) -> Result<Vec<Part>, EventError> {
    let not_the_event = |_| EventError::new("body", "is not the one that was decoded");
    let fields: BTreeMap<String, &RawValue> =
        serde_json::from_slice(without_mark(body)).map_err(not_the_event)?;
    let raw = fields.get("devices").map(|raw| raw.get());
    let raw: Vec<&RawValue> = match raw.filter(|raw| *raw != "null") {
        Some(raw) => serde_json::from_str(raw).map_err(not_the_event)?,
        None => Vec::new(),
    };
    let mut chunks: Vec<(Platform, Vec<&RawValue>)> = Vec::new();
    for platform in [Platform::Ios, Platform::Android] {
        let entries = event.devices().iter().zip(&raw);
        let raw: Vec<&RawValue> = entries
            .filter(|(entry, _)| entry.device.as_ref().is_ok_and(|d| d.platform == platform))
            .map(|(_, raw)| *raw)
            .collect();
        chunks.extend(raw.chunks(MAX_PART).map(|chunk| (platform, chunk.to_vec())));
    }
    let parts = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
    let mut split = Vec::with_capacity(chunks.len());
    for (part, (platform, devices)) in (1..).zip(chunks) {
        let devices = serde_json::value::to_raw_value(&devices).map_err(not_the_event)?;
        let mut fields = fields.clone();
        fields.insert("devices".to_owned(), &devices);
        let body = serde_json::to_vec(&fields).map_err(not_the_event)?;
        split.push(Part {
            platform,
            number: PartNumber { part, parts },
            body: body.into(),
        });
    }
    Ok(split)
}
