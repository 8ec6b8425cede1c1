//! Durations as the wire carries them.

use std::time::Duration;

/// `duration` for the wire; what it cannot carry (292 billion years) becomes the longest it can.
pub(super) fn to_wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// A duration from the wire; negative ones are none at all.
pub(super) fn from_wire(duration: &prost_types::Duration) -> Duration {
    let seconds = u64::try_from(duration.seconds).unwrap_or(0);
    let nanos = u32::try_from(duration.nanos).unwrap_or(0).min(999_999_999);
    if duration.seconds < 0 { Duration::ZERO } else { Duration::new(seconds, nanos) }
}

/// `None` stays `None`.
pub(super) fn optional(duration: Option<&prost_types::Duration>) -> Option<Duration> {
    duration.map(from_wire)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_survive_the_wire() {
        let duration = Duration::new(7, 123_456_789);
        assert_eq!(from_wire(&to_wire(duration)), duration);
        assert_eq!(from_wire(&to_wire(Duration::MAX)).as_secs(), i64::MAX.unsigned_abs());
    }

    #[test]
    fn what_makes_no_sense_is_no_time() {
        let negative = prost_types::Duration { seconds: -1, nanos: 5 };
        assert_eq!(from_wire(&negative), Duration::ZERO);
        let strange = prost_types::Duration { seconds: 1, nanos: -5 };
        assert_eq!(from_wire(&strange), Duration::from_secs(1));
    }
}
