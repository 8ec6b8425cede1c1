use std::sync::atomic::{AtomicU32, Ordering};

use tollgate_core::breaker::fleet::{FleetView, ReporterId, ViewConfig};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Opens at three failures in a row, for a second; one probe.
fn three() -> CircuitBreakerBuilder {
    CircuitBreaker::builder("three")
        .consecutive_failures(3)
        .wait_in_open(Wait::constant(SECOND))
        .permitted_calls_in_half_open(1)
}

fn fail(breaker: &CircuitBreaker, times: u32) {
    (0..times).for_each(|_| breaker.try_acquire().unwrap().failure());
}

#[tokio::test(start_paused = true)]
async fn opens_probes_and_closes() {
    let breaker = three().build().unwrap();
    fail(&breaker, 3);
    let open = breaker.try_acquire().unwrap_err();
    assert_eq!((open.state, open.retry_after), (State::Open, Some(SECOND)));
    tokio::time::advance(SECOND).await;
    let probe = breaker.try_acquire().unwrap();
    assert_eq!(breaker.try_acquire().unwrap_err().state, State::HalfOpen);
    probe.success();
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_gives_its_place_back_and_decides_nothing() {
    let breaker = three().build().unwrap();
    fail(&breaker, 3);
    tokio::time::advance(SECOND).await;
    for _ in 0..3 {
        drop(breaker.try_acquire().unwrap());
        assert_eq!(breaker.state(), State::HalfOpen);
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_of_an_earlier_state_is_dropped() {
    let breaker = three().build().unwrap();
    let late = breaker.try_acquire().unwrap();
    fail(&breaker, 3);
    tokio::time::advance(SECOND).await;
    breaker.try_acquire().unwrap().success();
    late.failure();
    let metrics = breaker.metrics();
    assert_eq!((metrics.state, metrics.failures, metrics.late_results_dropped), (State::Closed, 0, 1));
}

#[tokio::test]
async fn call_tells_errors_from_rejections() {
    let breaker = three().build().unwrap();
    assert_eq!(breaker.call(async { Ok::<_, &str>(7) }).await.unwrap(), 7);
    for _ in 0..3 {
        let error = breaker.call(async { Err::<(), _>("down") }).await.unwrap_err();
        assert_eq!(error.into_inner(), Some("down"));
    }
    let polled = AtomicU32::new(0);
    let call = async { Ok::<_, &str>(polled.fetch_add(1, Ordering::SeqCst)) };
    let error = breaker.call(call).await.unwrap_err();
    assert!(error.is_rejection() && error.retry_after().is_some(), "{error:?}");
    assert_eq!(polled.into_inner(), 0, "a rejected call is not polled");
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_is_judged_by_the_time_to_its_head() {
    let slow = CircuitBreaker::builder("slow")
        .sliding_window(SlidingWindow::count(10))
        .minimum_calls(1)
        .slow_call(Duration::from_millis(100), 0.5)
        .build()
        .unwrap();
    let mut streamed = slow.try_acquire().unwrap();
    tokio::time::advance(Duration::from_millis(50)).await;
    streamed.head();
    tokio::time::advance(60 * SECOND).await;
    streamed.success();
    assert_eq!(slow.state(), State::Closed);
    let late = slow.try_acquire().unwrap();
    tokio::time::advance(Duration::from_millis(101)).await;
    late.success();
    assert_eq!(slow.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn orders_by_hand_end_by_their_ttl_or_by_a_reset() {
    let breaker = three().build().unwrap();
    breaker.force_open("maintenance", Some(SECOND));
    assert_eq!(breaker.state(), State::ForcedOpen);
    tokio::time::advance(SECOND).await;
    assert_eq!(breaker.state(), State::Closed);
    breaker.disable("load test", None);
    fail(&breaker, 20);
    assert_eq!(breaker.state(), State::Disabled);
    breaker.reset("done");
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn listeners_and_subscribers_hear_every_change_with_its_reason() {
    let heard: Arc<Mutex<Vec<Transition>>> = Arc::default();
    let list = heard.clone();
    let breaker = three()
        .listener(move |change: &Transition| list.lock().unwrap().push(change.clone()))
        .build()
        .unwrap();
    let mut state = breaker.subscribe();
    fail(&breaker, 3);
    assert_eq!(*state.borrow_and_update(), State::Open);
    tokio::time::advance(SECOND).await;
    breaker.try_acquire().unwrap().success();
    breaker.metrics_only("trial", None);
    fail(&breaker, 3);
    let heard = heard.lock().unwrap();
    let changes: Vec<_> = heard.iter().map(|change| (change.from.as_str(), change.to.as_str())).collect();
    let expected = [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
        ("closed", "metrics_only"),
        ("metrics_only", "metrics_only"),
    ];
    assert_eq!(changes, expected);
    assert_eq!(heard[0].reason, Reason::Consecutive { failures: 3 });
    assert!(heard[4].would_have_tripped());
    assert!(heard.is_sorted_by_key(|change| change.epoch));
}

#[test]
fn a_listener_may_give_orders() {
    let own: Arc<Mutex<Option<CircuitBreaker>>> = Arc::default();
    let (slot, heard) = (own.clone(), Arc::new(AtomicU32::new(0)));
    let count = heard.clone();
    let breaker = three()
        .listener(move |change: &Transition| {
            count.fetch_add(1, Ordering::SeqCst);
            if change.to == State::Open {
                slot.lock().unwrap().as_ref().unwrap().force_open("stay", None);
            }
        })
        .build()
        .unwrap();
    *own.lock().unwrap() = Some(breaker.clone());
    fail(&breaker, 3);
    assert_eq!((breaker.state(), heard.load(Ordering::SeqCst)), (State::ForcedOpen, 2));
}

#[test]
fn many_threads_hear_each_change_once_and_in_order() {
    let heard: Arc<Mutex<Vec<u32>>> = Arc::default();
    let list = heard.clone();
    let breaker =
        three().listener(move |change: &Transition| list.lock().unwrap().push(change.epoch)).build().unwrap();
    let orders = || {
        (0..500).for_each(|_| {
            breaker.force_open("test", None);
            breaker.reset("test");
        });
    };
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(orders))));
    let heard = heard.lock().unwrap();
    assert!(heard.is_sorted_by(|one, two| one < two));
    assert_eq!(heard.last(), Some(&breaker.metrics().epoch));
}

/// A gate that says what it is told to, and remembers what it heard.
#[derive(Debug)]
struct Scripted {
    says: Mutex<FleetVerdict>,
    heard: Mutex<Vec<String>>,
}

impl FleetGate for Scripted {
    fn admit(&self, _: Time, _: u32) -> FleetVerdict {
        *self.says.lock().unwrap()
    }

    fn record(&self, _: Time, _: FleetTicket, outcome: FleetOutcome) {
        self.heard.lock().unwrap().push(format!("{:?}", outcome.kind));
    }

    fn forget(&self, _: Time, _: FleetTicket) {
        self.heard.lock().unwrap().push("forgotten".to_owned());
    }

    fn state(&self) -> State {
        State::ForcedOpen
    }
}

fn ticket() -> FleetTicket {
    let config =
        ViewConfig { reporter: ReporterId(1), incarnation: 1, base_wait: Span::SECOND, slow_after: None };
    match FleetView::new(config, 1, Time::EPOCH).admit(Time::EPOCH, 0) {
        FleetVerdict::Local(ticket) => ticket,
        other => panic!("a new view leaves it to the local breaker: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_stricter_of_fleet_and_local_breaker_governs() {
    let says = Mutex::new(FleetVerdict::Local(ticket()));
    let gate = Arc::new(Scripted { says, heard: Mutex::default() });
    let say = |word| *gate.says.lock().unwrap() = word;
    let breaker = three().fleet(gate.clone()).build().unwrap();
    breaker.try_acquire().unwrap().success();
    say(FleetVerdict::Refuse { retry_after: Span::SECOND, ask: false });
    let refused = breaker.try_acquire().unwrap_err();
    assert_eq!((refused.state, refused.retry_after), (State::ForcedOpen, Some(SECOND)));
    say(FleetVerdict::Pass(ticket()));
    fail(&breaker, 3);
    assert!(breaker.try_acquire().is_err(), "open here, whatever the fleet says");
    say(FleetVerdict::Probe(ticket()));
    breaker.try_acquire().unwrap().success();
    breaker.try_acquire().unwrap().record(Outcome::Throttled { retry_after: None });
    drop(breaker.try_acquire().unwrap());
    assert_eq!(breaker.state(), State::Open, "a probe of the fleet is no verdict here");
    breaker.reset("test");
    say(FleetVerdict::Seed { open_for: Span::from_secs(5) });
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after, Some(5 * SECOND));
    assert_eq!(breaker.metrics().reason, Reason::Fleet);
    let heard = ["Success", "Failure", "Failure", "Failure", "forgotten", "Success", "Failure", "Ignored"];
    assert_eq!(*gate.heard.lock().unwrap(), heard);
}

#[test]
fn no_probe_of_the_fleet_passes_an_order_by_hand() {
    let gate =
        Arc::new(Scripted { says: Mutex::new(FleetVerdict::Probe(ticket())), heard: Mutex::default() });
    let breaker = three().fleet(gate.clone()).build().unwrap();
    breaker.force_open("maintenance", None);
    assert_eq!(breaker.try_acquire().unwrap_err().state, State::ForcedOpen);
    assert_eq!(*gate.heard.lock().unwrap(), ["forgotten"]);
}

#[test]
fn the_fleet_rejects_no_call_of_a_breaker_that_is_off() {
    let refuse = FleetVerdict::Refuse { retry_after: Span::SECOND, ask: false };
    let gate = Arc::new(Scripted { says: Mutex::new(refuse), heard: Mutex::default() });
    let breaker = three().fleet(gate).build().unwrap();
    assert!(breaker.try_acquire().is_err());
    breaker.disable("drill", None);
    breaker.try_acquire().unwrap().failure();
    breaker.metrics_only("drill", None);
    breaker.try_acquire().unwrap().success();
}

#[test]
fn a_configuration_file_says_the_same_as_the_builder() {
    let config: CircuitBreakerConfig = CircuitBreakerConfig {
        failure_rate_threshold: Some(0.25),
        sliding_window: SlidingWindow::time(Duration::from_secs(30)),
        ..CircuitBreakerConfig::default()
    };
    let json = serde_json::to_string(&config).unwrap();
    assert!(json.contains(r#""length":"30s""#), "{json}");
    assert_eq!(serde_json::from_str::<CircuitBreakerConfig>(&json).unwrap(), config);
    let part = r#"{"consecutive_failures": 4, "sliding_window": {"count": {"size": 50}}, "wait_in_open": {"base": "2s"}}"#;
    let part: CircuitBreakerConfig = serde_json::from_str(part).unwrap();
    assert_eq!((part.consecutive_failures, part.sliding_window), (Some(4), SlidingWindow::count(50)));
    let error = serde_json::from_str::<CircuitBreakerConfig>(r#"{"minimum_cals": 3}"#).unwrap_err();
    assert!(error.to_string().contains("minimum_cals"), "{error}");
}

#[test]
fn bad_settings_are_named_with_their_range() {
    for (builder, message) in [
        (three().minimum_calls(0), "circuit breaker: minimum_calls must be at least 1, not 0"),
        (three().failure_rate_threshold(1.1), "failure_rate_threshold must be in 0.0..=1.0, not 1.1"),
        (
            three().wait_in_open(Wait::exponential(SECOND, 0.5)),
            "wait_in_open.multiplier must be in 1.0..=10.0, not 0.5",
        ),
        (
            three().permitted_calls_in_half_open(0),
            "circuit breaker: permitted_calls_in_half_open must be 1..=8191, not 0",
        ),
    ] {
        assert_eq!(builder.build().unwrap_err().to_string(), message);
    }
}

#[tokio::test(start_paused = true)]
async fn one_shed_call_does_not_stop_the_others_unless_that_is_wanted() {
    let shed = || Outcome::Throttled { retry_after: Some(Duration::from_secs(1)) };
    let patient = three().build().unwrap();
    patient.try_acquire().unwrap().record(shed());
    assert_eq!(patient.state(), State::Closed);
    let obedient = three().open_on_hint().build().unwrap();
    obedient.try_acquire().unwrap().record(shed());
    assert_eq!(obedient.state(), State::Open);
}
