//! Scripts, and calling them.

use redis::{Cmd, Connection, RedisResult, Script as Hashed};
use tollgate_core::limit::{Ask, Cost, Limit, MAX_COUNT, Rate, TokenBucket};
use tollgate_core::rules::Charge;
use tollgate_core::time::{Span, Time};
use tollgate_server::store::redis::reply::{Found, Reply, Told, decode};
use tollgate_server::store::redis::script::{Asked, Call, Script, encode};

pub(crate) const CHARGE: Call = Call::Charge { charge: Charge::Admitted };
pub(crate) const CHARGE_ALL: Call = Call::Charge { charge: Charge::AllOrNothing };
/// How long the tests have ids remembered.
pub(crate) const REMEMBERED: Span = Span::from_secs(300);

/// `text` with `new` in the only place that says `old`.
pub(crate) fn replaced(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "{old}");
    text.replace(old, new)
}

/// The script with a clock that is read from its last two arguments: seconds and microseconds.
pub(crate) fn told_the_time() -> String {
    let clock = "{table.remove(ARGV, #ARGV - 1), table.remove(ARGV)}";
    replaced(Script::new().text(), "redis.call(\"TIME\")", clock)
}

/// A text that Redis has loaded.
pub(crate) struct Loaded(String);

impl Loaded {
    pub(crate) fn new(connection: &mut Connection, text: &str) -> Loaded {
        let sha1 = Hashed::new(text).get_hash().to_owned();
        let loaded: String = Cmd::new().arg("SCRIPT").arg("LOAD").arg(text).query(connection).unwrap();
        assert_eq!(loaded, sha1);
        Loaded(sha1)
    }

    pub(crate) fn call<T: redis::FromRedisValue>(
        &self,
        connection: &mut Connection,
        keys: &[Vec<u8>],
        arguments: &[Vec<u8>],
    ) -> RedisResult<T> {
        let mut command = Cmd::new();
        command.arg("EVALSHA").arg(&self.0).arg(keys.len()).arg(keys).arg(arguments).query(connection)
    }
}

/// One group and what it is asked with.
#[derive(Clone)]
pub(crate) struct Group<'l> {
    pub(crate) call: Call,
    pub(crate) id: Option<Vec<u8>>,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) hits: Vec<Asked<'l>>,
    pub(crate) instants: Vec<Time>,
}

impl<'l> Group<'l> {
    /// A charge of hits, each on its own, without an id.
    pub(crate) fn of(hits: &[(&str, &'l Limit, Ask)]) -> Group<'l> {
        let asked = |(_, limit, ask): &(&str, &'l Limit, Ask)| asked(limit, *ask);
        Group {
            call: CHARGE,
            id: None,
            keys: hits.iter().map(|(key, _, _)| key.as_bytes().to_vec()).collect(),
            hits: hits.iter().map(asked).collect(),
            instants: Vec::new(),
        }
    }

    pub(crate) fn calling(self, call: Call) -> Group<'l> {
        Group { call, ..self }
    }

    pub(crate) fn with_id(self, id: &str) -> Group<'l> {
        Group { id: Some(id.as_bytes().to_vec()), ..self }
    }

    pub(crate) fn arguments(&self) -> Vec<u8> {
        encode(self.call, &self.hits, &self.instants, self.id.as_ref().map(|_| REMEMBERED))
    }

    pub(crate) fn all_keys(&self) -> impl Iterator<Item = Vec<u8>> {
        self.id.iter().chain(&self.keys).cloned()
    }
}

pub(crate) fn asked(limit: &Limit, ask: Ask) -> Asked<'_> {
    Asked { limit, ask: clamped(ask), shadow: false, alternative: false }
}

/// What the store asks: costs beyond what a state can hold are cut to that.
pub(crate) fn clamped(ask: Ask) -> Ask {
    let cost = match ask.cost {
        Cost::Take(units) => Cost::Take(units.min(MAX_COUNT)),
        Cost::Refund(units) => Cost::Refund(units.min(MAX_COUNT)),
    };
    Ask { cost, ..ask }
}

/// The real script.
pub(crate) struct Engine {
    pub(crate) connection: Connection,
    script: Loaded,
}

impl Engine {
    pub(crate) fn new(mut connection: Connection) -> Engine {
        let script = Loaded::new(&mut connection, Script::new().text());
        Engine { connection, script }
    }

    /// What the script says to one batch.
    pub(crate) fn batch(&mut self, groups: &[Group<'_>]) -> Vec<Reply> {
        let keys: Vec<Vec<u8>> = groups.iter().flat_map(Group::all_keys).collect();
        let arguments: Vec<Vec<u8>> = groups.iter().map(Group::arguments).collect();
        let replies = self.raw(&keys, &arguments);
        groups.iter().zip(replies).map(|(group, reply)| decode(&reply, &group.hits).unwrap()).collect()
    }

    /// The replies to arguments, without the time before them.
    pub(crate) fn raw(&mut self, keys: &[Vec<u8>], arguments: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let (_, replies) = split(self.script.call(&mut self.connection, keys, arguments).unwrap());
        assert_eq!(replies.len(), arguments.len());
        replies
    }

    /// The verdicts of one group. Panics if there are none.
    pub(crate) fn told(&mut self, group: &Group<'_>) -> Vec<Told> {
        answers(self.batch(std::slice::from_ref(group)).remove(0))
    }

    pub(crate) fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        super::server::command(&mut self.connection, words)
    }

    pub(crate) fn order(&mut self, words: &[&str]) {
        super::server::order(&mut self.connection, words);
    }

    pub(crate) fn bytes(&mut self, key: &str) -> Option<Vec<u8>> {
        self.ask(&["GET", key])
    }

    pub(crate) fn set(&mut self, key: &str, value: &[u8]) {
        let _: () = Cmd::new().arg("SET").arg(key).arg(value).query(&mut self.connection).unwrap();
    }

    /// Milliseconds that the key still lives; -1 is for ever, -2 is no key.
    pub(crate) fn ttl(&mut self, key: &str) -> i64 {
        self.ask(&["PTTL", key])
    }
}

/// The time by Redis' clock, and the replies to the groups.
pub(crate) fn split(mut answer: Vec<redis::Value>) -> (u64, Vec<Vec<u8>>) {
    let replies = answer.split_off(1);
    let time = redis::from_redis_value(answer.remove(0)).unwrap();
    (time, replies.into_iter().map(|reply| redis::from_redis_value(reply).unwrap()).collect())
}

pub(crate) fn answers(reply: Reply) -> Vec<Told> {
    match reply {
        Reply::Answers(told) => told.to_vec(),
        other => panic!("no verdicts: {other:?}"),
    }
}

/// Whether each hit was admitted, and what was used after it.
pub(crate) fn used(told: &[Told]) -> Vec<(bool, u64)> {
    told.iter().map(|told| (told.verdict.allowed, told.verdict.used)).collect()
}

pub(crate) fn found(told: &[Told]) -> Vec<Found> {
    told.iter().map(|told| told.found).collect()
}

/// A bucket that refills so slowly that no test sees it.
pub(crate) fn bucket(burst: u64) -> Limit {
    Limit::TokenBucket(TokenBucket::new(Rate::new(1, Span::from_secs(86_400)).unwrap(), burst).unwrap())
}
