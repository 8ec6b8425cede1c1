//! What is read and written byte by byte is what generated code reads and writes.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;
use tollgate_core::limit::{Ask, Cost, Retry, Verdict};
use tollgate_core::rules::{
    Accuracy, Answer, By, Decision, Metric, OnFailure, Outcome, Quota, Rule, RuleRef, Status, Unit,
};
use tollgate_core::time::Span;
use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::check_answer::Answer as WireAnswer;

use super::write::{Message, Told};
use super::{decode, encode, read};

fn rule(name: &str, requests_per_unit: u32) -> Rule {
    Rule {
        id: Rule::OVERRIDE,
        path: "d.path".into(),
        name: name.into(),
        limit: None,
        lease: None,
        quota: Quota { requests_per_unit, unit: Unit::Minute, multiplier: 1 },
        shadow: false,
        alternative: false,
        replaces: Box::default(),
        metadata: None,
        on_failure: OnFailure::Error,
        accuracy: Accuracy::Auto,
        max_hold: Span::ZERO,
        metric: Metric::default(),
        rollout: None,
    }
}

fn span() -> impl Strategy<Value = Span> {
    prop_oneof![Just(0), 0..5_000_000_u64, any::<u64>()].prop_map(Span::from_micros)
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let retry = prop_oneof![Just(Retry::Never), span().prop_map(Retry::After)];
    let numbers = (any::<u64>(), 0..300_u64, any::<u64>(), 0..300_u64);
    (any::<bool>(), numbers, retry, span(), span()).prop_map(
        |(allowed, (limit, remaining, used_before, used), retry_after, reset_after, wait)| Verdict {
            allowed,
            limit,
            remaining,
            used_before,
            used,
            retry_after,
            reset_after,
            wait,
        },
    )
}

fn outcome() -> impl Strategy<Value = Outcome<'static>> {
    let by = prop::sample::select(vec![By::Memory, By::Full, By::Redis, By::Denial, By::Fallback, By::Share]);
    let name = prop_oneof![Just(String::new()), "[a-z]{1,200}"];
    let decided = (verdict(), by, name, any::<(bool, bool)>()).prop_map(
        |(verdict, by, name, (shadow, alternative))| {
            let status = if verdict.allowed || shadow { Status::Ok } else { Status::OverLimit };
            let ask = Ask { cost: Cost::Take(1), patience: Span::ZERO };
            let rule = RuleRef::Override(Box::new(rule(&name, 60)));
            Outcome::Decided { rule, ask, answer: Answer { verdict, by }, status, alternative }
        },
    );
    let failed = || Outcome::Failed {
        rule: RuleRef::Override(Box::new(rule("failed", 60))),
        ask: Ask { cost: Cost::Take(1), patience: Span::ZERO },
    };
    prop_oneof![
        6 => decided,
        1 => Just(Outcome::UnknownDomain),
        1 => Just(Outcome::Unmatched),
        1 => Just(Outcome::Replaced),
        1 => Just(failed()),
    ]
}

fn decision() -> impl Strategy<Value = Decision<'static>> {
    vec(outcome(), 1..6).prop_map(|outcomes| {
        let over = outcomes.iter().any(
            |outcome| matches!(outcome, Outcome::Decided { status, .. } if *status == Status::OverLimit),
        );
        Decision {
            status: if over { Status::OverLimit } else { Status::Ok },
            shadowed: false,
            enforced: true,
            undecided: false,
            outcomes: outcomes.into_iter().collect(),
        }
    })
}

fn check() -> impl Strategy<Value = wire::CheckRequest> {
    let entry = ("[a-zé]{0,3}", ".{0,200}").prop_map(|(key, value)| wire::Entry { key, value });
    let cost = || option::of(prop_oneof![0..9_u64, any::<u64>()]);
    let descriptor =
        (vec(entry, 0..4), cost()).prop_map(|(entries, cost)| wire::Descriptor { entries, cost });
    let fields = (".{0,3}", vec(descriptor, 0..4), cost(), any::<bool>(), any::<bool>(), 0..5_i32);
    let duration = || {
        let nanos = prop_oneof![Just(0), -2..2_000_000_000_i32];
        option::weighted(0.3, (-1..9_i64, nanos))
            .prop_map(|parts| parts.map(|(seconds, nanos)| prost_types::Duration { seconds, nanos }))
    };
    let rest = (option::weighted(0.1, Just(vec![1, 2])), duration(), duration());
    (fields, rest).prop_map(
        |((domain, descriptors, cost, refund, explain, criticality), (id, wait, timeout))| {
            wire::CheckRequest {
                domain,
                descriptors,
                cost,
                refund,
                idempotency_key: id.unwrap_or_default(),
                max_wait: wait,
                criticality,
                explain,
                timeout,
            }
        },
    )
}

proptest! {
    #[test]
    fn decisions_are_written_as_generated_code_writes_them(
        decisions in vec((any::<u64>(), decision()), 1..5),
        explain: bool,
    ) {
        let mut message = Message::default();
        for (id, decision) in &decisions {
            message.decided(*id, Told { decision, explain });
        }
        let read = wire::CheckStreamResponse::decode(&message.into_bytes()[..]).unwrap();
        let expected = decisions.iter().map(|(id, decision)| wire::CheckAnswer {
            id: *id,
            answer: Some(WireAnswer::Decision(encode::response(decision, explain))),
        });
        prop_assert_eq!(read.answers, expected.collect::<Vec<_>>());
    }

    #[test]
    fn plain_checks_are_read_as_generated_code_reads_them(check in check(), unknown: bool) {
        let mut bytes = check.encode_to_vec();
        if unknown {
            // fields of a later version: a number, bytes, 8 bytes, 4 bytes
            bytes.extend([0x80 | 0x58, 6, 7, 0xda, 6, 2, 1, 1, 0xe1, 6, 1, 2, 3, 4, 5, 6, 7, 8]);
            bytes.extend([0xed, 6, 1, 2, 3, 4]);
        }
        let generated = wire::CheckRequest::decode(&bytes[..]).unwrap();
        prop_assert_eq!(&generated, &check);
        let usual = check.idempotency_key.is_empty();
        let outline = read::outline(&bytes).unwrap_or_default();
        match (decode::check(&generated, None), outline.query().filter(|_| read::outline(&bytes).is_some())) {
            (Err(_), None) => {}
            (Ok(_), None) => prop_assert!(!usual, "a usual check has to be plain: {check:?}"),
            (Ok(slow), Some(fast)) => {
                prop_assert!(usual && slow.id.is_none());
                let within = (outline.explain, outline.answer_within());
                prop_assert_eq!(within, (check.explain, slow.answer_within));
                for (bytes, descriptor) in outline.descriptors.iter().zip(&fast.descriptors) {
                    let ask = outline.ask(read::own_cost(bytes).unwrap()).unwrap();
                    let units = fast.hits_of(descriptor);
                    let cost = if descriptor.refund { Cost::Refund(units) } else { Cost::Take(units) };
                    prop_assert_eq!(ask, Ask { cost, patience: fast.patience });
                }
                prop_assert_eq!(format!("{:?}", slow.query), format!("{:?}", fast));
            }
            (Err(error), Some(_)) => prop_assert!(false, "{check:?} is no check: {error}"),
        }
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in vec(any::<u8>(), 0..60)) {
        let fast = read::outline(&bytes).is_some_and(|outline| outline.query().is_some());
        prop_assert!(!fast || wire::CheckRequest::decode(&bytes[..]).is_ok());
        if let (Ok(message), Some(items)) = (wire::CheckStreamRequest::decode(&bytes[..]), read::items(&bytes)) {
            let ids = |items: &[wire::CheckItem]| items.iter().map(|item| item.id).collect::<Vec<_>>();
            prop_assert_eq!(ids(&message.items), items.iter().map(|item| item.id).collect::<Vec<_>>());
        }
    }
}

#[test]
fn items_are_read_as_generated_code_reads_them() {
    let items: Vec<wire::CheckItem> = (0..3)
        .map(|id| wire::CheckItem { id: id * 1_000, check: (id != 1).then(wire::CheckRequest::default) })
        .collect();
    let bytes = wire::CheckStreamRequest { items }.encode_to_vec();
    let read = read::items(&bytes).unwrap();
    assert_eq!(
        read.iter().map(|item| (item.id, item.check.is_some())).collect::<Vec<_>>(),
        [(0, true), (1_000, false), (2_000, true)]
    );
    assert!(read::items(&bytes[..bytes.len() - 1]).is_none(), "cut off");
}
