//! Random batches of groups, answered by the whole script and by a model of it, at times that the test chooses.

use std::collections::HashSet;

use redis::Connection;
use tollgate_core::limit::{Calendar, Limit, Window};
use tollgate_core::time::{Span, Time};
use tollgate_server::store::redis::reply::{Reply, decode};
use tollgate_server::store::redis::script::{Asked, Call};
use tollgate_server::store::redis::state;

use super::asking::{CHARGE, CHARGE_ALL, Group, Loaded, REMEMBERED, asked, split, told_the_time};
use super::model::{Model, instants};
use super::random::{Random, calendars};
use super::server::{Server, command, order};
use super::steps::setting;

/// Batches of one world before it begins anew.
const BATCHES: u64 = 40;
/// The year 2100, so that Redis, which has its own clock, forgets nothing while the test runs.
const BEGIN: u64 = 4_102_444_800_000_000;
/// Times that a group is asked again with one more window: as often as a server does it.
const AGAIN: usize = 4;

/// Redis and the model of it.
struct World {
    connection: Connection,
    script: Loaded,
    model: Model,
    random: Random,
    now: Time,
    windows: u64,
    seed: u64,
}

impl World {
    fn new(mut connection: Connection, seed: u64) -> World {
        order(&mut connection, &["FLUSHALL"]);
        let script = Loaded::new(&mut connection, &told_the_time());
        let random = Random::new(seed);
        let now = Time::from_micros(BEGIN + random.below(BEGIN / 4));
        World { connection, script, model: Model::default(), random, now, windows: 0, seed }
    }

    /// Asks the groups, those that want another window again with it, and compares all answers.
    fn ask(&mut self, groups: Vec<Group<'_>>) {
        let mut rest = groups;
        for _ in 0..=AGAIN {
            rest = self.ask_once(rest);
            if rest.is_empty() {
                return;
            }
        }
        panic!("seed {}: still wants a window: {:?}", self.seed, rest[0].hits);
    }

    fn ask_once<'l>(&mut self, groups: Vec<Group<'l>>) -> Vec<Group<'l>> {
        let keys: Vec<Vec<u8>> = groups.iter().flat_map(Group::all_keys).collect();
        let mut arguments: Vec<Vec<u8>> = groups.iter().map(Group::arguments).collect();
        let micros = self.now.as_micros();
        arguments.extend([micros / 1_000_000, micros % 1_000_000].map(|part| part.to_string().into_bytes()));
        let (time, replies) = split(self.script.call(&mut self.connection, &keys, &arguments).unwrap());
        assert_eq!((time, replies.len()), (micros, groups.len()), "seed {}", self.seed);
        let mut again = Vec::new();
        for (mut group, reply) in groups.into_iter().zip(replies) {
            match decode(&reply, &group.hits).unwrap() {
                Reply::Answers(told) => {
                    let expected = self.model.ask(&group, self.now);
                    let Group { call, id, keys, hits, .. } = &group;
                    let named: Vec<_> = keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
                    assert_eq!(
                        told.to_vec(),
                        expected,
                        "seed {}: {call:?} {id:?} {named:?} {hits:?} at {:?}",
                        self.seed,
                        self.now
                    );
                }
                Reply::Window(instant) => {
                    assert!(!has_window(&group, instant), "seed {}: it has that of {instant:?}", self.seed);
                    self.windows += 1;
                    group.instants.push(instant);
                    again.push(group);
                }
                other => panic!("seed {}: {other:?}", self.seed),
            }
        }
        again
    }

    /// Every key holds what the model says, and until when it says.
    fn compare(&mut self, ids: &HashSet<Vec<u8>>) {
        let mut keys = 0;
        for (key, kept) in &self.model.keys {
            let mut ask = |name| redis::Cmd::new().arg(name).arg(key).query(&mut self.connection).unwrap();
            let found: redis::Value = ask("GET");
            let ends: redis::Value = ask("PEXPIRETIME");
            let bytes: Vec<u8> = redis::from_redis_value(found).unwrap();
            let name = String::from_utf8_lossy(key);
            assert_eq!(bytes, state::encode(&kept.state), "seed {}: {name} {:?}", self.seed, kept.state);
            let ends: u64 = redis::from_redis_value(ends).unwrap();
            assert_eq!(ends, kept.milliseconds(), "seed {}: {name} {:?}", self.seed, kept.expires);
            keys += 1;
        }
        for id in ids.iter().filter(|id| self.model.remembers(id)) {
            let left: i64 = redis::Cmd::new().arg("PTTL").arg(id).query(&mut self.connection).unwrap();
            let most = i64::try_from(REMEMBERED.as_micros() / 1_000).unwrap();
            assert!((1..=most).contains(&left), "seed {}: {left}", self.seed);
            keys += 1;
        }
        assert_eq!(keys, command::<usize>(&mut self.connection, &["DBSIZE"]), "seed {}", self.seed);
    }
}

fn has_window(group: &Group<'_>, wanted: Time) -> bool {
    let calendars = group.hits.iter().filter_map(|hit| calendar(hit.limit));
    calendars.clone().count() > 0
        && calendars.into_iter().all(|calendar| {
            group.instants.iter().any(|instant| {
                let (start, end) = calendar.window(*instant);
                start <= wanted && (wanted < end || end == Time::MAX)
            })
        })
}

fn calendar(limit: &Limit) -> Option<&Calendar> {
    let Limit::FixedWindow(limit) = limit else { return None };
    let Window::Calendar(calendar) = limit.window() else { return None };
    Some(calendar)
}

/// A limit that some of its requests exceed. Names of keys begin with the number of their algorithm.
fn tight(random: &Random, calendars: &[Calendar]) -> (String, Limit) {
    let algorithm = random.below(5);
    let limit = loop {
        let limit = random.limit(algorithm, calendars);
        if limit.capacity() < 60 {
            break limit;
        }
    };
    // seldom a key that another algorithm has too
    let key = if random.percent(20) { "any".to_owned() } else { format!("{algorithm}:{}", random.below(2)) };
    (key, limit)
}

fn group<'l>(random: &Random, limits: &'l [(String, Limit)], now: Time) -> Group<'l> {
    let mut group = Group::of(&[]);
    let few = 1 + random.below(3);
    for _ in 0..few {
        let (key, limit) = random.pick(limits);
        let mut hit = asked(limit, random.ask(limit));
        (hit.shadow, hit.alternative) = (random.percent(15), random.percent(30));
        group.keys.push(key.as_bytes().to_vec());
        group.hits.push(hit);
        group.instants.extend(instants(limit, now));
    }
    group.call = *random.pick(&[CHARGE, CHARGE_ALL]);
    group
}

/// The groups of one batch: new ones, those of earlier batches again, and their cancellations.
fn batch<'l>(world: &World, limits: &'l [(String, Limit)], asked: &mut Vec<Group<'l>>) -> Vec<Group<'l>> {
    let random = &world.random;
    let mut groups = Vec::new();
    for number in 0..=random.below(8) {
        let mut one = group(random, limits, world.now);
        if random.percent(30) {
            one = one.with_id(&format!("id:{}:{number}", asked.len()));
            asked.push(one.clone());
        }
        if random.percent(30) && !asked.is_empty() {
            one = random.pick(asked).clone();
            one.instants =
                one.hits.iter().flat_map(|hit: &Asked<'_>| instants(hit.limit, world.now)).collect();
            one.call = if random.percent(60) { Call::Cancel } else { one.call };
        }
        groups.push(one);
    }
    groups
}

#[test]
fn any_batch_is_what_the_model_says() {
    let server = Server::start();
    let calendars = calendars();
    let first = setting("TOLLGATE_LUA_SEED", 1);
    let worlds = (setting("TOLLGATE_LUA_STEPS", 120_000) / 2_000).max(1);
    let (mut windows, mut ids_seen) = (0, 0);
    for seed in first..first + worlds {
        let mut world = World::new(server.connect(), seed);
        let limits: Vec<(String, Limit)> = (0..12).map(|_| tight(&world.random, &calendars)).collect();
        let (mut asked, mut ids) = (Vec::new(), HashSet::new());
        for _ in 0..BATCHES {
            let groups = batch(&world, &limits, &mut asked);
            ids.extend(groups.iter().filter_map(|group| group.id.clone()));
            world.ask(groups);
            world.compare(&ids);
            let (_, limit) = world.random.pick(&limits);
            let later = world.random.later(world.now, limit);
            let year = Span::from_secs(366 * 86_400);
            // not for ever forwards, or all time is over after a few steps
            world.now = later.min(world.now + year).max(Time::from_micros(BEGIN));
        }
        windows += world.windows;
        ids_seen += ids.len();
    }
    assert!(windows > 0 && ids_seen > 100, "{windows} {ids_seen}");
}
