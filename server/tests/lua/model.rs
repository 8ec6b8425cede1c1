//! What the script has to do with groups, written with the limits of `core`.

use std::collections::HashMap;

use tollgate_core::limit::{Ask, Cost, Limit, Rate, State, Verdict, Window};
use tollgate_core::time::Time;
use tollgate_server::store::redis::reply::{Found, Told};
use tollgate_server::store::redis::script::{Asked, Call};

use super::asking::{CHARGE_ALL, Group};

/// What a key holds, and when it may be forgotten.
pub(crate) struct Kept {
    pub(crate) state: State,
    pub(crate) expires: Time,
    /// When it was written.
    pub(crate) written: Time,
}

/// What a group was answered under its id.
enum Record {
    Charged(Vec<Told>, Time),
    Refused(Vec<Told>),
    Cancelled,
}

/// Redis, as far as the script needs it.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) keys: HashMap<Vec<u8>, Kept>,
    records: HashMap<Vec<u8>, Record>,
}

/// States that a group has changed and nobody else sees yet.
type Own = HashMap<Vec<u8>, (State, Limit)>;

impl Model {
    /// What the group is told.
    pub(crate) fn ask(&mut self, group: &Group<'_>, now: Time) -> Vec<Told> {
        if group.call == Call::Cancel { self.cancel(group, now) } else { self.charge(group, now) }
    }

    /// Whether the id is remembered.
    pub(crate) fn remembers(&self, id: &[u8]) -> bool {
        self.records.contains_key(id)
    }

    fn charge(&mut self, group: &Group<'_>, now: Time) -> Vec<Told> {
        match group.id.as_ref().and_then(|id| self.records.get(id)) {
            Some(Record::Charged(told, _) | Record::Refused(told)) => return told.clone(),
            Some(Record::Cancelled) => return self.looks(group, &Own::new(), now),
            None => {}
        }
        let mut own = Own::new();
        let mut told = self.steps(group, &mut own, now);
        let refused = group.call == CHARGE_ALL && refuses(&group.hits, &told);
        if refused {
            let looks = self.looks(group, &Own::new(), now);
            told = told
                .into_iter()
                .zip(looks)
                .map(|(told, look)| if told.verdict.allowed { look } else { told })
                .collect();
        } else {
            self.keep(own, now);
        }
        if let Some(id) = &group.id {
            let charged = || Record::Charged(told.clone(), now);
            let record = if refused { Record::Refused(told.clone()) } else { charged() };
            self.records.insert(id.clone(), record);
        }
        told
    }

    fn steps(&self, group: &Group<'_>, own: &mut Own, now: Time) -> Vec<Told> {
        let mut told = Vec::new();
        for (key, hit) in group.keys.iter().zip(&group.hits) {
            let (state, found) = self.sees(key, hit.limit, own);
            let step = hit.limit.step(state, now, hit.ask);
            told.push(Told { verdict: step.verdict, found });
            if let Some(after) = step.state {
                own.insert(key.clone(), (after, hit.limit.clone()));
            }
        }
        told
    }

    fn sees<'s>(&'s self, key: &[u8], limit: &Limit, own: &'s Own) -> (Option<&'s State>, Found) {
        let state =
            own.get(key).map(|(state, _)| state).or_else(|| self.keys.get(key).map(|kept| &kept.state));
        match state {
            Some(state) if algorithm(limit) != algorithm_of(state) => (None, Found::OtherAlgorithm),
            state => (state, Found::Expected),
        }
    }

    fn looks(&self, group: &Group<'_>, own: &Own, now: Time) -> Vec<Told> {
        let pairs = group.keys.iter().zip(&group.hits);
        pairs
            .map(|(key, hit)| Told { verdict: self.look(key, hit, own, now), found: Found::Expected })
            .collect()
    }

    fn look(&self, key: &[u8], hit: &Asked<'_>, own: &Own, now: Time) -> Verdict {
        let look = Ask { cost: Cost::Take(0), ..hit.ask };
        hit.limit.step(self.sees(key, hit.limit, own).0, now, look).verdict
    }

    fn cancel(&mut self, group: &Group<'_>, now: Time) -> Vec<Told> {
        let id = group.id.clone().unwrap();
        let (charged, at) = match self.records.get(&id) {
            Some(Record::Charged(told, at)) => (told.clone(), *at),
            _ => (Vec::new(), now),
        };
        let mut own = Own::new();
        for ((key, hit), told) in group.keys.iter().zip(&group.hits).zip(charged) {
            let Cost::Take(units @ 1..) = hit.ask.cost else { continue };
            let state = self.sees(key, hit.limit, &own).0;
            let back = Ask {
                cost: Cost::Refund(left(
                    hit.limit,
                    state,
                    &Charge { units, used: told.verdict.used, at },
                    now,
                )),
                ..hit.ask
            };
            let after = hit.limit.step(state, now, back).state;
            if let Some(after) = after.filter(|_| told.verdict.allowed) {
                own.insert(key.clone(), (after, hit.limit.clone()));
            }
        }
        let told = self.looks(group, &own, now);
        self.keep(own, now);
        self.records.insert(id, Record::Cancelled);
        told
    }

    fn keep(&mut self, own: Own, now: Time) {
        for (key, (state, limit)) in own {
            let expires = limit.expires(&state);
            self.keys.insert(key, Kept { state, expires, written: now });
        }
    }
}

impl Kept {
    /// The milliseconds at which Redis has to forget it: never before it may be forgotten, and later than now.
    pub(crate) fn milliseconds(&self) -> u64 {
        self.expires.as_micros().div_ceil(1_000).max(self.written.as_micros() / 1_000 + 1)
    }
}

/// A charge that may be taken back: `units`, after which `used` were in use, at the instant `at`.
struct Charge {
    units: u64,
    used: u64,
    at: Time,
}

/// What is left to be given back of a charge.
fn left(limit: &Limit, state: Option<&State>, charge: &Charge, now: Time) -> u64 {
    let Charge { units, used, at } = *charge;
    let drained = |rate: Rate| {
        let earned = u128::from((now - at).as_micros()) * u128::from(rate.count()) / u128::from(rate.per());
        units.min(used.saturating_sub(u64::try_from(earned).unwrap_or(u64::MAX)))
    };
    match (limit, state) {
        (_, None) => units,
        (Limit::TokenBucket(limit), _) => drained(limit.rate()),
        (Limit::LeakyBucket(limit), _) => drained(limit.rate()),
        (_, Some(State::FixedWindow(state))) if state.start > at => 0,
        (_, Some(State::SlidingWindow(state))) if state.start > at => 0,
        _ => units,
    }
}

fn refuses(hits: &[Asked<'_>], told: &[Told]) -> bool {
    let over = |hit: &Asked<'_>, told: &Told| !told.verdict.allowed && !hit.shadow;
    let mut pairs = hits.iter().zip(told);
    let certain = pairs.clone().any(|(hit, told)| !hit.alternative && over(hit, told));
    let any = hits.iter().any(|hit| hit.alternative);
    certain || any && pairs.all(|(hit, told)| !hit.alternative || over(hit, told))
}

fn algorithm(limit: &Limit) -> u8 {
    match limit {
        Limit::TokenBucket(_) => 0,
        Limit::LeakyBucket(_) => 1,
        Limit::FixedWindow(_) => 2,
        Limit::SlidingWindow(_) => 3,
        Limit::SlidingLog(_) => 4,
    }
}

fn algorithm_of(state: &State) -> u8 {
    match state {
        State::TokenBucket(_) => 0,
        State::LeakyBucket(_) => 1,
        State::FixedWindow(_) => 2,
        State::SlidingWindow(_) => 3,
        State::SlidingLog(_) => 4,
    }
}

/// The instants that a store knows to be needed: the time, and the end of its window.
pub(crate) fn instants(limit: &Limit, now: Time) -> Vec<Time> {
    match limit {
        Limit::FixedWindow(limit) => match limit.window() {
            Window::Calendar(calendar) => vec![now, calendar.window(now).1],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}
