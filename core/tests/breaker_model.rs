//! The breaker does what a plain model of it does, for random settings and histories.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "breaker/model.rs"]
mod model;

use model::{Model, Ticket};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tollgate_core::breaker::{
    Breaker, Config, EvaluateOn, Forget, HalfOpen, Manual, Mode, OnMaxWait, Outcome, Permit, Ratio, Reason,
    Recovery, Slow, Verdict, Wait, WindowKind,
};
use tollgate_core::time::{Span, Time};

const START: Time = Time::from_micros(1_795_000_000_000_000);

#[derive(Clone, Debug)]
enum Step {
    Admit,
    /// Ends one of the calls in flight; it took so many milliseconds.
    End(prop::sample::Index, Outcome, u64),
    /// Admits a call and ends it.
    Call(Outcome, u64),
    /// Moves the clock by milliseconds.
    Advance(u64),
    Order(Mode, Option<Span>),
    Look,
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let hint = (0_u64..20).prop_map(Span::from_secs);
    prop_oneof![
        8 => Just(Outcome::Success),
        8 => Just(Outcome::Failure),
        1 => Just(Outcome::Ignored),
        1 => hint.clone().prop_map(|retry_after| Outcome::Unavailable { retry_after }),
        1 => option::of(hint).prop_map(|retry_after| Outcome::Throttled { retry_after }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let manual = prop::sample::select(vec![Mode::ForcedOpen, Mode::Disabled, Mode::MetricsOnly]);
    let took = prop_oneof![3 => Just(1_u64), 1 => 0_u64..200];
    let ttl = option::of((1_u64..20).prop_map(Span::from_secs));
    prop_oneof![
        8 => Just(Step::Admit),
        8 => (any::<prop::sample::Index>(), outcome(), took.clone()).prop_map(|(i, o, t)| Step::End(i, o, t)),
        24 => (outcome(), took).prop_map(|(o, t)| Step::Call(o, t)),
        8 => prop_oneof![0_u64..300, 0_u64..12_000, Just(315_360_000_000)].prop_map(Step::Advance),
        1 => (manual, ttl).prop_map(|(mode, ttl)| Step::Order(mode, ttl)),
        2 => Just(Step::Look),
    ]
}

fn ratio() -> impl Strategy<Value = Ratio> {
    prop::sample::select(vec![(1, 2), (2, 3), (1, 1), (1, 10)])
        .prop_map(|(num, den)| Ratio::new(num, den).unwrap())
}

fn window() -> impl Strategy<Value = WindowKind> {
    let time = (1_u64..5, prop::sample::select(vec![1_u32, 5, 10, 40]))
        .prop_map(|(secs, buckets)| WindowKind::Time { length: Span::from_secs(secs), buckets });
    prop_oneof![(1_u32..12).prop_map(|size| WindowKind::Count { size }), time]
}

fn half_open() -> impl Strategy<Value = HalfOpen> {
    let verdict = (any::<bool>(), option::of(1_u32..4), option::of(1_u32..6));
    (1_u32..5, verdict, option::of(1_u64..8), any::<(bool, bool)>(), 1_u64..6).prop_map(
        |(permits, (successes, needed, _), max_wait, (closes, early_verdict), ttl)| HalfOpen {
            permits,
            verdict: match (successes, needed) {
                (true, needed) => Verdict::Successes { needed: needed.unwrap_or(1).min(permits) },
                (false, minimum) => Verdict::Rates { minimum: minimum.map(|minimum| minimum.min(permits)) },
            },
            max_wait: max_wait.map(Span::from_secs),
            on_max_wait: if closes { OnMaxWait::Closed } else { OnMaxWait::Open },
            permit_ttl: Span::from_secs(ttl),
            early_verdict,
        },
    )
}

fn rules() -> impl Strategy<Value = Config> {
    let slow = (10_u64..100, ratio()).prop_map(|(ms, rate)| Slow { duration: Span::from_millis(ms), rate });
    let limits = (option::of(1_u32..6), option::of(2_u32..6), 1_u32..8);
    (ratio(), option::of(slow), limits, window()).prop_map(
        |(rate, slow, (failures, consecutive, minimum), window)| {
            let size = if let WindowKind::Count { size } = window { size } else { u32::MAX };
            Config {
                failure_rate: Some(rate),
                slow,
                failures,
                consecutive,
                window,
                minimum_calls: minimum.min(size),
                ..Config::default()
            }
        },
    )
}

fn config() -> impl Strategy<Value = Config> {
    let recover = (1_u32..99, 1_u32..100, 1_u64..4);
    let recover =
        recover.prop_map(|(start, step, secs)| Recovery { start, step, every: Span::from_secs(secs) });
    let initial = prop_oneof![4 => Just(Mode::Closed), 1 => Just(Mode::MetricsOnly)];
    let flags = any::<[bool; 3]>();
    (rules(), half_open(), option::of(recover), initial, (flags, 0_u64..4)).prop_map(
        |(rules, half_open, recover, initial, ([failure_only, automatic, on_close], base))| Config {
            half_open,
            recover,
            initial,
            wait: Wait {
                base: Span::from_secs(base),
                multiplier: 2_000,
                jitter: Ratio::percent(0).unwrap(),
                cap: Span::from_secs(30),
                forget: if on_close { Forget::OnClose } else { Forget::PerWindow },
            },
            evaluate_on: if failure_only { EvaluateOn::Failure } else { EvaluateOn::Every },
            automatic_half_open: automatic,
            ..rules
        },
    )
}

struct Pair {
    breaker: Breaker,
    model: Model,
    now: Time,
    held: Vec<(Permit, Ticket)>,
}

impl Pair {
    fn admit(&mut self) -> Result<Option<(Permit, Ticket)>, TestCaseError> {
        match (self.breaker.admit(self.now), self.model.admit(self.now)) {
            (Ok(permit), Ok(ticket)) => Ok(Some((permit, ticket))),
            (Err(refused), Err((mode, retry_after))) => {
                prop_assert_eq!((refused.mode, refused.retry_after), (mode, retry_after));
                Ok(None)
            }
            (ours, theirs) => {
                prop_assert!(false, "ours {:?}, model {:?}", ours, theirs.map(|_| ()));
                Ok(None)
            }
        }
    }

    fn end(&mut self, (permit, ticket): (Permit, Ticket), outcome: Outcome, millis: u64) {
        let took = Span::from_millis(millis);
        self.breaker.record_after(permit, self.now, outcome, took);
        self.model.record(ticket, self.now, outcome, took);
    }

    fn order(&mut self, mode: Mode, ttl: Option<Span>) {
        let manual = Manual { reason: "why".into(), actor: "who".into(), ttl };
        self.model.order(mode, self.now, Reason::Manual(manual.clone()), ttl);
        match mode {
            Mode::ForcedOpen => self.breaker.force_open(self.now, manual),
            Mode::Disabled => self.breaker.disable(self.now, manual),
            _ => self.breaker.metrics_only(self.now, manual),
        }
    }

    fn act(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Admit => {
                let admitted = self.admit()?;
                self.held.extend(admitted);
            }
            Step::End(index, outcome, millis) if !self.held.is_empty() => {
                let pair = self.held.swap_remove(index.index(self.held.len()));
                self.end(pair, *outcome, *millis);
            }
            Step::End(..) => {}
            Step::Call(outcome, millis) => {
                if let Some(pair) = self.admit()? {
                    self.end(pair, *outcome, *millis);
                }
            }
            Step::Advance(millis) => self.now = self.now + Span::from_millis(*millis),
            Step::Order(mode, ttl) => self.order(*mode, *ttl),
            Step::Look => {
                self.model.settle(self.now);
                prop_assert_eq!(self.breaker.mode(self.now), self.model.mode);
                self.same_measures()?;
            }
        }
        self.same_events()
    }

    fn same_measures(&self) -> Result<(), TestCaseError> {
        let (seen, model, now) = (self.breaker.snapshot(self.now), &self.model, self.now);
        prop_assert_eq!((seen.epoch, seen.since), (model.epoch, model.since));
        prop_assert_eq!((seen.late, seen.not_permitted), (model.late, model.refused));
        prop_assert_eq!(seen.attempts, model.remembered(now));
        if seen.mode != Mode::Closed {
            prop_assert_eq!(seen.remaining, model.until.map(|until| until - now));
        }
        if matches!(seen.mode, Mode::Closed | Mode::Recovering | Mode::MetricsOnly) {
            prop_assert_eq!((seen.counts, seen.consecutive), (model.counts(now), model.run));
            prop_assert_eq!((seen.failure_rate, seen.slow_rate), model.rates(now));
        } else if seen.mode == Mode::HalfOpen {
            prop_assert_eq!(seen.counts, model.counts(now));
        }
        Ok(())
    }

    fn same_events(&mut self) -> Result<(), TestCaseError> {
        while let Some(seen) = self.breaker.take_transition() {
            let expected = self.model.events.pop_front();
            prop_assert_eq!(Some((seen.at, seen.from, seen.to, seen.reason)), expected);
        }
        prop_assert_eq!(self.model.events.len(), 0);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn the_breaker_does_what_its_model_does(config in config(), steps in vec(step(), 1..150)) {
        let breaker = Breaker::new(config.clone(), 7, START).unwrap();
        let mut pair = Pair { breaker, model: Model::new(&config, START), now: START, held: Vec::new() };
        for step in &steps {
            pair.act(step)?;
        }
        pair.act(&Step::Look)?;
    }

    /// A clock that jumps anywhere breaks nothing: no panic, and a call is admitted or refused.
    #[test]
    fn any_clock_is_survived(
        config in config(),
        steps in vec((any::<u64>(), outcome(), any::<u64>(), any::<bool>()), 1..100),
    ) {
        let overdue = config.slow.is_some();
        let config = Config { overdue, durations: true, ..config };
        let breaker = Breaker::new(config, 7, Time::from_micros(steps[0].0 >> 12)).unwrap();
        let mut held = Vec::new();
        for (micros, outcome, took, keep) in steps {
            let now = Time::from_micros(micros);
            match (breaker.admit(now), keep) {
                (Ok(permit), true) => held.push(permit),
                (Ok(permit), false) => breaker.record_after(permit, now, outcome, Span::from_micros(took)),
                (Err(refused), _) => prop_assert_ne!(refused.mode, Mode::Closed),
            }
            if let Some(permit) = held.pop_if(|_| micros % 3 == 0) {
                breaker.record(permit, now, outcome);
            }
            let seen = breaker.snapshot(now);
            prop_assert!(seen.counts.failures <= seen.counts.calls && seen.counts.slow <= seen.counts.calls);
        }
    }
}
