//! Identifiers that producers, workers and phones compute alike.

use uuid::{Uuid, uuid};

/// Namespace of call UUIDs derived from call ids that are not UUIDs.
pub const CALL_NAMESPACE: Uuid = uuid!("8333dcd0-87d6-46a5-a8af-c586e2cb2fb8");

/// Namespace of `apns-id`s.
pub const PUSH_NAMESPACE: Uuid = uuid!("96f7f73d-472f-4b8c-9cd4-cc877cca1c6c");

/// Reads a UUID in its canonical form: 36 characters, hyphens, any case.
///
/// Phones read UUIDs with parsers that know no other form (`UUID(uuidString:)`
/// is one), so braces, URNs and bare hex digits are not UUIDs here.
#[must_use]
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 {
        Uuid::try_parse(text).ok()
    } else {
        None
    }
}

/// The UUID that `CallKit` shall know a call by: the call id if it is a UUID,
/// else its `UUIDv5` under [`CALL_NAMESPACE`].
#[must_use]
pub fn call_uuid(call_id: &str) -> Uuid {
    parse_uuid(call_id).unwrap_or_else(|| Uuid::new_v5(&CALL_NAMESPACE, call_id.as_bytes()))
}

/// The `apns-id` of one event's push to one device, the same on every attempt
/// of every worker; also the key by which pushes are de-duplicated.
#[must_use]
pub fn push_id(event_id: Uuid, device_id: &str) -> Uuid {
    let mut buffer = Uuid::encode_buffer();
    let event: &str = event_id.hyphenated().encode_lower(&mut buffer);
    let name = [event, "/", device_id].concat();
    Uuid::new_v5(&PUSH_NAMESPACE, name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_id_that_is_a_uuid_is_its_own_call_uuid() {
        let id = "7D0F4A58-6F0B-4F2E-9A55-2C1B8F1E0A11";
        assert_eq!(call_uuid(id).to_string(), id.to_lowercase());
    }

    #[test]
    fn any_other_call_id_is_hashed_under_the_documented_namespace() {
        // Computed with Python: uuid.uuid5(namespace, "room-42").
        assert_eq!(call_uuid("room-42").to_string(), ROOM_42);
        let bare = "7d0f4a586f0b4f2e9a552c1b8f1e0a11";
        assert_ne!(call_uuid(bare).simple().to_string(), bare);
    }

    #[test]
    fn push_ids_hash_event_slash_device() {
        let event = uuid!("0d5c1f7e-3c55-4f0e-9a10-6a3f0a7be001");
        // Computed with Python: uuid.uuid5(namespace, "<event>/phone-1").
        assert_eq!(push_id(event, "phone-1").to_string(), PHONE_1);
    }

    const ROOM_42: &str = "f6376dea-1e76-514e-b020-5eeaad7e8deb";
    const PHONE_1: &str = "f6bca434-7e76-53e0-8ad2-888dcdd909be";
}
