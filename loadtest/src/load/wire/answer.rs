//! Of an answer only what is needed: whether it admits. No message is built for it.

use anyhow::{Result, bail};
use prost::encoding::{WireType, decode_key, decode_varint};

use super::Outcome;

/// `RateLimitResponse`: `overall_code`, field 1: OK 1, OVER_LIMIT 2.
pub(super) fn rls(message: &[u8]) -> Outcome {
    match fields(message).map(|mut fields| fields.find(|field| field.number == 1)) {
        Ok(Some(Field { value: Value::Number(1), .. })) => Outcome::Admitted,
        Ok(Some(Field { value: Value::Number(2), .. })) => Outcome::Refused,
        _ => Outcome::Failed,
    }
}

/// `CheckResponse`: `allowed`, field 1, absent if not.
pub(super) fn check(message: &[u8]) -> Outcome {
    match fields(message).map(|mut fields| fields.find(|field| field.number == 1)) {
        Ok(Some(Field { value: Value::Number(1), .. })) => Outcome::Admitted,
        Ok(None | Some(Field { value: Value::Number(_), .. })) => Outcome::Refused,
        _ => Outcome::Failed,
    }
}

/// `CheckStreamResponse`: each answer's id and outcome.
pub(super) fn stream(message: &[u8], mut each: impl FnMut(u64, Outcome)) -> Result<()> {
    for answer in fields(message)? {
        let Value::Bytes(answer) = answer.value else { bail!("an answer is no message") };
        let (mut id, mut outcome) = (0, Outcome::Failed);
        for field in fields(answer)? {
            match (field.number, field.value) {
                (1, Value::Number(number)) => id = number,
                (2, Value::Bytes(decision)) => outcome = check(decision),
                _ => {}
            }
        }
        each(id, outcome);
    }
    Ok(())
}

struct Field<'m> {
    number: u32,
    value: Value<'m>,
}

enum Value<'m> {
    Number(u64),
    Bytes(&'m [u8]),
}

/// The fields of a message, in order. A message that is broken has an error for its first read.
fn fields(message: &[u8]) -> Result<impl Iterator<Item = Field<'_>>> {
    // look once whether all of it can be read
    let mut rest = message;
    while !rest.is_empty() {
        next(&mut rest)?;
    }
    let mut rest = message;
    Ok(std::iter::from_fn(move || if rest.is_empty() { None } else { next(&mut rest).ok() }))
}

fn next<'m>(rest: &mut &'m [u8]) -> Result<Field<'m>> {
    let (number, kind) = decode_key(rest)?;
    let value = match kind {
        WireType::Varint => Value::Number(decode_varint(rest)?),
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(rest)?)?;
            Value::Bytes(take(rest, length)?)
        }
        WireType::ThirtyTwoBit => Value::Bytes(take(rest, 4)?),
        WireType::SixtyFourBit => Value::Bytes(take(rest, 8)?),
        WireType::StartGroup | WireType::EndGroup => bail!("groups are not used"),
    };
    Ok(Field { number, value })
}

fn take<'m>(rest: &mut &'m [u8], length: usize) -> Result<&'m [u8]> {
    let Some((taken, left)) = rest.split_at_checked(length) else { bail!("the message ends too soon") };
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use tollgate_proto::envoy::service::ratelimit::v3::RateLimitResponse;
    use tollgate_proto::tollgate::v1;

    use super::*;

    #[test]
    fn answers_are_read_as_they_are_written() {
        for (code, outcome) in [(0, Outcome::Failed), (1, Outcome::Admitted), (2, Outcome::Refused)] {
            let response = RateLimitResponse { overall_code: code, ..RateLimitResponse::default() };
            assert_eq!(rls(&response.encode_to_vec()), outcome);
        }
        let allowed = v1::CheckResponse { allowed: true, pressure: 0.5, ..v1::CheckResponse::default() };
        assert_eq!(check(&allowed.encode_to_vec()), Outcome::Admitted);
        assert_eq!(check(&v1::CheckResponse::default().encode_to_vec()), Outcome::Refused);
        let answer = |id, answer| v1::CheckAnswer { id, answer: Some(answer) };
        let answers = vec![
            answer(0, v1::check_answer::Answer::Decision(allowed)),
            answer(7, v1::check_answer::Answer::Error(v1::ItemError::default())),
        ];
        let bytes = v1::CheckStreamResponse { answers }.encode_to_vec();
        let mut seen = Vec::new();
        stream(&bytes, |id, outcome| seen.push((id, outcome))).unwrap();
        assert_eq!(seen, [(0, Outcome::Admitted), (7, Outcome::Failed)]);
        assert!(stream(&bytes[..bytes.len() - 1], |_, _| {}).is_err());
    }
}
