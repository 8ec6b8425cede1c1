use smallvec::smallvec;

use super::*;

fn key() -> FleetKey {
    FleetKey::new(["n", "t", "", "o"]).unwrap()
}

const EPOCH: Epoch = Epoch { incarnation: 7, counter: 3 };

fn result(permit: u64, kind: OutcomeKind, slow: bool) -> ProbeResult {
    ProbeResult { permit: PermitId(permit), kind, slow }
}

fn delta(sequence: u64) -> Delta {
    Delta { sequence, epoch: EPOCH, age: Span::from_millis(1_500), ..Delta::default() }
}

fn told() -> proto::Directive {
    proto::Directive {
        epoch: Some(proto::Epoch { incarnation: 7, counter: 3 }),
        state: proto::CircuitState::Recovering.into(),
        admit: 0.35,
        probe_in: Some(to_wire(Span::from_secs(2))),
        lease: Some(to_wire(Span::from_secs(10))),
        report_interval: Some(to_wire(Span::from_millis(500))),
        permits: vec![proto::ProbePermit {
            id: vec![0, 0, 0, 0, 0, 0, 1, 2],
            ttl: Some(to_wire(Span::SECOND)),
        }],
        ..proto::Directive::default()
    }
}

#[test]
fn counts_travel_in_one_message() {
    let counts =
        Counts { success: 1, failure: 2, slow_success: 3, slow_failure: 4, ignored: 5, not_permitted: 6 };
    let whole =
        Delta { counts, retry_after: Some(Span::SECOND), median: Some(Span::from_millis(20)), ..delta(1) };
    let sent = deltas(&key(), &whole, &mut Numbers::default());
    let [one] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((one.success, one.failure, one.slow_success), (1, 2, 3));
    assert_eq!((one.slow_failure, one.ignored, one.not_permitted), (4, 5, 6));
    assert_eq!(one.age.unwrap(), prost_types::Duration { seconds: 1, nanos: 500_000_000 });
    assert_eq!((one.retry_after.unwrap().seconds, one.typical.unwrap().nanos), (1, 20_000_000));
    assert_eq!((one.epoch, one.sequence), (Some(epoch(EPOCH)), 1));
    assert_eq!(one.key, Some(key().to_wire()));
}

#[test]
fn a_probe_and_what_is_late_have_messages_and_numbers_of_their_own() {
    let mut numbers = Numbers::default();
    numbers.follow(Epoch { incarnation: 7, counter: 2 });
    numbers.follow(EPOCH);
    let all = Delta {
        counts: Counts { not_permitted: 9, ..Counts::default() },
        late: Counts { failure: 1, ..Counts::default() },
        probes: smallvec![
            result(258, OutcomeKind::Failure, true),
            result(259, OutcomeKind::Success, false),
            result(260, OutcomeKind::Ignored, true)
        ],
        ..delta(1)
    };
    let sent = deltas(&key(), &all, &mut numbers);
    assert_eq!(sent.iter().map(|one| one.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(sent[0].not_permitted, 9);
    let failed = &sent[1];
    assert_eq!((failed.permit.as_slice(), failed.slow_failure), ([0, 0, 0, 0, 0, 0, 1, 2].as_slice(), 1));
    assert_eq!((sent[2].success, sent[3].ignored), (1, 1));
    assert!(sent[1..4].iter().all(|probe| {
        probe.success + probe.failure + probe.slow_failure + probe.ignored + probe.not_permitted == 1
    }));
    let late = &sent[4];
    assert_eq!((late.failure, late.epoch.unwrap().counter, late.permit.len()), (1, 2, 0));
}

#[test]
fn a_delta_that_is_sent_again_keeps_its_numbers() {
    let mut numbers = Numbers::default();
    let two = Delta { probes: smallvec![result(1, OutcomeKind::Success, false); 2], ..delta(1) };
    let first = deltas(&key(), &two, &mut numbers);
    let other = deltas(&key(), &delta(2), &mut numbers);
    assert_eq!((first[1].sequence, other[0].sequence), (2, 3));
    assert_eq!(deltas(&key(), &two, &mut numbers), first);
}

/// All numbers up to `highest`.
const fn up_to(highest: u64) -> Ack {
    Ack { highest, earlier: u64::MAX }
}

#[test]
fn a_delta_that_was_lost_on_the_way_is_not_acknowledged_by_a_later_one() {
    let mut numbers = Numbers::default();
    (1..=3).for_each(|sequence| drop(deltas(&key(), &delta(sequence), &mut numbers)));
    let ack = numbers.acknowledge(Ack { highest: 3, earlier: 0b10 });
    assert!(ack.covers(1) && !ack.covers(2) && ack.covers(3));
    assert_eq!(deltas(&key(), &delta(2), &mut numbers)[0].sequence, 2, "it keeps its number");
    assert!(numbers.acknowledge(up_to(3)).covers(2));
}

#[test]
fn a_delta_is_acknowledged_when_its_last_message_is() {
    let mut numbers = Numbers::default();
    let two = Delta { probes: smallvec![result(1, OutcomeKind::Success, false); 2], ..delta(1) };
    deltas(&key(), &two, &mut numbers);
    deltas(&key(), &delta(2), &mut numbers);
    let covered = |ack: Ack| (ack.covers(1), ack.covers(2));
    assert_eq!(covered(numbers.acknowledge(up_to(0))), (false, false));
    assert_eq!(covered(numbers.acknowledge(up_to(1))), (false, false), "one of its two messages has arrived");
    assert_eq!(covered(numbers.acknowledge(up_to(2))), (true, false));
    assert_eq!(covered(numbers.acknowledge(up_to(3))), (true, true));
    assert_eq!(covered(numbers.acknowledge(up_to(1))), (true, true), "a new owner knows of less");
}

#[test]
fn a_directive_is_read_field_by_field() {
    let read = directive(&told(), Ack::default(), true).unwrap();
    assert_eq!((read.epoch, read.state, read.admit), (EPOCH, FleetState::Recovering, Share::percent(35)));
    assert_eq!((read.probe_in, read.lease), (Span::from_secs(2), Span::from_secs(10)));
    assert_eq!(read.report_interval, Span::from_millis(500));
    assert_eq!(read.permits.as_slice(), [Permit { id: PermitId(258), ttl: Span::SECOND }]);
    assert!(!read.ask_probe);
}

#[test]
fn what_is_only_told_is_not_obeyed() {
    let open = proto::Directive { state: proto::CircuitState::Open.into(), metrics_only: true, ..told() };
    assert_eq!(directive(&open, Ack::default(), true).unwrap().state, FleetState::MetricsOnly);
}

#[test]
fn permits_are_asked_for_only_if_there_are_any_and_only_one_by_one() {
    let none = proto::Directive { state: proto::CircuitState::HalfOpen.into(), ..told() };
    let some = proto::Directive { ask_probe: true, ..none.clone() };
    assert!(directive(&some, Ack::default(), true).unwrap().ask_probe);
    assert!(!directive(&some, Ack::default(), false).unwrap().ask_probe);
    assert!(!directive(&none, Ack::default(), true).unwrap().ask_probe);
}

#[test]
fn what_makes_no_sense_is_named() {
    let why = |change: fn(&mut proto::Directive)| {
        let mut told = told();
        change(&mut told);
        directive(&told, Ack::default(), false).unwrap_err().to_string()
    };
    assert_eq!(why(|told| told.epoch = None), "directive.epoch is missing");
    assert_eq!(why(|told| told.state = 0), "directive.state is 0, must be a state of a circuit");
    assert_eq!(why(|told| told.state = 99), "directive.state is 99, must be a state of a circuit");
    assert_eq!(why(|told| told.admit = 1.5), "directive.admit is 1.5, must be from 0 to 1");
    assert_eq!(why(|told| told.admit = f64::NAN), "directive.admit is NaN, must be from 0 to 1");
    assert_eq!(why(|told| told.lease = None), "directive.lease is missing");
    let negative = |told: &mut proto::Directive| {
        told.probe_in = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    };
    assert_eq!(why(negative), "directive.probe_in is negative or no duration");
    assert_eq!(why(|told| told.permits[0].id = vec![1]), "directive.permits: an id has 1 bytes, must have 8");
}

#[test]
fn a_claim_tells_what_is_held_and_only_while_it_is_held() {
    let seen = |state, lease| ViewSnapshot {
        state,
        epoch: EPOCH,
        admit: Share::percent(35),
        lease,
        permits: 0,
        attempt: 3,
        counts: Counts::default(),
        unacknowledged: 0,
    };
    let held = claim(&key(), &seen(FleetState::Open, Span::from_secs(6)), Span::SECOND).unwrap();
    assert_eq!((held.state(), held.epoch, held.attempt), (proto::CircuitState::Open, Some(epoch(EPOCH)), 3));
    assert_eq!((held.remaining.unwrap().seconds, held.lease.unwrap().seconds, held.admit), (1, 6, 0.35));
    assert_eq!(claim(&key(), &seen(FleetState::Open, Span::ZERO), Span::SECOND), None);
    let only_told = claim(&key(), &seen(FleetState::MetricsOnly, Span::SECOND), Span::ZERO).unwrap();
    assert_eq!((only_told.state(), only_told.remaining), (proto::CircuitState::Closed, None));
    let nobody = ViewSnapshot { epoch: Epoch::default(), ..seen(FleetState::Closed, Span::SECOND) };
    assert_eq!(claim(&key(), &nobody, Span::ZERO), None);
}
