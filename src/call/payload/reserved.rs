//! The keys of `data` that FCM keeps to itself.

/// Whether FCM refuses a message with this key ("FCM `HTTP` v1 API, Message.data").
pub(super) fn is_reserved(key: &str) -> bool {
    matches!(key, "from" | "gcm" | "message_type" | "collapse_key")
        || key.starts_with("google")
        || key.starts_with("gcm.")
}
