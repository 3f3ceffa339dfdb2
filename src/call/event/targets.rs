//! Which devices of an event are the same phone under two ids, as after a new
//! installation whose old row was left.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::types::{Device, DeviceEntry};
use super::words::Platform;

/// What is pushed to: app, platform and token, or installation id. A token of `APNs` is the same in
/// any letter case.
struct Target<'a>(&'a Device);

impl Target<'_> {
    fn token(&self) -> &[u8] {
        self.0.token.expose().as_bytes()
    }
}

impl Hash for Target<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Blind to letter case, in pieces because hashing single bytes is slow.
        for piece in self.token().chunks(32) {
            let mut lower = [0; 32];
            for (to, from) in lower.iter_mut().zip(piece) {
                *to = from | 0x20;
            }
            state.write(&lower);
        }
    }
}

impl PartialEq for Target<'_> {
    fn eq(&self, other: &Self) -> bool {
        let same = match self.0.platform {
            Platform::Ios => self.token().eq_ignore_ascii_case(other.token()),
            Platform::Android | Platform::Unknown => self.token() == other.token(),
        };
        let (one, two) = (self.0, other.0);
        same && one.platform == two.platform && one.target == two.target && one.app == two.app
    }
}

impl Eq for Target<'_> {}

/// The devices whose token stands in an earlier entry, with their places.
pub(super) fn repeated(entries: &[DeviceEntry]) -> Vec<(usize, Arc<Device>)> {
    if entries.len() < 2 {
        return Vec::new();
    }
    let mut seen = HashSet::with_capacity(entries.len());
    let devices = entries.iter().enumerate();
    devices
        .filter_map(|(index, entry)| Some((index, entry.device.as_ref().ok()?)))
        .filter(|(_, device)| !seen.insert(Target(device)))
        .map(|(index, device)| (index, Arc::clone(device)))
        .collect()
}
