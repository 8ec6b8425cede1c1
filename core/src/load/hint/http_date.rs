//! HTTP dates.

use jiff::fmt::strtime;
use jiff::tz::TimeZone;

use crate::time::Time;

/// The three forms that a recipient has to read (RFC 9110, section 5.6.7): the preferred one, that of RFC 850,
/// and that of C's `asctime`.
const FORMS: [&str; 3] = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// The instant of an HTTP date, always UTC; before 1970 is 1970.
pub(super) fn parse(text: &str) -> Option<Time> {
    let read = |form: &&str| strtime::parse(form, text).ok()?.to_datetime().ok();
    let date = FORMS.iter().find_map(read)?;
    let second = TimeZone::UTC.to_timestamp(date).ok()?.as_second();
    Some(Time::from_micros(u64::try_from(second).unwrap_or(0).saturating_mul(1_000_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(parse(text), Some(Time::from_micros(784_111_777_000_000)), "{text}");
        }
        assert_eq!(parse("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Time::EPOCH));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 32 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
