//! States as they are stored in Redis: the same bytes as `lua/` writes.
//!
//! A version, a letter for the algorithm, then numbers below 2^53 in seven bytes each.

use tollgate_core::limit::{FixedState, Level, LogState, MAX_COUNT, SlidingState, State};
use tollgate_core::time::{Span, Time};

use super::script::{FIXED_WINDOW, LEAKY_BUCKET, SLIDING_LOG, SLIDING_WINDOW, TOKEN_BUCKET, number};

/// The version of the format.
pub const VERSION: u8 = 1;
/// Versions to come are below this; a larger first byte is somebody's text.
const TEXT: u8 = b' ';

/// Why a stored value cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unreadable {
    /// A newer version of this program wrote it.
    #[error("a newer version wrote it")]
    Newer,
    /// No version of this program wrote it.
    #[error("it is no state")]
    Corrupt,
}

/// The bytes of `state`.
#[must_use]
pub fn encode(state: &State) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    match state {
        State::TokenBucket(level) => self::level(&mut bytes, TOKEN_BUCKET, level),
        State::LeakyBucket(level) => self::level(&mut bytes, LEAKY_BUCKET, level),
        State::FixedWindow(FixedState { start, end, count }) => {
            bytes.push(FIXED_WINDOW);
            [start.as_micros(), end.as_micros(), *count]
                .into_iter()
                .for_each(|part| number(&mut bytes, part));
        }
        State::SlidingWindow(SlidingState { start, length, previous, current }) => {
            bytes.push(SLIDING_WINDOW);
            [start.as_micros(), length.as_micros(), *previous, *current]
                .into_iter()
                .for_each(|part| number(&mut bytes, part));
        }
        State::SlidingLog(log) => {
            bytes.push(SLIDING_LOG);
            for (at, units) in log.entries() {
                number(&mut bytes, at.as_micros());
                let units = u16::try_from(*units).unwrap_or(u16::MAX);
                bytes.extend_from_slice(&units.to_be_bytes());
            }
        }
    }
    bytes
}

fn level(bytes: &mut Vec<u8>, algorithm: u8, level: &Level) {
    bytes.push(algorithm);
    [level.at.as_micros(), level.used, level.credit, level.per]
        .into_iter()
        .for_each(|part| number(bytes, part));
}

/// The state in `bytes`.
///
/// # Errors
/// There is none, or a newer version wrote it.
pub fn decode(bytes: &[u8]) -> Result<State, Unreadable> {
    let [version, algorithm, rest @ ..] = bytes else { return Err(Unreadable::Corrupt) };
    if (VERSION + 1..TEXT).contains(version) {
        return Err(Unreadable::Newer);
    }
    let state = match *algorithm {
        _ if *version != VERSION => None,
        TOKEN_BUCKET => read_level(rest).map(State::TokenBucket),
        LEAKY_BUCKET => read_level(rest).map(State::LeakyBucket),
        FIXED_WINDOW => numbers::<3>(rest).map(|[start, end, count]| {
            let (start, end) = (Time::from_micros(start), Time::from_micros(end));
            State::FixedWindow(FixedState { start, end, count })
        }),
        SLIDING_WINDOW => {
            numbers::<4>(rest).filter(|parts| parts[1] > 0 && parts[2] + parts[3] <= MAX_COUNT).map(|parts| {
                let [start, length, previous, current] = parts;
                let (start, length) = (Time::from_micros(start), Span::from_micros(length));
                State::SlidingWindow(SlidingState { start, length, previous, current })
            })
        }
        SLIDING_LOG => read_log(rest).map(State::SlidingLog),
        _ => None,
    };
    state.ok_or(Unreadable::Corrupt)
}

fn read_level(bytes: &[u8]) -> Option<Level> {
    let [at, used, credit, per] = numbers(bytes)?;
    (credit < per).then(|| Level { at: Time::from_micros(at), used, credit, per })
}

fn read_log(bytes: &[u8]) -> Option<LogState> {
    let entries: Option<Vec<(Time, u64)>> = bytes
        .chunks(9)
        .map(|entry| {
            let [at] = numbers(entry.get(..7)?)?;
            let units = u16::from_be_bytes(entry.get(7..9)?.try_into().ok()?);
            (units > 0).then(|| (Time::from_micros(at), units.into()))
        })
        .collect();
    let entries = entries?;
    entries.is_sorted_by(|one, two| one.0 < two.0).then(|| LogState::new(entries))
}

fn numbers<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let mut parts = [0; N];
    if bytes.len() != N * 7 {
        return None;
    }
    for (part, bytes) in parts.iter_mut().zip(bytes.chunks_exact(7)) {
        *part = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    }
    parts.iter().all(|part| *part <= MAX_COUNT).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_come_back_as_they_were() {
        let level = Level { at: Time::MAX, used: 7, credit: 2, per: 3 };
        let entries = vec![(Time::EPOCH, 1), (Time::MAX, 1_000)];
        let length = Span::from_micros(1);
        for state in [
            State::TokenBucket(level),
            State::LeakyBucket(level),
            State::FixedWindow(FixedState { start: Time::EPOCH, end: Time::MAX, count: MAX_COUNT }),
            State::SlidingWindow(SlidingState { start: Time::MAX, length, previous: 1, current: 2 }),
            State::SlidingLog(LogState::new(entries)),
            State::SlidingLog(LogState::default()),
        ] {
            assert_eq!(decode(&encode(&state)), Ok(state));
        }
    }

    #[test]
    fn garbage_is_told_from_what_is_newer() {
        let state = State::TokenBucket(Level { at: Time::MAX, used: 7, credit: 2, per: 3 });
        let mut bytes = encode(&state);
        bytes[0] = 2;
        assert_eq!(decode(&bytes), Err(Unreadable::Newer));
        for garbage in [
            &b""[..],
            b"x",
            b"\x01",
            b"\x01X",
            b"\x00T",
            b"\x01T123",
            b"\x01G12345678",
            b"{}",
            b"12345",
            b"plain text",
        ] {
            assert_eq!(decode(garbage), Err(Unreadable::Corrupt), "{garbage:?}");
        }
        let full = State::TokenBucket(Level { at: Time::MAX, used: 7, credit: 3, per: 3 });
        assert_eq!(decode(&encode(&full)), Err(Unreadable::Corrupt), "more credit than a unit");
    }
}
