//! The script of `lua/`, and the arguments that it takes. `lua/README.md` describes both ends.

use redis::Script as Hashed;
use tollgate_core::limit::{Ask, Cost, FixedWindow, Limit, Refused, Window};
use tollgate_core::rules::Charge;
use tollgate_core::time::{Span, Time};

/// What every module may use; then the modules by name, algorithms by their byte; then what runs them.
const PRELUDE: &str = include_str!("../../../../lua/prelude.lua");
const MODULES: [(&str, &str); 7] = [
    ("wide", include_str!("../../../../lua/wide.lua")),
    ("level", include_str!("../../../../lua/level.lua")),
    ("T", include_str!("../../../../lua/token_bucket.lua")),
    ("L", include_str!("../../../../lua/leaky_bucket.lua")),
    ("F", include_str!("../../../../lua/fixed_window.lua")),
    ("S", include_str!("../../../../lua/sliding_window.lua")),
    ("G", include_str!("../../../../lua/sliding_log.lua")),
];
const MAIN: &str = include_str!("../../../../lua/main.lua");

/// Bytes of a state's algorithm.
pub(super) const TOKEN_BUCKET: u8 = b'T';
pub(super) const LEAKY_BUCKET: u8 = b'L';
pub(super) const FIXED_WINDOW: u8 = b'F';
pub(super) const SLIDING_WINDOW: u8 = b'S';
pub(super) const SLIDING_LOG: u8 = b'G';

/// The script as Redis gets it.
#[derive(Clone, Debug)]
pub struct Script {
    text: String,
    sha1: String,
}

/// One hit, as the script is asked about it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its limit.
    pub limit: &'a Limit,
    /// The question; costs of at most 2^53 - 1.
    pub ask: Ask,
    /// A refusal counts for nothing.
    pub shadow: bool,
    /// A refusal counts only if all alternatives refuse.
    pub alternative: bool,
}

/// What is done with a group of hits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Call {
    /// They are charged.
    Charge {
        /// How they depend on one another.
        charge: Charge,
    },
    /// What the same group has charged under its id is taken back.
    Cancel,
}

/// One hit with the layout of envoyproxy/ratelimit.
#[derive(Clone, Copy, Debug)]
pub struct Counting {
    /// How much.
    pub cost: Cost,
    /// Seconds that the counter lives from now on, at least 1.
    pub ttl_secs: u64,
}

impl Default for Script {
    fn default() -> Script {
        Script::new()
    }
}

impl Script {
    /// Puts the script together.
    #[must_use]
    pub fn new() -> Script {
        Script::ending(MAIN)
    }

    /// The modules with another end: for tests of the modules alone.
    #[must_use]
    pub fn ending(main: &str) -> Script {
        let mut text = format!("{PRELUDE}\nfunction make(name)\n");
        for (name, module) in MODULES {
            text += &format!("if name == \"{name}\" then\n{module}end\n");
        }
        // as one more, since it costs less for a function to reach what lies outside of the one around it
        text += &format!("if name == \"main\" then\n{main}end\nend\n\nreturn make(\"main\")\n");
        Script { sha1: Hashed::new(&text).get_hash().to_owned(), text }
    }

    /// The whole text, for `EVAL` and `SCRIPT LOAD`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its name for `EVALSHA`.
    #[must_use]
    pub fn sha1(&self) -> &str {
        &self.sha1
    }
}

/// The arguments of a group. `instants`: those whose windows a calendar is told. `remember`: how long the
/// answer is kept under the id that is the first of the group's keys.
#[must_use]
pub fn encode(call: Call, hits: &[Asked<'_>], instants: &[Time], remember: Option<Span>) -> Vec<u8> {
    let kind = match call {
        Call::Charge { charge: Charge::AllOrNothing } => b'A',
        Call::Charge { .. } => b'C',
        Call::Cancel => b'X',
    };
    let mut bytes = head(kind, remember, hits.len());
    for hit in hits {
        let (units, refund) = units(hit.ask.cost);
        bytes.push(u8::from(refund) | u8::from(hit.shadow) << 1 | u8::from(hit.alternative) << 2);
        number(&mut bytes, units);
        number(&mut bytes, hit.ask.patience.as_micros());
        limit(&mut bytes, hit.limit, instants);
    }
    bytes
}

/// The arguments of a group in the layout of envoyproxy/ratelimit.
#[must_use]
pub fn encode_reference(hits: &[Counting]) -> Vec<u8> {
    let mut bytes = head(b'R', None, hits.len());
    for hit in hits {
        let (units, refund) = units(hit.cost);
        bytes.push(u8::from(refund));
        number(&mut bytes, units);
        number(&mut bytes, hit.ttl_secs);
        bytes.push(0);
    }
    bytes
}

fn head(kind: u8, remember: Option<Span>, hits: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + 48 * hits);
    bytes.push(kind);
    number(&mut bytes, remember.map_or(0, |span| (span.as_micros() / 1_000).max(1)));
    let hits = u16::try_from(hits).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&hits.to_be_bytes());
    bytes
}

fn units(cost: Cost) -> (u64, bool) {
    match cost {
        Cost::Take(units) => (units, false),
        Cost::Refund(units) => (units, true),
    }
}

/// A number below 2^53 in seven bytes.
pub(super) fn number(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.min(tollgate_core::limit::MAX_COUNT).to_be_bytes()[1..]);
}

fn limit(bytes: &mut Vec<u8>, limit: &Limit, instants: &[Time]) {
    match limit {
        Limit::TokenBucket(limit) => {
            bytes.push(TOKEN_BUCKET);
            let rate = limit.rate();
            [rate.count(), rate.per(), limit.burst()].into_iter().for_each(|part| number(bytes, part));
        }
        Limit::LeakyBucket(limit) => {
            bytes.push(LEAKY_BUCKET);
            let rate = limit.rate();
            [rate.count(), rate.per(), limit.queue() + 1].into_iter().for_each(|part| number(bytes, part));
        }
        Limit::FixedWindow(limit) => {
            bytes.push(FIXED_WINDOW);
            fixed_window(bytes, limit, instants);
        }
        Limit::SlidingWindow(limit) => {
            bytes.push(SLIDING_WINDOW);
            [limit.limit(), limit.length().as_micros()].into_iter().for_each(|part| number(bytes, part));
        }
        Limit::SlidingLog(limit) => {
            bytes.push(SLIDING_LOG);
            [limit.limit(), limit.length().as_micros()].into_iter().for_each(|part| number(bytes, part));
        }
    }
}

fn fixed_window(bytes: &mut Vec<u8>, limit: &FixedWindow, instants: &[Time]) {
    number(bytes, limit.limit());
    let kind = match limit.window() {
        Window::Epoch(_) => 0,
        Window::Anchored(_) => 1,
        Window::Calendar(_) => 2,
    };
    bytes.extend_from_slice(&[kind, u8::from(limit.refused() == Refused::Counts)]);
    match limit.window() {
        Window::Epoch(length) | Window::Anchored(length) => number(bytes, length.as_micros()),
        Window::Calendar(calendar) => {
            let instants = &instants[..instants.len().min(u8::MAX.into())];
            bytes.push(u8::try_from(instants.len()).unwrap_or(u8::MAX));
            for instant in instants {
                let (start, end) = calendar.window(*instant);
                number(bytes, start.as_micros());
                number(bytes, end.as_micros());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_main_speaks_to_redis() {
        for (name, module) in MODULES {
            assert!(!module.contains("redis."), "{name}");
        }
        assert!(!PRELUDE.contains("redis."));
        assert_eq!(MAIN.matches("redis.call(\"TIME\")").count(), 1);
    }

    #[test]
    fn numbers_take_seven_bytes_and_stop_at_the_largest() {
        let mut bytes = Vec::new();
        number(&mut bytes, 1);
        number(&mut bytes, u64::MAX);
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 1, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    }
}
