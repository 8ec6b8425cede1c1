//! Stores of every kind over real Redis servers, and short ways to ask them.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses what it needs, and may panic"
)]

use std::sync::Arc;
use std::time::Duration;

use tollgate_core::limit::{
    Calendar, CalendarUnit, FixedWindow, LeakyBucket, Limit, Rate, Refused, SlidingLog, SlidingWindow,
    TokenBucket, Window,
};
use tollgate_core::rules::{
    Accuracy, Answer, Charge, Defaults, Descriptor, DescriptorSpec, DomainSpec, Layout, Matcher, OnFailure,
    Query, Quota, RuleSpec,
};
use tollgate_core::time::Span;
use tollgate_server::clock::{Clock as _, SystemClock};
use tollgate_server::fallback::Servers;
use tollgate_server::store::redis::{Access, Login, Options, Place, RedisStore, Target};
use tollgate_server::store::{Fault, Replies, Request, Store};

/// How to reach one server, with short times.
pub fn access(target: Target) -> Access {
    Access {
        target,
        login: Login::default(),
        database: 0,
        tls: None,
        connect_timeout: Duration::from_secs(1),
        call_timeout: Duration::from_millis(200),
    }
}

/// The server on a port of this machine.
pub fn single(port: u16) -> Target {
    Target::Single(place(port))
}

/// A cluster of which some ports are known.
pub fn cluster(ports: impl IntoIterator<Item = u16>) -> Target {
    Target::Cluster(ports.into_iter().map(place).collect())
}

pub fn place(port: u16) -> Place {
    Place::Tcp("127.0.0.1".to_owned(), port)
}

pub fn options(access: Access) -> Options {
    Options {
        access,
        prefix: "tg:".to_owned(),
        layout: Layout::Tollgate,
        wait_replicas: 0,
        lanes: 2,
        max_waiting: 10_000,
        expiration_jitter_secs: 0,
    }
}

pub fn redis_store(options: Options) -> Arc<RedisStore> {
    Arc::new(RedisStore::new(options, Arc::new(SystemClock), Servers::new(1)).unwrap())
}

/// A rule below one key, and how it is used.
#[derive(Clone)]
pub struct Rule {
    pub key: String,
    pub limit: Limit,
    pub shadow: bool,
    pub alternative: bool,
}

pub fn rule(key: &str, limit: Limit) -> Rule {
    Rule { key: key.to_owned(), limit, shadow: false, alternative: false }
}

/// Rules of one domain.
pub struct Domain {
    pub name: String,
    pub charge: Charge,
    pub partition: Option<String>,
    pub rules: Vec<Rule>,
}

impl Domain {
    pub fn new(name: &str, charge: Charge, rules: Vec<Rule>) -> Domain {
        Domain { name: name.to_owned(), charge, partition: None, rules }
    }

    pub fn matcher(&self) -> Matcher {
        self.matcher_with(Layout::Tollgate)
    }

    pub fn matcher_with(&self, layout: Layout) -> Matcher {
        let descriptors = self.rules.iter().map(|rule| DescriptorSpec {
            key: rule.key.clone(),
            shadow: rule.shadow,
            alternative: rule.alternative,
            rule: Some(RuleSpec {
                limit: Some(rule.limit.clone()),
                quota: Quota::default(),
                name: String::new(),
                replaces: Vec::new(),
                on_failure: OnFailure::Error,
                accuracy: Accuracy::Auto,
                max_hold: Span::MAX,
            }),
            ..DescriptorSpec::default()
        });
        let mut descriptors: Vec<DescriptorSpec> = descriptors.collect();
        if let Some(partition) = &self.partition {
            // every rule is also there below the partition
            let children = descriptors.clone();
            descriptors.push(DescriptorSpec {
                key: partition.clone(),
                descriptors: children,
                ..DescriptorSpec::default()
            });
        }
        let domain = DomainSpec {
            name: self.name.clone(),
            charge: self.charge,
            partition: self.partition.clone(),
            descriptors,
            ..DomainSpec::default()
        };
        Matcher::build(vec![domain], Defaults { layout, ..Defaults::default() }).unwrap()
    }
}

/// What is asked of one rule.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    pub key: &'a str,
    pub value: &'a str,
    pub units: u64,
    pub refund: bool,
}

pub fn take<'a>(key: &'a str, value: &'a str, units: u64) -> Ask<'a> {
    Ask { key, value, units, refund: false }
}

pub fn refund<'a>(key: &'a str, value: &'a str, units: u64) -> Ask<'a> {
    Ask { refund: true, ..take(key, value, units) }
}

/// One request to a store.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    pub store: &'a dyn Store,
    pub matcher: &'a Matcher,
    pub domain: &'a str,
    pub partition: Option<(&'a str, &'a str)>,
    pub patience: Span,
    pub id: Option<&'a [u8]>,
    pub generation: u64,
}

impl<'a> Asking<'a> {
    pub fn new(store: &'a dyn Store, matcher: &'a Matcher, domain: &'a str) -> Asking<'a> {
        Asking { store, matcher, domain, partition: None, patience: Span::MAX, id: None, generation: 1 }
    }

    /// Replies, faults included.
    pub async fn try_ask(self, asks: &[Ask<'_>]) -> Replies {
        let query = self.query(asks);
        let plan = self.matcher.plan(&query);
        assert_eq!(plan.hits().len(), asks.len(), "every ask meets a rule");
        let request = Request {
            patience: self.patience,
            id: self.id,
            generation: self.generation,
            ..Request::new(plan.charge(), plan.hits(), SystemClock.now())
        };
        self.store.charge(request).await
    }

    /// Makes the counters that `asks` are about as new.
    pub async fn forget(self, asks: &[Ask<'_>]) -> Result<(), Fault> {
        let query = self.query(asks);
        let plan = self.matcher.plan(&query);
        self.store.forget(plan.hits(), SystemClock.now()).await
    }

    fn query<'q>(&'q self, asks: &[Ask<'q>]) -> Query<'q> {
        let descriptors = asks.iter().map(|ask| Descriptor {
            entries: self.partition.into_iter().chain([(ask.key, ask.value)]).collect(),
            hits: Some(ask.units),
            refund: ask.refund,
            limit: None,
        });
        Query {
            domain: self.domain,
            hits: 1,
            descriptors: descriptors.collect(),
            patience: self.patience,
            ..Query::default()
        }
    }

    /// Answers; a fault is a failed test.
    pub async fn ask(self, asks: &[Ask<'_>]) -> Vec<Answer> {
        self.try_ask(asks).await.into_iter().map(|reply| reply.unwrap()).collect()
    }

    /// Whether each ask is admitted.
    pub async fn allowed(self, asks: &[Ask<'_>]) -> Vec<bool> {
        self.ask(asks).await.into_iter().map(|answer| answer.verdict.allowed).collect()
    }

    /// Whether one unit of one rule is admitted.
    pub async fn pass(self, key: &str, value: &str) -> bool {
        self.allowed(&[take(key, value, 1)]).await[0]
    }

    /// Units in use.
    pub async fn used(self, key: &str, value: &str) -> u64 {
        self.ask(&[take(key, value, 0)]).await[0].verdict.used
    }
}

pub fn fixed(limit: u64, length: Span) -> Limit {
    fixed_with(limit, length, Refused::Free)
}

pub fn fixed_with(limit: u64, length: Span, refused: Refused) -> Limit {
    Limit::FixedWindow(FixedWindow::new(limit, Window::Epoch(length), refused).unwrap())
}

pub fn calendar(limit: u64, unit: CalendarUnit, zone: &str) -> Limit {
    let window = Window::Calendar(Calendar::new(unit, 1, zone).unwrap());
    Limit::FixedWindow(FixedWindow::new(limit, window, Refused::Free).unwrap())
}

pub fn sliding(limit: u64, length: Span) -> Limit {
    Limit::SlidingWindow(SlidingWindow::new(limit, length).unwrap())
}

pub fn log(limit: u64, length: Span) -> Limit {
    Limit::SlidingLog(SlidingLog::new(limit, length).unwrap())
}

/// A bucket that one unit per `per` refills.
pub fn token(burst: u64, per: Span) -> Limit {
    Limit::TokenBucket(TokenBucket::new(Rate::new(1, per).unwrap(), burst).unwrap())
}

/// A queue that one unit leaves per `per`.
pub fn leaky(queue: u64, per: Span) -> Limit {
    Limit::LeakyBucket(LeakyBucket::new(Rate::new(1, per).unwrap(), queue).unwrap())
}

pub const HOUR: Span = Span::from_secs(3_600);
/// So long that no test sees its end, and aligned to nothing near.
pub const YEAR: Span = Span::from_secs(36_500 * 86_400);

/// One limit of each algorithm with this capacity, none of which ends during a test.
pub fn each_algorithm(capacity: u64) -> [(&'static str, Limit); 5] {
    [
        ("fixed", fixed(capacity, YEAR)),
        ("sliding", sliding(capacity, YEAR)),
        ("log", log(capacity, YEAR)),
        ("token", token(capacity, HOUR)),
        ("leaky", leaky(capacity - 1, HOUR)),
    ]
}
