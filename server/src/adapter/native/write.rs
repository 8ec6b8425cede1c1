//! Answers written as they are decided: the bytes of a `CheckStreamResponse`, without building one.
//!
//! Field by field what [`super::encode`] says; a test holds both to the same answers.

use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use tollgate_core::limit::Retry;
use tollgate_core::rules::{Answer, Decision, Outcome, Status, told_remaining};
use tollgate_core::time::Span;
use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::check_answer::Answer as WireAnswer;
use tollgate_proto::tollgate::v1::limit_status::Outcome as WireOutcome;

use super::{NotDecided, encode};

/// Bytes of the usual answer: one limit.
const USUAL: usize = 64;

/// The bytes of one message of answers.
#[derive(Default)]
pub(super) struct Message {
    bytes: Vec<u8>,
    answers: usize,
}

/// What was decided, and how much of it is told.
#[derive(Clone, Copy)]
pub(super) struct Told<'d, 'm> {
    pub(super) decision: &'d Decision<'m>,
    pub(super) explain: bool,
}

impl Message {
    /// How many answers it has.
    pub(super) const fn len(&self) -> usize {
        self.answers
    }

    /// Makes room for so many more.
    pub(super) fn expect(&mut self, answers: usize) {
        self.bytes.reserve(answers * USUAL);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Adds an answer that was waited for, or an error.
    pub(super) fn told(&mut self, id: u64, answer: Result<&wire::CheckResponse, &NotDecided>) {
        let answer = match answer {
            Ok(response) => WireAnswer::Decision(response.clone()),
            Err(error) => WireAnswer::Error(encode::item_error(error)),
        };
        let answer = wire::CheckAnswer { id, answer: Some(answer) };
        self.answers += 1;
        bytes(&mut self.bytes, 1, |buffer| {
            buffer.reserve(answer.encoded_len());
            // a vector takes whatever comes
            let _fits = answer.encode(buffer);
        });
    }

    /// Adds a decision.
    pub(super) fn decided(&mut self, id: u64, told: Told<'_, '_>) {
        self.answers += 1;
        bytes(&mut self.bytes, 1, |buffer| {
            number(buffer, 1, id);
            bytes(buffer, 2, |buffer| response(buffer, told.decision, told.explain));
        });
    }
}

fn response(buffer: &mut Vec<u8>, decision: &Decision<'_>, explain: bool) {
    flag(buffer, 1, decision.allowed());
    for outcome in &decision.outcomes {
        bytes(buffer, 2, |buffer| limit_status(buffer, outcome, explain));
    }
    match decision.retry_after() {
        None => {}
        Some(Retry::Never) => flag(buffer, 4, true),
        Some(Retry::After(retry)) => {
            duration(buffer, 3, retry);
            duration(buffer, 5, encode::jitter(decision));
        }
    }
    let wait = decision.wait();
    if !wait.is_zero() {
        duration(buffer, 6, wait);
    }
    let pressure = encode::pressure(decision);
    if pressure > 0.0 {
        encode_key(7, WireType::ThirtyTwoBit, buffer);
        buffer.extend_from_slice(&pressure.to_le_bytes());
    }
}

fn limit_status(buffer: &mut Vec<u8>, outcome: &Outcome<'_>, explain: bool) {
    match outcome {
        Outcome::Decided { rule, answer, status, .. } => {
            enumerator(buffer, 1, WireOutcome::Decided.into());
            decided(buffer, answer, *status);
            if explain {
                text(buffer, 12, &encode::named(rule, explain));
            }
        }
        other => {
            // rare, and all but empty; a vector takes whatever comes
            let _fits = encode::limit_status(other, explain).encode(buffer);
        }
    }
}

fn decided(buffer: &mut Vec<u8>, answer: &Answer, status: Status) {
    let verdict = &answer.verdict;
    let refused = !verdict.allowed;
    flag(buffer, 2, status == Status::Ok);
    number(buffer, 3, verdict.limit);
    number(buffer, 4, told_remaining(verdict));
    match verdict.retry_after {
        Retry::After(retry) if refused => duration(buffer, 5, retry),
        Retry::Never if refused => flag(buffer, 6, true),
        _ => {}
    }
    duration(buffer, 7, verdict.reset_after);
    if !verdict.wait.is_zero() {
        duration(buffer, 8, verdict.wait);
    }
    enumerator(buffer, 9, encode::by(answer.by).into());
    enumerator(buffer, 10, encode::accuracy(answer.by).into());
    flag(buffer, 11, refused && status == Status::Ok);
}

/// A nested message, whose length is known only when it is there.
#[inline]
fn bytes(buffer: &mut Vec<u8>, tag: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    encode_key(tag, WireType::LengthDelimited, buffer);
    // most are shorter than 128 bytes, whose length takes one
    let at = buffer.len();
    buffer.push(0);
    fill(buffer);
    let length = buffer.len() - at - 1;
    if let Ok(short @ 0..0x80) = u8::try_from(length) {
        buffer[at] = short;
        return;
    }
    let mut prefix = Vec::with_capacity(10);
    encode_varint(length as u64, &mut prefix);
    buffer.splice(at..=at, prefix);
}

#[inline]
fn number(buffer: &mut Vec<u8>, tag: u32, number: u64) {
    if number != 0 {
        encode_key(tag, WireType::Varint, buffer);
        encode_varint(number, buffer);
    }
}

fn flag(buffer: &mut Vec<u8>, tag: u32, flag: bool) {
    number(buffer, tag, u64::from(flag));
}

/// Enumerators of ours are never negative.
fn enumerator(buffer: &mut Vec<u8>, tag: u32, value: i32) {
    number(buffer, tag, u64::from(value.unsigned_abs()));
}

fn text(buffer: &mut Vec<u8>, tag: u32, text: &str) {
    if !text.is_empty() {
        bytes(buffer, tag, |buffer| buffer.extend_from_slice(text.as_bytes()));
    }
}

fn duration(buffer: &mut Vec<u8>, tag: u32, span: Span) {
    let duration = encode::duration(span);
    bytes(buffer, tag, |buffer| {
        number(buffer, 1, duration.seconds.unsigned_abs());
        number(buffer, 2, u64::from(duration.nanos.unsigned_abs()));
    });
}
