//! Random histories of one limit, stepped by `core` and by the modules of `lua/`.

use redis::{Connection, Value};
use tollgate_core::limit::{
    Ask, Calendar, LeakyBucket, Level, Limit, MAX_COUNT, Rate, State, Step, TokenBucket, Window,
};
use tollgate_core::time::{Span, Time};
use tollgate_server::store::redis::reply::{Found, Reply, decode};
use tollgate_server::store::redis::script::{Asked, Script, encode};
use tollgate_server::store::redis::state;

use super::asking::{CHARGE, Loaded, asked, replaced};
use super::random::{Random, calendars};
use super::server::Server;

/// Steps of one history.
const HISTORY: u64 = 50;
/// Histories in one call of the script.
const HISTORIES: u64 = 10;
/// Bytes of an answer before the new state: a status, a verdict, the end.
const HEAD: usize = 1 + 43 + 7;

/// One step: the question, and what the answer has to be.
struct Case {
    limit: Limit,
    now: Time,
    ask: Ask,
    /// What the step finds; the first of a history has to be told.
    before: Option<State>,
    first: bool,
    step: Step,
}

impl Case {
    /// The instants whose windows a calendar needs for the step and for the end of its state.
    fn instants(&self) -> Vec<Time> {
        let mut instants = vec![self.now];
        if let Some(State::FixedWindow(state)) = &self.before {
            instants.extend([self.now.max(state.start), state.end - Span::MICRO]);
        }
        if let Some(State::FixedWindow(state)) = &self.step.state {
            instants.push(state.start.max(state.end - Span::MICRO));
        }
        instants
    }

    fn argument(&self, leaves: bool, instants: &[Time]) -> Vec<u8> {
        let value = self.before.as_ref().filter(|_| self.first).map(state::encode).unwrap_or_default();
        let mut bytes = self.now.as_micros().to_be_bytes()[1..].to_vec();
        bytes.push(u8::from(self.first) + if leaves { 2 } else { 0 });
        bytes.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&value);
        bytes.extend_from_slice(&encode(CHARGE, &[self.asked()], instants, None));
        bytes
    }

    fn asked(&self) -> Asked<'_> {
        asked(&self.limit, self.ask)
    }

    fn calendar(&self) -> Option<&Calendar> {
        match &self.limit {
            Limit::FixedWindow(limit) => match limit.window() {
                Window::Calendar(calendar) => Some(calendar),
                _ => None,
            },
            _ => None,
        }
    }

    /// What the script has to say, with the bytes in place of the state.
    fn check(&self, answer: &[u8]) -> Result<(), String> {
        if answer.len() < HEAD {
            return Err(format!("no answer: {answer:?}"));
        }
        let Ok(Reply::Answers(told)) = decode(&answer[..HEAD - 7], &[self.asked()]) else {
            return Err(format!("no verdict: {answer:?}"));
        };
        let expires = answer[HEAD - 7..HEAD].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let left = &self.step.state;
        let wanted = left.as_ref().map(|state| self.limit.expires(state)).unwrap_or_default();
        let bytes = left.as_ref().map(state::encode).unwrap_or_default();
        let same = told[0].verdict == self.step.verdict && told[0].found == Found::Expected;
        if same && expires == wanted.as_micros() && answer[HEAD..] == bytes {
            return Ok(());
        }
        Err(format!("{:?}\nends at {expires}, not {wanted:?}\n{:?}", told[0], state::decode(&answer[HEAD..])))
    }

    /// With only some of the windows: the right answer, or a window that is missing.
    fn check_without(&self, answer: &[u8], instants: &[Time]) -> Result<(), String> {
        let Ok(Reply::Window(wanted)) = decode(answer, &[self.asked()]) else {
            return self.check(answer);
        };
        let holds = |instant: &&Time| {
            let (start, end) = self.calendar().unwrap().window(**instant);
            start <= wanted && (wanted < end || end == Time::MAX)
        };
        match instants.iter().find(holds) {
            None => Ok(()),
            Some(instant) => Err(format!("wants the window of {wanted:?}, and has that of {instant:?}")),
        }
    }
}

/// A history of its own seed.
fn history(seed: u64, calendars: &[Calendar]) -> Vec<Case> {
    let random = Random::new(seed);
    let algorithm = random.below(5);
    let mut limit = random.limit(algorithm, calendars);
    let mut now = random.instant();
    let mut before = random.percent(15).then(|| random.state(algorithm, now));
    let mut cases = Vec::new();
    for number in 0..HISTORY {
        if random.percent(6) {
            limit = random.limit(algorithm, calendars);
        }
        let ask = random.ask(&limit);
        let step = limit.step(before.as_ref(), now, ask);
        let after = step.state.clone();
        cases.push(Case { limit: limit.clone(), now, ask, before: before.clone(), first: number == 0, step });
        before = after.or(before);
        now = random.later(now, &limit);
    }
    cases
}

/// How often something happened that has to happen.
#[derive(Default)]
struct Seen {
    steps: u64,
    refused: u64,
    counted: u64,
    waits: u64,
    windows: u64,
    by_digits: u64,
    by_bits: u64,
}

/// Plays some histories in one call of the script.
fn play(stepper: &Loaded, connection: &mut Connection, seeds: std::ops::Range<u64>, seen: &mut Seen) {
    let calendars = calendars();
    let mut arguments = Vec::new();
    let mut checks: Vec<(u64, usize, bool)> = Vec::new();
    let histories: Vec<Vec<Case>> = seeds.clone().map(|seed| history(seed, &calendars)).collect();
    for (seed, cases) in seeds.clone().zip(&histories) {
        for (place, case) in cases.iter().enumerate() {
            if case.calendar().is_some() {
                arguments.push(case.argument(true, &[case.now]));
                checks.push((seed, place, true));
            }
            arguments.push(case.argument(false, &case.instants()));
            checks.push((seed, place, false));
        }
    }
    let mut answers: Vec<Value> = stepper.call(connection, &[], &arguments).unwrap();
    seen.by_bits += redis::from_redis_value::<u64>(answers.pop().unwrap()).unwrap();
    seen.by_digits += redis::from_redis_value::<u64>(answers.pop().unwrap()).unwrap();
    assert_eq!(answers.len(), checks.len());
    for (answer, (seed, place, without)) in answers.into_iter().zip(checks) {
        let answer: Vec<u8> = redis::from_redis_value(answer).unwrap();
        let case = &histories[usize::try_from(seed - seeds.start).unwrap()][place];
        let checked = if without { case.check_without(&answer, &[case.now]) } else { case.check(&answer) };
        if let Err(problem) = checked {
            let Case { limit, now, ask, before, step, .. } = case;
            panic!(
                "TOLLGATE_LUA_SEED={seed}, step {place}: {limit:?}\n{now:?} {ask:?}\nfound {before:?}\n\
                 core: {step:?}\nlua: {problem}"
            );
        }
        seen.steps += 1;
        seen.refused += u64::from(!case.step.verdict.allowed);
        seen.counted += u64::from(!case.step.verdict.allowed && case.step.state.is_some());
        seen.waits += u64::from(!case.step.verdict.wait.is_zero());
        seen.windows += u64::from(answer.first() == Some(&1));
    }
}

/// A number from the environment.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

fn stepper(connection: &mut Connection) -> Loaded {
    let text = replaced(Script::new().text(), "redis.call(\"TIME\")", "{0, 0}");
    let (before, main) = text.split_once("\nlocal replies").unwrap();
    let (_, after) = main.split_once("return replies\n").unwrap();
    Loaded::new(connection, &[before, "\n", include_str!("stepper.lua"), after].concat())
}

#[test]
fn any_history_is_the_same_in_both_engines() {
    let server = Server::start();
    let mut connection = server.connect();
    let stepper = stepper(&mut connection);
    let steps = setting("TOLLGATE_LUA_STEPS", 120_000);
    let mut seed = setting("TOLLGATE_LUA_SEED", 1);
    let mut seen = Seen::default();
    while seen.steps < steps {
        play(&stepper, &mut connection, seed..seed + HISTORIES, &mut seen);
        seed += HISTORIES;
    }
    let Seen { refused, counted, waits, windows, by_digits, by_bits, .. } = seen;
    if steps >= 100_000 {
        for often in [refused, counted, waits, windows, by_digits, by_bits] {
            assert!(often > 500, "{refused} {counted} {waits} {windows} {by_digits} {by_bits}");
        }
    }
}

/// One step of a bucket that holds `level`, and what it has to say.
fn bucket_case(random: &Random, limit: Limit, level: Level, now: Time) -> Case {
    let before = match &limit {
        Limit::LeakyBucket(_) => State::LeakyBucket(level),
        _ => State::TokenBucket(level),
    };
    let ask = random.ask(&limit);
    let step = limit.step(Some(&before), now, ask);
    Case { limit, now, ask, before: Some(before), first: true, step }
}

fn compare(cases: &[Case]) {
    let server = Server::start();
    let mut connection = server.connect();
    let stepper = stepper(&mut connection);
    let arguments: Vec<Vec<u8>> = cases.iter().map(|case| case.argument(false, &[])).collect();
    let answers: Vec<Value> = stepper.call(&mut connection, &[], &arguments).unwrap();
    for (case, answer) in cases.iter().zip(answers) {
        let answer: Vec<u8> = redis::from_redis_value(answer).unwrap();
        let told = case.check(&answer);
        told.unwrap_or_else(|problem| {
            panic!("{:?}\n{:?}\n{:?}\n{problem}", case.limit, case.before, case.step)
        });
    }
}

/// A bucket of either kind.
fn bucket(rate: Rate, capacity: u64, leaky: bool) -> Limit {
    if leaky {
        Limit::LeakyBucket(LeakyBucket::new(rate, capacity - 1).unwrap())
    } else {
        Limit::TokenBucket(TokenBucket::new(rate, capacity).unwrap())
    }
}

#[test]
fn a_wait_longer_than_all_time_is_for_ever() {
    // the edges at which a wait passes 2^53 - 1 lie too close together for chance
    let random = Random::new(7);
    let case = |number: u64| {
        let limit = random.limit(number % 2, &[]);
        let rate = match &limit {
            Limit::LeakyBucket(limit) => limit.rate(),
            Limit::TokenBucket(limit) => limit.rate(),
            other => panic!("no bucket: {other:?}"),
        };
        let most = u128::from(MAX_COUNT) * u128::from(rate.count()) / u128::from(rate.per());
        let used = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(random.below(4)).saturating_sub(2);
        let now = random.instant();
        let at = now + Span::from_micros(random.below(3));
        let level =
            Level { at, used: used.min(MAX_COUNT), credit: random.below(rate.per()), per: rate.per() };
        bucket_case(&random, limit, level, now)
    };
    compare(&(0..4_000).map(case).collect::<Vec<_>>());
}

#[test]
fn long_divisions_come_out_even() {
    // of products beyond 2^53 by numbers beyond 2^37, with the remainder that `credit` says, or one around it
    let random = Random::new(8);
    let case = |number: u64| {
        let per = (1 << 37) + random.upto(1 << 44);
        let rate = Rate::new((1 << 16) + random.below(1 << 20), Span::from_micros(per)).unwrap();
        let (per, capacity) = (rate.per(), 10_000_000);
        let credit = *random.pick(&[0, 1, per / 2, per - 1]);
        let level = Level { at: Time::from_micros(random.below(1_000)), used: capacity, credit, per };
        let now = level.at + Span::from_micros(per * (1 + random.below(4)) + random.below(3)) - Span::MICRO;
        bucket_case(&random, bucket(rate, capacity, number % 2 == 1), level, now)
    };
    compare(&(0..4_000).map(case).collect::<Vec<_>>());
}
