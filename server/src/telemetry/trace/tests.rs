use http::HeaderValue;

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn following(ratio: f64, follows_parent: bool, queue: usize) -> (Tracer, Receiver<Finished>, ExportCounts) {
    let sampler = Sampler::new(ratio, follows_parent);
    let counts = ExportCounts::default();
    let (tracer, traces) = Tracer::new(TraceOptions { sampler, queue, shows_values: false }, counts.clone());
    (tracer, traces, counts)
}

fn named() -> Named {
    Named { span: "call", attributes: &[("rpc.system.name", "grpc")] }
}

fn caller(flags: &str) -> HeaderMap {
    let text = format!("00-{TRACE}-{SPAN}-{flags}");
    [(http::HeaderName::from_static(TRACEPARENT), HeaderValue::from_str(&text).unwrap())]
        .into_iter()
        .collect()
}

#[test]
fn the_caller_decides_if_it_is_followed() {
    let (tracer, _traces, _) = following(0.0, true, 1);
    assert!(tracer.begin(&caller("00"), named).is_none());
    assert!(tracer.begin(&HeaderMap::new(), named).is_none());
    let live = tracer.begin(&caller("01"), named).unwrap();
    assert_eq!(u128::from_be_bytes(live.trace().id()), u128::from_str_radix(TRACE, 16).unwrap());
    let (tracer, _traces, _) = following(1.0, true, 1);
    assert!(tracer.begin(&caller("00"), named).is_none(), "the caller has decided");
    assert!(tracer.begin(&HeaderMap::new(), named).is_some());
}

#[test]
fn a_request_that_is_not_followed_makes_nothing() {
    let (tracer, _traces, _) = following(0.0, true, 1);
    let never = || -> Named { panic!("a span for a request that is not followed") };
    assert!(tracer.begin(&caller("00"), never).is_none());
    assert!(tracer.begin(&HeaderMap::new(), never).is_none());
}

#[test]
fn the_ratio_is_that_of_the_traces_that_begin_here() {
    let (tracer, _traces, _) = following(0.25, true, 1);
    let picked = (0..20_000).filter(|_| tracer.begin(&HeaderMap::new(), named).is_some()).count();
    // 5,000 ± 8 standard deviations of 61
    assert!((4_500..=5_500).contains(&picked), "{picked}");
}

#[test]
fn a_ratio_of_all_traces_goes_by_their_identifiers() {
    let low = |text: &str| Parent::read(format!("00-{}{text}-{SPAN}-00", &TRACE[..16]).as_bytes()).unwrap();
    let half = Sampler::new(0.5, false);
    let never = || -> u64 { panic!("the trace has an identifier") };
    assert!(half.picks(Some(&low("3fffffffffffffff")), never).is_some());
    assert!(half.picks(Some(&low("4000000000000000")), never).is_none());
    assert!(half.picks(Some(&low("bfffffffffffffff")), never).is_some(), "the highest bit does not count");
    assert!(Sampler::new(1.0, false).picks(Some(&low("ffffffffffffffff")), never).is_some());
    assert!(Sampler::new(0.0, false).picks(None, never).is_none());
}

#[tokio::test]
async fn steps_lie_in_one_another() {
    let (tracer, mut traces, _) = following(1.0, true, 8);
    let live = tracer.begin(&caller("01"), named).unwrap();
    live.within(async {
        let outer = step("outer").unwrap();
        step("inner").unwrap().fail("timeout");
        drop(outer);
        drop(step("next"));
    })
    .await;
    assert!(step("outside").is_none() && current().is_none());
    drop(live);
    let Finished { server, steps, trace, .. } = traces.recv().await.unwrap();
    assert_eq!(u64::from_be_bytes(server.parent.unwrap()), u64::from_str_radix(SPAN, 16).unwrap());
    let find = |name: &str| steps.iter().find(|step| step.name == name).unwrap();
    assert_eq!(find("outer").parent, Some(server.id));
    assert_eq!(find("inner").parent, Some(find("outer").id));
    assert_eq!(find("next").parent, Some(server.id));
    assert_eq!((find("inner").outcome, find("next").outcome), (Outcome::Failed, Outcome::Unset));
    assert_eq!(u128::from_be_bytes(trace), u128::from_str_radix(TRACE, 16).unwrap());
    for step in &steps {
        assert!(server.began <= step.began && step.began <= step.ended && step.ended <= server.ended);
    }
}

#[test]
fn a_full_queue_drops_and_counts() {
    let (tracer, mut traces, counts) = following(1.0, true, 2);
    (0..5).for_each(|_| drop(tracer.begin(&HeaderMap::new(), named)));
    assert_eq!(counts.dropped_so_far(), 3);
    assert!(traces.try_recv().is_ok() && traces.try_recv().is_ok() && traces.try_recv().is_err());
}
