//! What a server says about coming again, in each of the forms that it may say it.

mod http_date;
mod rate_limit;

use crate::time::{Span, Time};

/// The longest wait that a server can ask for: 300 s. A wrong clock or unit must not silence a client.
pub const MAX_AFTER: Span = Span::from_secs(300);

/// What a server said about coming again. The default says nothing.
///
/// Of several hints the most exact is to be read: pushback, `RetryInfo`, `Retry-After`, `RateLimit`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Hint {
    /// Not before this has passed: at most [`MAX_AFTER`].
    pub after: Option<Span>,
    /// Do not retry at all.
    pub no_retry: bool,
}

impl Hint {
    /// Do not retry.
    pub const NO_RETRY: Hint = Hint { after: None, no_retry: true };

    /// Retry after `span`, or after [`MAX_AFTER`] if that is sooner.
    #[must_use]
    pub fn after(span: Span) -> Hint {
        Hint { after: Some(span.min(MAX_AFTER)), no_retry: false }
    }

    /// The value of `grpc-retry-pushback-ms`, milliseconds as a signed 32-bit number. A negative one, and
    /// anything that is no number, says that there must be no retry (gRFC A6).
    #[must_use]
    pub fn pushback(text: &str) -> Hint {
        let millis = text.parse::<i32>().ok().and_then(|millis| u64::try_from(millis).ok());
        millis.map_or(Hint::NO_RETRY, |millis| Hint::after(Span::from_millis(millis)))
    }

    /// The `retry_delay` of a `google.rpc.RetryInfo`: `seconds` and `nanos`, rounded up to the microsecond.
    /// `None` if it is negative or no valid duration.
    #[must_use]
    pub fn retry_info(seconds: i64, nanos: i32) -> Option<Hint> {
        let seconds = u64::try_from(seconds).ok()?;
        let nanos = u64::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
        Some(Hint::after(Span::from_secs(seconds) + Span::from_micros(nanos.div_ceil(1_000))))
    }

    /// The value of `Retry-After`: whole seconds or an HTTP date (RFC 9110, section 10.2.3), the latter
    /// relative to `now`; a date in the past is no wait. `None` if it is neither.
    #[must_use]
    pub fn retry_after(text: &str, now: Time) -> Option<Hint> {
        let text = text.trim_matches([' ', '\t']);
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // more digits than a number holds are a very long wait
            let seconds = text.parse().unwrap_or(u64::MAX);
            return Some(Hint::after(Span::from_secs(seconds)));
        }
        http_date::parse(text).map(|date| Hint::after(date - now))
    }

    /// The value of `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10): the longest `t` of the policies of
    /// which nothing remains (`r=0`). `None` if there is none, or if the field is not a structured list.
    #[must_use]
    pub fn rate_limit(text: &str) -> Option<Hint> {
        rate_limit::reset_after(text).map(|seconds| Hint::after(Span::from_secs(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_micros(784_111_777_000_000);

    fn secs(secs: u64) -> Option<Hint> {
        Some(Hint { after: Some(Span::from_secs(secs)), no_retry: false })
    }

    #[test]
    fn pushback_is_obeyed_or_forbids() {
        assert_eq!(Hint::pushback("0"), Hint::after(Span::ZERO));
        assert_eq!(Hint::pushback("1500"), Hint::after(Span::from_millis(1_500)));
        assert_eq!(Hint::pushback("2147483647"), Hint::after(MAX_AFTER));
        for forbids in ["-1", "-2147483648", "", "soon", "1.5", "2147483648", " 5"] {
            assert_eq!(Hint::pushback(forbids), Hint::NO_RETRY, "{forbids:?}");
        }
    }

    #[test]
    fn retry_info_rounds_up() {
        assert_eq!(Hint::retry_info(2, 0), secs(2));
        assert_eq!(Hint::retry_info(0, 1), Some(Hint::after(Span::MICRO)));
        assert_eq!(Hint::retry_info(i64::MAX, 0), secs(300));
        for wrong in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
            assert_eq!(Hint::retry_info(wrong.0, wrong.1), None, "{wrong:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(Hint::retry_after("120", NOW), secs(120));
        assert_eq!(Hint::retry_after("301", NOW), secs(300));
        assert_eq!(Hint::retry_after("99999999999999999999999", NOW), secs(300));
        assert_eq!(Hint::retry_after("Sun, 06 Nov 1994 08:49:47 GMT", NOW), secs(10));
        assert_eq!(Hint::retry_after("Sun, 06 Nov 1994 08:49:07 GMT", NOW), secs(0));
        assert_eq!(Hint::retry_after("Sat, 06 Nov 2094 08:49:37 GMT", NOW), secs(300));
        for wrong in ["", "-1", "1.5", "+3", "tomorrow"] {
            assert_eq!(Hint::retry_after(wrong, NOW), None, "{wrong:?}");
        }
    }

    #[test]
    fn rate_limit_waits_for_the_last_that_is_used_up() {
        assert_eq!(Hint::rate_limit("\"a\";r=0;t=7, \"b\";r=0;t=600, \"c\";r=5;t=9"), secs(300));
        assert_eq!(Hint::rate_limit("\"a\";r=0;t=7"), secs(7));
        assert_eq!(Hint::rate_limit("\"a\";r=1;t=7"), None);
    }
}
