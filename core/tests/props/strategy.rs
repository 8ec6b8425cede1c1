//! Random limits, states and stories: sequences of requests with the times between them.

use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tollgate_core::limit::{
    Ask, Calendar, CalendarUnit, Cost, FixedState, FixedWindow, LeakyBucket, Level, Limit, LogState, Rate,
    Refused, Retry, SlidingLog, SlidingState, SlidingWindow, State, Step, TokenBucket, Verdict, Window,
};
use tollgate_core::time::{MAX_MICROS, Span, Time};

const YEAR: u64 = 366 * 86_400 * 1_000_000;

/// Any limit of any algorithm; a new one is added here and nowhere else.
pub(crate) fn limits() -> impl Strategy<Value = Limit> {
    prop_oneof![token_buckets(), leaky_buckets(), fixed_windows(), sliding_windows(), sliding_logs()]
}

/// Two to four limits of one algorithm: what a key may meet when its rule is edited.
pub(crate) fn edits() -> impl Strategy<Value = Vec<Limit>> {
    prop_oneof![
        vec(token_buckets(), 2..5),
        vec(leaky_buckets(), 2..5),
        vec(fixed_windows(), 2..5),
        vec(sliding_windows(), 2..5),
        vec(sliding_logs(), 2..5),
        vec(limits(), 2..5),
    ]
}

pub(crate) fn token_buckets() -> impl Strategy<Value = Limit> {
    let burst = prop_oneof![Just(1), 1..10_u64, 1..=10_000_000_u64, Just(10_000_000)];
    (rates(), burst).prop_map(|(rate, burst)| Limit::TokenBucket(TokenBucket::new(rate, burst).unwrap()))
}

pub(crate) fn leaky_buckets() -> impl Strategy<Value = Limit> {
    let queue = prop_oneof![Just(0), 0..10_u64, 0..10_000_000_u64];
    (rates(), queue).prop_map(|(rate, queue)| Limit::LeakyBucket(LeakyBucket::new(rate, queue).unwrap()))
}

pub(crate) fn fixed_windows() -> impl Strategy<Value = Limit> {
    let window = prop_oneof![
        lengths().prop_map(Window::Epoch),
        lengths().prop_map(Window::Anchored),
        select(&CALENDARS[..]).prop_map(Window::Calendar),
    ];
    (counts(), window, select(&[Refused::Counts, Refused::Free][..])).prop_map(|(limit, window, refused)| {
        Limit::FixedWindow(FixedWindow::new(limit, window, refused).unwrap())
    })
}

pub(crate) fn sliding_windows() -> impl Strategy<Value = Limit> {
    (counts(), lengths())
        .prop_map(|(limit, length)| Limit::SlidingWindow(SlidingWindow::new(limit, length).unwrap()))
}

pub(crate) fn sliding_logs() -> impl Strategy<Value = Limit> {
    (0..=SlidingLog::MAX_LIMIT, lengths())
        .prop_map(|(limit, length)| Limit::SlidingLog(SlidingLog::new(limit, length).unwrap()))
}

fn rates() -> impl Strategy<Value = Rate> {
    let per = prop_oneof![1..100_u64, Just(1_000_000), Just(3_600_000_000), 1..=YEAR, 1..=MAX_MICROS];
    let count = prop_oneof![1..10_u64, 1..=10_000_000_u64, 1..=MAX_MICROS];
    prop_oneof![
        1 => Just((1, YEAR)),
        1 => Just((10_000_000, 1_000_000)),
        8 => (count, per),
    ]
    .prop_map(|(count, per)| {
        Rate::new(count, Span::from_micros(per)).or_else(|_| Rate::new(1, Span::SECOND)).unwrap()
    })
}

fn counts() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..10_u64, 1..1_000_u64, Just(u64::from(u32::MAX))]
}

fn lengths() -> impl Strategy<Value = Span> {
    let longest = 36_525 * 86_400_000_000_u64;
    let micros = prop_oneof![Just(1), 1..100_u64, Just(1_000_000), Just(86_400_000_000), 1..=longest];
    micros.prop_map(Span::from_micros)
}

static CALENDARS: LazyLock<Vec<Calendar>> = LazyLock::new(|| {
    let mut calendars = Vec::new();
    for zone in ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "America/St_Johns"] {
        for unit in [CalendarUnit::Second, CalendarUnit::Hour, CalendarUnit::Day, CalendarUnit::Month] {
            calendars.push(Calendar::new(unit, 1, zone).unwrap());
        }
        calendars.push(Calendar::new(CalendarUnit::Week, 2, zone).unwrap());
        calendars.push(Calendar::new(CalendarUnit::Year, 3, zone).unwrap());
    }
    calendars
});

/// The epoch, today, the end of time and anything between.
pub(crate) fn times() -> impl Strategy<Value = Time> {
    let micros = prop_oneof![
        Just(0),
        1_700_000_000_000_000..2_000_000_000_000_000_u64,
        0..=MAX_MICROS,
        MAX_MICROS - 1_000..=MAX_MICROS,
    ];
    micros.prop_map(Time::from_micros)
}

/// A state with any numbers that fit into a double.
pub(crate) fn garbage() -> impl Strategy<Value = State> {
    let number = || prop_oneof![0..10_u64, 0..=MAX_MICROS, Just(MAX_MICROS)];
    let log = vec((times(), number()), 0..20);
    prop_oneof![
        (times(), number(), number(), number())
            .prop_map(|(at, used, credit, per)| State::TokenBucket(Level { at, used, credit, per })),
        (times(), number(), number(), number())
            .prop_map(|(at, used, credit, per)| State::LeakyBucket(Level { at, used, credit, per })),
        (times(), times(), number()).prop_map(|(start, end, count)| State::FixedWindow(FixedState {
            start,
            end,
            count
        })),
        (times(), number(), number(), number()).prop_map(|(start, length, previous, current)| {
            let length = Span::from_micros(length);
            State::SlidingWindow(SlidingState { start, length, previous, current })
        }),
        log.prop_map(|entries| State::SlidingLog(LogState::new(entries))),
    ]
}

/// How long after the one before a request comes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gap {
    /// At the same instant.
    None,
    /// This many microseconds later.
    Micros(u64),
    /// This part (of 256) of the time in which the limit gives out a unit or a window.
    Part(u64),
    /// This many microseconds after the instant that the last verdict named, less one.
    Told(u64),
    /// As much earlier as `Part` is later.
    Back(u64),
}

/// How much is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    /// So many units.
    Units(u64),
    /// This part (of 256) of the capacity.
    Share(u64),
    /// The remaining units of the last verdict and so many more.
    Remaining(u64),
    /// As `Share`, given back.
    Refund(u64),
}

/// One request of a story.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) gap: Gap,
    pub(crate) amount: Amount,
    /// In 256ths of the time in which a queue of the limit drains; 256 is boundless.
    pub(crate) patience: u64,
    /// Which of the limits decides, modulo their number.
    pub(crate) edit: usize,
}

fn gaps() -> impl Strategy<Value = Gap> {
    prop_oneof![
        4 => Just(Gap::None),
        2 => (1..20_u64).prop_map(Gap::Micros),
        1 => (0..=MAX_MICROS).prop_map(Gap::Micros),
        4 => (1..600_u64).prop_map(Gap::Part),
        4 => (0..3_u64).prop_map(Gap::Told),
        1 => (1..600_u64).prop_map(Gap::Back),
    ]
}

fn takes() -> impl Strategy<Value = Amount> {
    prop_oneof![
        6 => (0..4_u64).prop_map(Amount::Units),
        1 => Just(Amount::Units((1 << 63) - 1)),
        3 => (0..=256_u64).prop_map(Amount::Share),
        3 => (0..2_u64).prop_map(Amount::Remaining),
    ]
}

fn moves(amount: impl Strategy<Value = Amount>) -> impl Strategy<Value = Move> {
    let patience = prop_oneof![2 => Just(256_u64), 1 => 0..256_u64];
    (gaps(), amount, patience, 0..4_usize).prop_map(|(gap, amount, patience, edit)| Move {
        gap,
        amount,
        patience,
        edit,
    })
}

/// Requests that only take.
pub(crate) fn taking() -> impl Strategy<Value = Vec<Move>> {
    vec(moves(takes()), 1..60)
}

/// Requests that take and give back.
pub(crate) fn trading() -> impl Strategy<Value = Vec<Move>> {
    let refunds = prop_oneof![Just(Amount::Refund(u64::MAX)), (0..=256_u64).prop_map(Amount::Refund)];
    vec(moves(prop_oneof![5 => takes(), 1 => refunds]), 1..40)
}

/// One decision of a story, with the state before and after it.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) limit: Limit,
    pub(crate) before: Option<State>,
    pub(crate) now: Time,
    pub(crate) ask: Ask,
    pub(crate) verdict: Verdict,
    /// What the limit wrote.
    pub(crate) written: Option<State>,
    /// What is stored from now on.
    pub(crate) after: Option<State>,
}

/// Plays the requests from a fresh state on.
pub(crate) fn play(limits: &[Limit], start: Time, moves: &[Move]) -> Vec<Scene> {
    let mut now = start;
    let mut state: Option<State> = None;
    let mut last: Option<Verdict> = None;
    let mut scenes = Vec::new();
    for step in moves {
        let limit = &limits[step.edit % limits.len()];
        now = later(limit, now, step.gap, last.as_ref());
        let ask =
            Ask { cost: cost(limit, step.amount, last.as_ref()), patience: patience(limit, step.patience) };
        let before = state.clone();
        let Step { verdict, state: written } = limit.step(state.as_ref(), now, ask);
        state = written.clone().or(state);
        last = Some(verdict);
        scenes.push(Scene { limit: limit.clone(), before, now, ask, verdict, written, after: state.clone() });
    }
    scenes
}

fn later(limit: &Limit, now: Time, gap: Gap, last: Option<&Verdict>) -> Time {
    let part =
        |of_256: u64| Span::from_wide(u128::from(period(limit, now).as_micros()) * u128::from(of_256) / 256);
    match gap {
        Gap::None => now,
        Gap::Micros(micros) => now + Span::from_micros(micros),
        Gap::Part(of_256) => now + part(of_256),
        Gap::Back(of_256) => now - part(of_256),
        Gap::Told(more) => {
            let told = last.map_or(Span::ZERO, |verdict| match verdict.retry_after {
                Retry::After(wait) if !wait.is_zero() => wait,
                _ => verdict.reset_after,
            });
            now + (told + Span::from_micros(more) - Span::MICRO)
        }
    }
}

fn cost(limit: &Limit, amount: Amount, last: Option<&Verdict>) -> Cost {
    let share = |of_256: u64| limit.capacity() * of_256.min(256) / 256;
    match amount {
        Amount::Units(units) => Cost::Take(units),
        Amount::Share(of_256) => Cost::Take(share(of_256)),
        Amount::Remaining(more) => Cost::Take(last.map_or(1, |verdict| verdict.remaining + more)),
        Amount::Refund(u64::MAX) => Cost::Refund(u64::MAX),
        Amount::Refund(of_256) => Cost::Refund(share(of_256)),
    }
}

fn patience(limit: &Limit, of_256: u64) -> Span {
    match limit {
        Limit::LeakyBucket(bucket) if of_256 < 256 => {
            let (count, per) = (u128::from(bucket.rate().count()), u128::from(bucket.rate().per()));
            Span::from_wide(u128::from(bucket.queue()) * per * u128::from(of_256) / count / 256)
        }
        _ => Span::MAX,
    }
}

/// The time in which a limit gives out a unit or a window.
pub(crate) fn period(limit: &Limit, now: Time) -> Span {
    let unit = |rate: Rate| Span::from_micros(rate.per().div_ceil(rate.count()));
    match limit {
        Limit::TokenBucket(bucket) => unit(bucket.rate()),
        Limit::LeakyBucket(bucket) => unit(bucket.rate()),
        Limit::FixedWindow(fixed) => match fixed.window() {
            Window::Epoch(length) | Window::Anchored(length) => *length,
            Window::Calendar(calendar) => {
                let (start, end) = calendar.window(now);
                end - start
            }
        },
        Limit::SlidingWindow(sliding) => sliding.length(),
        Limit::SlidingLog(log) => log.length(),
    }
}
