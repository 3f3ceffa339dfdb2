//! When to try again: as a provider asks, or after growing pauses.

use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use http::HeaderMap;
use http::header::RETRY_AFTER;

/// Reads `Retry-After`: seconds, or a date ("HTTP Semantics", RFC 9110,
/// 10.2.3), which counts from `now`. A date that is past asks for no wait; what
/// cannot be read is not there.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit ask for longer than any ring.
        let seconds = value.parse().unwrap_or(u32::MAX);
        return Some(Duration::from_secs(seconds.into()));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Pauses that double from `first` to `longest`, each of them between half and
/// the whole of it at random, without end.
#[must_use]
pub fn pauses(first: Duration, longest: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new()
        // backon adds up to one delay on top, so half of each is asked for.
        .with_min_delay(first / 2)
        .with_max_delay(longest / 2)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |value: &'static str| {
            let headers = [(RETRY_AFTER, HeaderValue::from_static(value))];
            retry_after(&headers.into_iter().collect(), now)
        };
        assert_eq!(read("30"), Some(Duration::from_secs(30)));
        assert_eq!(read(" 0 "), Some(Duration::ZERO));
        assert_eq!(
            read("Sun, 06 Nov 1994 08:49:47 GMT"),
            Some(Duration::from_secs(10))
        );
        assert_eq!(read("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        assert!(read("99999999999999999999999").unwrap() > Duration::from_secs(1_000_000));
        for bad in ["", "-1", "1.5", "soon"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn pauses_grow_end_at_the_longest_and_never_stop() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(5));
        for _ in 0..50 {
            let pauses: Vec<_> = pauses(first, longest).take(100).collect();
            assert_eq!(pauses.len(), 100);
            assert!(pauses.iter().all(|p| *p <= longest), "{pauses:?}");
            assert!(pauses[0] <= first && pauses[0] >= first / 2);
            assert!(pauses[20..].iter().all(|p| *p >= longest / 2), "{pauses:?}");
        }
    }
}
