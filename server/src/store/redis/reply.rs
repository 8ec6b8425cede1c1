//! What the script says to one group, and reading it. `lua/README.md` describes the bytes.

use smallvec::SmallVec;
use tollgate_core::limit::{MAX_COUNT, Retry, Verdict};
use tollgate_core::time::{Span, Time};

use super::script::Asked;

/// Bytes of one verdict.
const VERDICT: usize = 43;

/// The reply to one group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// One verdict per hit.
    Answers(SmallVec<[Told; 2]>),
    /// Nothing was done: the group has to be sent again with the window that holds this instant.
    Window(Time),
    /// Nothing was done: a newer version of this program has written one of the states.
    Newer,
    /// Redis did not take what the group wanted to write, and said this.
    Failed(String),
}

/// The verdict on one hit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Told {
    /// What the limit said.
    pub verdict: Verdict,
    /// What was stored under the key.
    pub found: Found,
}

/// What a key held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    /// Nothing, or a state of the limit's algorithm.
    Expected,
    /// A state of another algorithm, which counts as none.
    OtherAlgorithm,
    /// Something that no version of this program has written, which counts as no state.
    Corrupt,
}

/// The count of one hit in the layout of envoyproxy/ratelimit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counted {
    /// Before the hit.
    pub before: u64,
    /// After it, at most 2^53 - 1.
    pub after: u64,
}

/// A reply that makes no sense.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the script's reply cannot be read")]
pub struct Malformed;

/// What Redis said if it did not take what the group wanted to write.
#[must_use]
pub fn failure(bytes: &[u8]) -> Option<String> {
    let (status, text) = bytes.split_first()?;
    (*status == 3).then(|| String::from_utf8_lossy(text).into_owned())
}

/// Reads the reply to a group of `hits`.
///
/// # Errors
/// It is none.
pub fn decode(bytes: &[u8], hits: &[Asked<'_>]) -> Result<Reply, Malformed> {
    let (status, rest) = bytes.split_first().ok_or(Malformed)?;
    match status {
        0 => answers(rest, hits).map(Reply::Answers),
        1 => Ok(Reply::Window(Time::from_micros(number(rest)?))),
        2 => Ok(Reply::Newer),
        3 => Ok(Reply::Failed(String::from_utf8_lossy(rest).into_owned())),
        _ => Err(Malformed),
    }
}

/// Reads the reply to a group of `hits` in the layout of envoyproxy/ratelimit: the counts, or what Redis said.
///
/// # Errors
/// It is none.
pub fn decode_reference(
    bytes: &[u8],
    hits: usize,
) -> Result<Result<SmallVec<[Counted; 2]>, String>, Malformed> {
    let (status, rest) = bytes.split_first().ok_or(Malformed)?;
    match status {
        0 if rest.len() == hits * 14 => {
            let counted = rest
                .chunks_exact(14)
                .map(|count| Ok(Counted { before: number(&count[..7])?, after: number(&count[7..])? }));
            counted.collect::<Result<_, Malformed>>().map(Ok)
        }
        3 => Ok(Err(String::from_utf8_lossy(rest).into_owned())),
        _ => Err(Malformed),
    }
}

fn answers(bytes: &[u8], hits: &[Asked<'_>]) -> Result<SmallVec<[Told; 2]>, Malformed> {
    if bytes.len() != hits.len() * VERDICT {
        return Err(Malformed);
    }
    bytes.chunks_exact(VERDICT).zip(hits).map(|(bytes, hit)| told(bytes, hit)).collect()
}

fn told(bytes: &[u8], hit: &Asked<'_>) -> Result<Told, Malformed> {
    let (flags, numbers) = bytes.split_first().ok_or(Malformed)?;
    let field = |place: usize| numbers.get(place * 7..place * 7 + 7).ok_or(Malformed).and_then(number);
    let span = |place: usize| field(place).map(Span::from_micros);
    let verdict = Verdict {
        allowed: flags & 1 != 0,
        limit: hit.limit.capacity(),
        remaining: field(0)?,
        used_before: field(1)?,
        used: field(2)?,
        retry_after: if flags & 2 != 0 { Retry::Never } else { Retry::After(span(3)?) },
        reset_after: span(4)?,
        wait: span(5)?,
    };
    let found = match flags & 12 {
        0 => Found::Expected,
        4 => Found::OtherAlgorithm,
        8 => Found::Corrupt,
        _ => return Err(Malformed),
    };
    Ok(Told { verdict, found })
}

/// Seven bytes, the most significant first.
fn number(bytes: &[u8]) -> Result<u64, Malformed> {
    if bytes.len() != 7 {
        return Err(Malformed);
    }
    let number = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    if number > MAX_COUNT { Err(Malformed) } else { Ok(number) }
}
