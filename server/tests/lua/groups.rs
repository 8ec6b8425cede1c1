//! Groups and their ids, as the script itself treats them.

use tollgate_core::limit::{
    Ask, Calendar, CalendarUnit, FixedWindow, LeakyBucket, Limit, Rate, Refused, Window,
};
use tollgate_core::limit::{SlidingLog, SlidingWindow};
use tollgate_core::time::{Span, Time};
use tollgate_server::store::redis::reply::Reply;
use tollgate_server::store::redis::script::{Asked, Call};

use super::asking::{CHARGE_ALL, Engine, Group, answers, bucket, used};
use super::server::Server;

fn engine(server: &Server) -> Engine {
    Engine::new(server.connect())
}

fn one<'l>(key: &str, limit: &'l Limit, units: u64) -> Group<'l> {
    let group = Group::of(&[(key, limit, Ask::take(units))]);
    // enough for a calendar of centuries
    Group { instants: vec![Time::from_micros(super::random::SPRING)], ..group }
}

#[test]
fn a_group_with_an_id_is_charged_once() {
    let server = Server::start();
    let mut engine = engine(&server);
    let limit = bucket(10);
    let group = one("k", &limit, 3).with_id("id");
    let first = engine.raw(&group.all_keys().collect::<Vec<_>>(), &[group.arguments()]);
    let state = engine.bytes("k");
    assert_eq!(used(&engine.told(&one("k", &limit, 0))), [(true, 3)]);
    // in another call, and in the same call twice
    let keys: Vec<Vec<u8>> = group.all_keys().chain(group.all_keys()).collect();
    let again = engine.raw(&keys, &[group.arguments(), group.arguments()]);
    assert_eq!(again, [first[0].clone(), first[0].clone()]);
    assert_eq!(engine.bytes("k"), state);
    assert!((1..=300_000).contains(&engine.ttl("id")));
}

#[test]
fn a_refused_group_with_an_id_stays_refused() {
    let server = Server::start();
    let mut engine = engine(&server);
    let limit = bucket(2);
    let group = one("k", &limit, 3).with_id("id").calling(CHARGE_ALL);
    let first = engine.told(&group);
    assert_eq!(used(&first), [(false, 0)]);
    assert_eq!(engine.told(&group), first);
    // nothing was charged: nothing comes back
    engine.told(&one("k", &limit, 1));
    engine.told(&group.calling(Call::Cancel));
    assert_eq!(used(&engine.told(&one("k", &limit, 0))), [(true, 1)]);
}

#[test]
fn a_cancellation_takes_back_once_what_was_charged() {
    let server = Server::start();
    let mut engine = engine(&server);
    let limit = bucket(10);
    engine.told(&one("k", &limit, 2));
    let group = one("k", &limit, 3).with_id("id");
    engine.told(&group);
    let cancel = group.clone().calling(Call::Cancel);
    assert_eq!(used(&engine.told(&cancel)), [(true, 2)]);
    assert_eq!(used(&engine.told(&cancel)), [(true, 2)]);
    assert_eq!(used(&engine.told(&group)), [(true, 2)], "charged after its cancellation");
    assert_eq!(used(&engine.told(&one("k", &limit, 0))), [(true, 2)]);
}

#[test]
fn a_cancellation_that_comes_first_keeps_the_charge_from_happening() {
    let server = Server::start();
    let mut engine = engine(&server);
    let limit = bucket(10);
    let group = one("k", &limit, 3).with_id("id");
    // and within one call
    let replies = engine.batch(&[group.clone().calling(Call::Cancel), group.clone()]);
    let told: Vec<_> = replies.into_iter().map(|reply| used(&answers(reply))).collect();
    assert_eq!(told, [[(true, 0)], [(true, 0)]]);
    assert_eq!(used(&engine.told(&group)), [(true, 0)]);
    assert_eq!(engine.bytes("k"), None);
    assert!(engine.ttl("id") > 0);
}

#[test]
fn only_what_was_admitted_is_taken_back() {
    let server = Server::start();
    let mut engine = engine(&server);
    let (wide, tight) = (bucket(10), bucket(1));
    engine.told(&one("tight", &tight, 1));
    let hits =
        [("wide", &wide, Ask::take(4)), ("tight", &tight, Ask::take(1)), ("wide", &wide, Ask::refund(1))];
    let group = Group::of(&hits).with_id("id");
    assert_eq!(used(&engine.told(&group)), [(true, 4), (false, 1), (true, 3)]);
    assert_eq!(used(&engine.told(&group.calling(Call::Cancel))), [(true, 0), (true, 1), (true, 0)]);
}

#[test]
fn a_refusal_charges_none_of_its_group_and_all_of_the_others() {
    let server = Server::start();
    let mut engine = engine(&server);
    let (wide, tight) = (bucket(10), bucket(1));
    let both =
        Group::of(&[("wide", &wide, Ask::take(4)), ("tight", &tight, Ask::take(2))]).calling(CHARGE_ALL);
    let replies = engine.batch(&[one("wide", &wide, 1), both, one("wide", &wide, 2)]);
    let told: Vec<_> = replies.into_iter().map(|reply| used(&answers(reply))).collect();
    assert_eq!(told, [vec![(true, 1)], vec![(true, 1), (false, 0)], vec![(true, 3)]]);
    assert_eq!(engine.bytes("tight"), None);
}

#[test]
fn shadows_refuse_nothing_and_alternatives_only_together() {
    let server = Server::start();
    let mut engine = engine(&server);
    let (wide, tight) = (bucket(10), bucket(1));
    let hit = |limit, units, shadow, alternative| Asked { limit, ask: Ask::take(units), shadow, alternative };
    let mut charged = |hits: [Asked<'_>; 2]| {
        engine.order(&["FLUSHALL"]);
        let mut group = Group::of(&[("a", hits[0].limit, Ask::peek()), ("b", hits[1].limit, Ask::peek())]);
        group.hits = hits.to_vec();
        engine.told(&group.calling(CHARGE_ALL));
        engine.bytes("a").is_some()
    };
    assert!(charged([hit(&wide, 1, false, false), hit(&tight, 2, true, false)]), "a shadow");
    assert!(!charged([hit(&wide, 1, false, false), hit(&tight, 2, false, true)]), "the only alternative");
    assert!(charged([hit(&wide, 1, false, true), hit(&tight, 2, false, true)]), "one of two alternatives");
    assert!(charged([hit(&wide, 1, false, true), hit(&tight, 2, true, true)]), "one of them a shadow");
    assert!(!charged([hit(&wide, 1, false, true), hit(&tight, 2, false, false)]), "no alternative");
}

#[test]
fn a_batch_reads_and_writes_each_key_once() {
    let server = Server::start();
    let mut engine = engine(&server);
    let limit = bucket(50);
    engine.order(&["CONFIG", "RESETSTAT"]);
    let group =
        Group::of(&[("k", &limit, Ask::take(1)), ("m", &limit, Ask::take(1)), ("k", &limit, Ask::take(1))]);
    engine.batch(&vec![group; 8]);
    let stats: String = engine.ask(&["INFO", "commandstats"]);
    for command in ["get", "set"] {
        assert!(stats.contains(&format!("cmdstat_{command}:calls=2,")), "{stats}");
    }
    assert_eq!(used(&engine.told(&one("k", &limit, 0))), [(true, 16)]);
}

#[test]
fn a_peek_writes_nothing() {
    let server = Server::start();
    let mut engine = engine(&server);
    for (name, limit) in all() {
        engine.told(&one(name, &limit, 1));
        engine.order(&["PEXPIRE", name, "1000000"]);
        let before = (engine.bytes(name), engine.ask::<u64>(&["PEXPIRETIME", name]));
        assert!(engine.told(&one(name, &limit, 0))[0].verdict.allowed);
        assert!(!engine.told(&one(name, &limit, 1_000))[0].verdict.allowed);
        assert_eq!(before, (engine.bytes(name), engine.ask::<u64>(&["PEXPIRETIME", name])), "{name}");
        assert!(engine.told(&one("fresh", &limit, 0))[0].verdict.allowed);
        assert_eq!(engine.bytes("fresh"), None, "{name}");
    }
}

/// A limit of 5 for each algorithm and kind of window, over an hour or more.
fn all() -> [(&'static str, Limit); 7] {
    let hour = Span::from_secs(3_600);
    let fixed = |window| Limit::FixedWindow(FixedWindow::new(5, window, Refused::Free).unwrap());
    let century = Calendar::new(CalendarUnit::Year, 100, "UTC").unwrap();
    let rate = Rate::new(1, hour).unwrap();
    [
        ("token", bucket(5)),
        ("leaky", Limit::LeakyBucket(LeakyBucket::new(rate, 4).unwrap())),
        ("epoch", fixed(Window::Epoch(Span::from_secs(36_525 * 86_400)))),
        ("anchored", fixed(Window::Anchored(hour))),
        ("calendar", fixed(Window::Calendar(century))),
        ("sliding", Limit::SlidingWindow(SlidingWindow::new(5, hour).unwrap())),
        ("log", Limit::SlidingLog(SlidingLog::new(5, hour).unwrap())),
    ]
}

#[test]
fn every_key_has_an_end() {
    let server = Server::start();
    let mut engine = engine(&server);
    for (name, limit) in all() {
        let group = one(name, &limit, 1).with_id("id");
        engine.told(&group);
        assert!(engine.ttl(name) > 0, "{name}");
        engine.told(&group.calling(Call::Cancel));
        // nothing in use: it may end at once
        assert_ne!(engine.ttl(name), -1, "{name}");
        assert!(engine.ttl("id") > 0);
        engine.order(&["DEL", "id"]);
    }
}

#[test]
fn a_calendar_asks_for_the_window_that_it_lacks() {
    let server = Server::start();
    let mut engine = engine(&server);
    let day = Window::Calendar(Calendar::new(CalendarUnit::Day, 1, "Europe/Berlin").unwrap());
    let limit = Limit::FixedWindow(FixedWindow::new(5, day, Refused::Free).unwrap());
    let wide = bucket(10);
    let mut group = Group::of(&[("wide", &wide, Ask::take(1)), ("day", &limit, Ask::take(1))]).with_id("id");
    group.instants = vec![Time::EPOCH];
    let replies = engine.batch(&[group.clone(), one("other", &wide, 1)]);
    let Reply::Window(now) = replies[0] else { panic!("{replies:?}") };
    assert_eq!(used(&answers(replies[1].clone())), [(true, 1)], "the other group");
    let (secs, micros): (u64, u64) = engine.ask(&["TIME"]);
    let ago = secs * 1_000_000 + micros - now.as_micros();
    assert!(ago < 60_000_000, "{ago}");
    for key in ["wide", "day", "id"] {
        assert_eq!(engine.bytes(key), None, "{key}");
    }
    // the next midnight may come while we are at it
    group.instants.extend([now, now + Span::from_secs(86_400)]);
    assert_eq!(used(&engine.told(&group)), [(true, 1), (true, 1)]);
}
