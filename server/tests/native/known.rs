//! A stream that has seen a question before answers it as a call of its own does, whatever changes in between.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tollgate_core::rules::Defaults;
use tollgate_core::time::Span;
use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::check_answer::Answer;
use tollgate_server::config::compile::compile;
use tollgate_server::config::rules::{Options, Source};
use tollgate_server::config::ruleset::Ruleset;

use crate::check::{NOW, RULES};
use crate::native_world::Native;
use crate::rls_world::World;

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    /// Checks of one message.
    Checks(Vec<wire::CheckRequest>),
    Later(Span),
    /// Other limits for the same keys, or the first ones again.
    Rules(bool),
}

fn other_rules() -> String {
    RULES.replace("requests_per_unit: 3", "requests_per_unit: 5").replace("key: zero", "key: was_zero")
}

fn load(world: &World, text: &str) {
    let source = Source { name: "rules.yaml".into(), bytes: text.as_bytes().to_vec() };
    let compiled = compile(&[source], &Options::default(), Defaults::default()).unwrap();
    world.engine.use_rules(Arc::new(Ruleset::new(compiled.matcher, world.engine.metrics())));
}

fn descriptor() -> impl Strategy<Value = wire::Descriptor> {
    let keys = vec!["three", "other", "zero", "free", "watched", "bucket", "queue", "nobody"];
    let entry =
        (prop::sample::select(keys), "[ab]").prop_map(|(key, value)| wire::Entry { key: key.into(), value });
    (vec(entry, 1..2), option::weighted(0.2, 0..4_u64))
        .prop_map(|(entries, cost)| wire::Descriptor { entries, cost })
}

fn check() -> impl Strategy<Value = wire::CheckRequest> {
    let wait = option::weighted(0.3, 0..300_000_000_i32)
        .prop_map(|nanos| nanos.map(|nanos| prost_types::Duration { seconds: 0, nanos }));
    let descriptors = prop_oneof![9 => vec(descriptor(), 1..2), 1 => vec(descriptor(), 0..4)];
    let domain = prop_oneof![9 => Just("d"), 1 => Just("nowhere")];
    let cost = option::weighted(0.2, prop_oneof![9 => 0..3_u64, 1 => Just(u64::MAX)]);
    let flags = (prop::bool::weighted(0.1), any::<bool>(), prop::bool::weighted(0.1));
    (domain, descriptors, cost, wait, flags).prop_map(|(domain, descriptors, cost, max_wait, flags)| {
        let (refund, explain, named) = flags;
        let idempotency_key = if named { vec![1] } else { Vec::new() };
        let domain = domain.into();
        wire::CheckRequest {
            domain,
            descriptors,
            cost,
            refund,
            idempotency_key,
            max_wait,
            explain,
            ..Default::default()
        }
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => vec(check(), 1..12).prop_map(Event::Checks),
        2 => (0..200_000_u64).prop_map(|micros| Event::Later(Span::from_micros(micros))),
        1 => any::<bool>().prop_map(Event::Rules),
    ]
}

/// The answers of a stream, and of calls of their own to another server.
async fn answers(events: Vec<Event>) -> [Vec<Result<wire::CheckResponse, String>>; 2] {
    let (streamed, called) = (World::new(RULES, NOW), World::new(RULES, NOW));
    let stream = Native::serve(streamed.engine.clone(), "").await;
    let calls = Native::serve(called.engine.clone(), "").await;
    let (asks, asked) = mpsc::channel(1);
    let mut told =
        stream.limiter.clone().check_stream(ReceiverStream::new(asked)).await.unwrap().into_inner();
    let mut answers = [Vec::new(), Vec::new()];
    for event in events {
        match event {
            Event::Later(span) => {
                [&streamed, &called].into_iter().for_each(|world| world.clock.advance(span));
            }
            Event::Rules(other) => {
                let text = if other { other_rules() } else { RULES.to_owned() };
                [&streamed, &called].into_iter().for_each(|world| load(world, &text));
            }
            Event::Checks(checks) => {
                for check in &checks {
                    let answer = calls.limiter.clone().check(check.clone()).await;
                    let answer = answer.map(tonic::Response::into_inner);
                    answers[1].push(answer.map_err(|status| status.message().to_owned()));
                }
                let items = (0..).zip(checks).map(|(id, check)| wire::CheckItem { id, check: Some(check) });
                asks.send(wire::CheckStreamRequest { items: items.collect() }).await.unwrap();
                let message = told.message().await.unwrap().unwrap();
                answers[0].extend(message.answers.into_iter().map(|answer| match answer.answer.unwrap() {
                    Answer::Decision(decision) => Ok(decision),
                    Answer::Error(error) => Err(error.message),
                }));
            }
        }
    }
    assert_eq!(counted(&streamed), counted(&called));
    answers
}

/// What is counted of the rules.
fn counted(world: &World) -> Vec<String> {
    let page = world.page();
    page.lines().filter(|line| line.contains("rule=")).map(str::to_owned).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_stream_answers_as_calls_do(events in vec(event(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let [streamed, called] = runtime.block_on(answers(events));
        prop_assert_eq!(streamed, called);
    }
}
