//! What the script does with values that are not what it would have written.

use tollgate_core::limit::{
    Ask, FixedState, FixedWindow, LeakyBucket, Level, Limit, Rate, Refused, SlidingLog,
};
use tollgate_core::limit::{LogState, SlidingState, SlidingWindow, State, Window};
use tollgate_core::time::{Span, Time};
use tollgate_server::store::redis::reply::{Found, Reply};
use tollgate_server::store::redis::script::Call;
use tollgate_server::store::redis::state::{Unreadable, decode, encode};

use super::asking::{CHARGE_ALL, Engine, Group, answers, bucket, found, used};
use super::random::Random;
use super::server::Server;

const HOUR: Span = Span::from_secs(3_600);
/// 2026-03-29.
const NOW: Time = Time::from_micros(super::random::SPRING);

/// Every algorithm with a limit of 5, and a state of it.
fn all() -> [(Limit, State); 5] {
    let rate = Rate::new(1, HOUR).unwrap();
    let window = FixedWindow::new(5, Window::Epoch(HOUR), Refused::Free).unwrap();
    let level = Level { at: NOW, used: 2, credit: 1, per: 3_600_000_000 };
    [
        (bucket(5), State::TokenBucket(level)),
        (Limit::LeakyBucket(LeakyBucket::new(rate, 4).unwrap()), State::LeakyBucket(level)),
        (
            Limit::FixedWindow(window),
            State::FixedWindow(FixedState { start: NOW, end: NOW + HOUR, count: 2 }),
        ),
        (
            Limit::SlidingWindow(SlidingWindow::new(5, HOUR).unwrap()),
            State::SlidingWindow(SlidingState { start: NOW, length: HOUR, previous: 1, current: 2 }),
        ),
        (
            Limit::SlidingLog(SlidingLog::new(5, HOUR).unwrap()),
            State::SlidingLog(LogState::new(vec![(NOW, 1), (NOW + Span::SECOND, 2)])),
        ),
    ]
}

fn take<'l>(key: &str, limit: &'l Limit, units: u64) -> Group<'l> {
    Group::of(&[(key, limit, Ask::take(units))])
}

#[test]
fn a_state_of_a_newer_version_is_left_as_it_is() {
    let server = Server::start();
    let mut engine = Engine::new(server.connect());
    for (limit, state) in all() {
        let mut newer = encode(&state);
        newer[0] = 2;
        newer.push(77);
        engine.order(&["FLUSHALL"]);
        engine.set("newer", &newer);
        let both = [("ours", &limit, Ask::take(1)), ("newer", &limit, Ask::take(1))];
        let groups = [
            take("other", &limit, 1),
            Group::of(&both),
            Group::of(&both).calling(CHARGE_ALL).with_id("id"),
            Group::of(&both).calling(Call::Cancel).with_id("id"),
            take("newer", &limit, 0),
            take("other", &limit, 1),
        ];
        let replies = engine.batch(&groups);
        assert_eq!(replies[1..5], [Reply::Newer, Reply::Newer, Reply::Newer, Reply::Newer], "{limit:?}");
        for (reply, after) in [(&replies[0], 1), (&replies[5], 2)] {
            assert_eq!(used(&answers(reply.clone())), [(true, after)], "{limit:?}");
        }
        assert_eq!(engine.bytes("newer"), Some(newer), "{limit:?}");
        assert_eq!((engine.ttl("newer"), engine.bytes("ours"), engine.bytes("id")), (-1, None, None));
    }
}

#[test]
fn a_record_of_a_newer_version_is_left_as_it_is() {
    let server = Server::start();
    let mut engine = Engine::new(server.connect());
    let limit = bucket(5);
    engine.set("id", b"\x02c123");
    let group = take("k", &limit, 1).with_id("id");
    let replies = engine.batch(&[group.clone(), group.calling(Call::Cancel)]);
    assert_eq!(replies, [Reply::Newer, Reply::Newer]);
    assert_eq!((engine.bytes("id"), engine.bytes("k")), (Some(b"\x02c123".to_vec()), None));
}

/// The script counts garbage as no state, says so, and replaces it.
fn replaces(engine: &mut Engine, limit: &Limit, what: Found) {
    let peek = engine.told(&take("k", limit, 0));
    assert_eq!((found(&peek), used(&peek)), (vec![what], vec![(true, 0)]), "{limit:?}");
    let refused = engine.told(&take("k", limit, 6));
    assert_eq!((found(&refused), used(&refused)), (vec![what], vec![(false, 0)]), "{limit:?}");
    let twice = engine.batch(&[take("k", limit, 1), take("k", limit, 1)]);
    let twice: Vec<_> = twice.into_iter().map(answers).collect();
    assert_eq!((found(&twice[0]), used(&twice[0])), (vec![what], vec![(true, 1)]), "{limit:?}");
    assert_eq!((found(&twice[1]), used(&twice[1])), (vec![Found::Expected], vec![(true, 2)]), "{limit:?}");
    let after = engine.told(&take("k", limit, 0));
    assert_eq!((found(&after), used(&after)), (vec![Found::Expected], vec![(true, 2)]), "{limit:?}");
    assert!(decode(&engine.bytes("k").unwrap()).is_ok());
    assert!(engine.ttl("k") > 0);
}

#[test]
fn a_state_of_another_algorithm_is_replaced() {
    let server = Server::start();
    let mut engine = Engine::new(server.connect());
    for (limit, own) in all() {
        for (_, state) in all().into_iter().filter(|(_, state)| *state != own) {
            engine.set("k", &encode(&state));
            replaces(&mut engine, &limit, Found::OtherAlgorithm);
        }
    }
}

/// Seven bytes.
fn seven(number: u64) -> Vec<u8> {
    number.to_be_bytes()[1..].to_vec()
}

/// Values with a number that no state has.
fn impossible() -> Vec<Vec<u8>> {
    let of = |algorithm: u8, numbers: &[u64]| {
        let numbers = numbers.iter().flat_map(|number| seven(*number));
        [1, algorithm].into_iter().chain(numbers).collect::<Vec<u8>>()
    };
    let entry = |at: u64, units: u8| [&b"\x01G"[..], &seven(at), &[0, units]].concat();
    let big = 1 << 53;
    let mut values = vec![
        of(b'T', &[big, 1, 0, 9]),
        of(b'T', &[1, big, 0, 9]),
        of(b'L', &[1, 1, 9, 9]),
        of(b'L', &[1, 1, 0, 0]),
        of(b'T', &[1, 1, 9, big]),
        of(b'T', &[1, 1, big, big + 1]),
        of(b'F', &[big, 1, 1]),
        of(b'F', &[1, big, 1]),
        of(b'F', &[1, 1, big]),
        of(b'S', &[big, 1, 1, 1]),
        of(b'S', &[1, big, 1, 1]),
        of(b'S', &[1, 1, big, 1]),
        of(b'S', &[1, 1, 1, big]),
        of(b'S', &[1, 0, 1, 1]),
        entry(big, 1),
        entry(5, 0),
        [&entry(5, 1)[..], &entry(5, 1)[2..]].concat(),
        [&entry(5, 1)[..], &entry(4, 1)[2..]].concat(),
    ];
    values.extend([&b""[..], b"\x01", b"\x00", b"T", b"\x01X1234567", b"\x01G12345678"].map(<[u8]>::to_vec));
    values
}

#[test]
fn garbage_is_replaced() {
    let server = Server::start();
    let mut engine = Engine::new(server.connect());
    let mut values = impossible();
    for (_, state) in all() {
        let whole = encode(&state);
        let longer = [&whole[..], b"1"].concat();
        let older = [&b"\x00"[..], &whole[1..]].concat();
        values.extend([whole[..whole.len() - 1].to_vec(), longer, older]);
    }
    for (limit, _) in all() {
        for value in &values {
            assert_eq!(decode(value), Err(Unreadable::Corrupt), "{value:?}");
            engine.set("k", value);
            replaces(&mut engine, &limit, Found::Corrupt);
        }
    }
}

#[test]
fn a_value_of_another_type_is_replaced() {
    let server = Server::start();
    let mut engine = Engine::new(server.connect());
    for (limit, _) in all() {
        for make in [
            &["RPUSH", "k", "1"][..],
            &["HSET", "k", "1", "2"],
            &["SADD", "k", "1"],
            &["ZADD", "k", "1", "2"],
        ] {
            engine.order(&["DEL", "k"]);
            engine.order(make);
            replaces(&mut engine, &limit, Found::Corrupt);
        }
    }
}

#[test]
fn garbage_under_an_id_is_no_record() {
    let server = Server::start();
    let mut engine = Engine::new(server.connect());
    let limit = bucket(5);
    for make in [&["RPUSH", "id", "1"][..], &["SET", "id", ""], &["SET", "id", "\x01"]] {
        engine.order(&["FLUSHALL"]);
        engine.order(make);
        let group = take("k", &limit, 1).with_id("id");
        assert_eq!(used(&engine.told(&group)), [(true, 1)], "{make:?}");
        assert_eq!(used(&engine.told(&group)), [(true, 1)], "{make:?}");
        assert_eq!(used(&engine.told(&take("k", &limit, 0))), [(true, 1)], "{make:?}");
    }
}

#[test]
fn both_engines_read_the_same_from_any_bytes() {
    let server = Server::start();
    let mut engine = Engine::new(server.connect());
    let random = Random::new(11);
    let states = all();
    let (mut fine, mut corrupt) = (0, 0);
    for _ in 0..3_000 {
        let algorithm = random.below(5);
        let mut value = encode(&random.state(algorithm, NOW));
        for _ in 0..random.below(3) {
            let place = usize::try_from(random.next()).unwrap() % value.len();
            value[place] = random.next().to_be_bytes()[0];
        }
        engine.set("k", &value);
        let (limit, _) = &states[usize::try_from(algorithm).unwrap()];
        let reply = engine.batch(&[take("k", limit, 0)]).remove(0);
        let told = match (decode(&value), reply) {
            (Err(Unreadable::Newer), Reply::Newer) => continue,
            (_, reply) => answers(reply),
        };
        let expected = match decode(&value) {
            Ok(state) if encode(&state)[1] == encode(&states[usize::try_from(algorithm).unwrap()].1)[1] => {
                fine += 1;
                Found::Expected
            }
            Ok(_) => Found::OtherAlgorithm,
            Err(_) => {
                corrupt += 1;
                Found::Corrupt
            }
        };
        assert_eq!(found(&told), [expected], "{value:?}");
    }
    assert!(fine > 500 && corrupt > 200, "{fine} {corrupt}");
}
