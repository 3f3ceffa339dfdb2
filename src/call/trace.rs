//! W3C trace context, as far as logs and timelines need it ("Trace Context",
//! level 2, section 3.2: `traceparent`).

/// The ids in a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceIds<'a> {
    /// 32 hex digits.
    pub trace_id: &'a str,
    /// The span that sent the event: 16 hex digits.
    pub parent_id: &'a str,
    /// Whether the sender records it.
    pub sampled: bool,
}

/// Reads a `traceparent`. `None` if it breaks the grammar: then there is no
/// trace to name.
#[must_use]
pub fn parse_traceparent(text: &str) -> Option<TraceIds<'_>> {
    let mut parts = text.split('-');
    let [version, trace_id, parent_id, flags] = [
        hex(parts.next()?, 2)?,
        hex(parts.next()?, 32)?,
        hex(parts.next()?, 16)?,
        hex(parts.next()?, 2)?,
    ];
    // Only later versions may have more than these four.
    let too_long = version == "00" && parts.next().is_some();
    let nothing = |id: &str| id.bytes().all(|digit| digit == b'0');
    if version == "ff" || too_long || nothing(trace_id) || nothing(parent_id) {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some(TraceIds {
        trace_id,
        parent_id,
        sampled: flags & 1 == 1,
    })
}

/// So many lower-case hex digits.
fn hex(text: &str, digits: usize) -> Option<&str> {
    let all = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (text.len() == digits && all).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn the_ids_are_read() {
        let text = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let ids = parse_traceparent(&text).unwrap();
        assert_eq!(ids.trace_id, TRACE);
        assert_eq!((ids.parent_id, ids.sampled), ("00f067aa0ba902b7", true));
        let later = format!("01-{TRACE}-00f067aa0ba902b7-00-more");
        assert!(!parse_traceparent(&later).unwrap().sampled);
    }

    #[test]
    fn what_breaks_the_grammar_names_no_trace() {
        for bad in [
            "",
            "00",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "00-4bf92f3577b34da6a3ce929d0e0e473\u{fc}-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parse_traceparent(bad), None, "{bad}");
        }
    }
}
