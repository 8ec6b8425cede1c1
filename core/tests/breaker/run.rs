//! Runs vectors on our breaker.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_core::breaker::{
    Breaker, Config, EvaluateOn, Forget, HalfOpen, Manual, Mode, OnMaxWait, Outcome, Permit, Rate, Ratio,
    Reason, Slow, Verdict, Wait, WindowKind,
};
use tollgate_core::time::{Span, Time};

use crate::script::{Vector, call, fraction, micros, number};

pub(crate) const START: Time = Time::from_micros(1_795_000_000_000_000);

fn span(text: &str) -> Span {
    Span::from_micros(micros(text))
}

fn ratio(text: &str) -> Ratio {
    let (num, den) = fraction(text);
    Ratio::new(num, den).unwrap()
}

fn mode(text: &str) -> Mode {
    let modes = [
        Mode::Closed,
        Mode::Open,
        Mode::HalfOpen,
        Mode::Recovering,
        Mode::ForcedOpen,
        Mode::Disabled,
        Mode::MetricsOnly,
    ];
    modes.into_iter().find(|mode| format!("{mode:?}") == text).unwrap()
}

fn window(words: &BTreeMap<String, String>) -> WindowKind {
    match (words.get("time"), words.get("count")) {
        (Some(time), _) => {
            let (length, buckets) = time.split_once('/').unwrap();
            WindowKind::Time { length: span(length), buckets: number(buckets) }
        }
        (None, size) => WindowKind::Count { size: size.map_or(100, |size| number(size)) },
    }
}

/// The settings of a vector; see the README for what it leaves out.
pub(crate) fn config(words: &BTreeMap<String, String>) -> Config {
    let known = "rate failures slow consecutive time count min probes need max_wait on_max_wait ttl early wait mult \
                 cap forget on initial overdue durations automatic";
    let known: BTreeSet<&str> = known.split_whitespace().collect();
    assert!(words.keys().all(|key| known.contains(key.as_str())), "unknown setting in {words:?}");
    let get = |key: &str| words.get(key).map(String::as_str);
    let is = |key, value| get(key) == Some(value);
    let permits = get("probes").map_or(1, number);
    let rates = get("rate").is_some() || get("slow").is_some();
    let needed = get("need").map(number).or((!rates).then_some(permits));
    let base = get("wait").map_or(Span::from_secs(60), span);
    Config {
        failure_rate: get("rate").map(ratio),
        failures: get("failures").map(number),
        slow: get("slow").map(|slow| {
            let (duration, rate) = slow.split_once('@').unwrap();
            Slow { duration: span(duration), rate: ratio(rate) }
        }),
        consecutive: get("consecutive").map(number),
        window: window(words),
        minimum_calls: get("min").map_or(1, number),
        half_open: HalfOpen {
            permits,
            verdict: needed.map_or(Verdict::Rates { minimum: None }, |needed| Verdict::Successes { needed }),
            max_wait: get("max_wait").map(span),
            on_max_wait: if is("on_max_wait", "closed") { OnMaxWait::Closed } else { OnMaxWait::Open },
            permit_ttl: get("ttl").map_or(Span::from_secs(3_600), span),
            early_verdict: is("early", "yes"),
        },
        wait: Wait {
            base,
            multiplier: get("mult").map_or(1_000, number),
            jitter: Ratio::percent(0).unwrap(),
            cap: get("cap").map_or(Span::from_secs(3_600), span),
            forget: if is("forget", "close") { Forget::OnClose } else { Forget::PerWindow },
        },
        overdue: is("overdue", "yes"),
        durations: is("durations", "yes"),
        evaluate_on: if is("on", "failure") { EvaluateOn::Failure } else { EvaluateOn::Every },
        automatic_half_open: is("automatic", "yes"),
        initial: get("initial").map_or(Mode::Closed, mode),
        ..Config::default()
    }
}

fn by_hand() -> Manual {
    Manual { reason: "test".into(), actor: "test".into(), ttl: None }
}

struct Run {
    breaker: Breaker,
    now: Time,
    held: BTreeMap<String, Permit>,
}

impl Run {
    fn record(&self, permit: Permit, text: &str) {
        let (letter, hint, took) = call(text);
        let hint = hint.map(Span::from_micros);
        let outcome = match (letter, hint) {
            ("S", None) => Outcome::Success,
            ("F", None) => Outcome::Failure,
            ("F", Some(retry_after)) => Outcome::Unavailable { retry_after },
            ("I", None) => Outcome::Ignored,
            ("T", retry_after) => Outcome::Throttled { retry_after },
            _ => panic!("{text} is no call"),
        };
        self.breaker.record_after(permit, self.now, outcome, Span::from_micros(took));
    }

    fn act(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["call", calls @ ..] => self.calls(calls)?,
            ["repeat", times, calls @ ..] => {
                for _ in 0..number::<u32>(times) {
                    self.calls(calls)?;
                }
            }
            ["at", time] => self.now = START + span(time),
            ["admit", names @ ..] => {
                for name in names {
                    let permit = self.breaker.admit(self.now).map_err(|refused| format!("{refused:?}"))?;
                    self.held.insert((*name).to_owned(), permit);
                }
            }
            ["end", name, outcome] => {
                let permit = self.held.remove(*name).unwrap();
                self.record(permit, outcome);
            }
            ["refused", expected @ ..] => self.refused(expected)?,
            ["order", order, rest @ ..] => self.order(order, rest == ["fails"])?,
            ["open_for", time] => {
                let done = self.breaker.open_for(self.now, span(time), Reason::Manual(by_hand()));
                expect(true, done)?;
            }
            ["drain"] => while self.breaker.take_transition().is_some() {},
            [advance] if advance.starts_with('+') => self.now = self.now + span(&advance[1..]),
            _ => return self.look(words),
        }
        Ok(())
    }

    fn calls(&self, calls: &[&str]) -> Result<(), String> {
        for text in calls {
            let permit = self.breaker.admit(self.now).map_err(|refused| format!("{refused:?}"))?;
            self.record(permit, text);
        }
        Ok(())
    }

    fn refused(&self, expected: &[&str]) -> Result<(), String> {
        let Err(refused) = self.breaker.admit(self.now) else { return Err("admitted".to_owned()) };
        match expected {
            [] => Ok(()),
            ["never"] => expect(None, refused.retry_after),
            [time] => expect(Some(span(time)), refused.retry_after),
            _ => panic!("{expected:?}"),
        }
    }

    fn order(&self, order: &str, fails: bool) -> Result<(), String> {
        let (breaker, now) = (&self.breaker, self.now);
        let result = match order {
            "force_open" => {
                breaker.force_open(now, by_hand());
                Ok(())
            }
            "disable" => {
                breaker.disable(now, by_hand());
                Ok(())
            }
            "metrics_only" => {
                breaker.metrics_only(now, by_hand());
                Ok(())
            }
            "close" => breaker.force_closed(now, by_hand()),
            "reset" => breaker.reset(now, by_hand()),
            "half_open" => breaker.force_half_open(now, by_hand()),
            _ => panic!("{order} is no order"),
        };
        expect(fails, result.is_err())
    }

    fn look(&self, words: &[&str]) -> Result<(), String> {
        let seen = self.breaker.snapshot(self.now);
        match words {
            ["mode", name] => expect(mode(name), self.breaker.mode(self.now)),
            ["failure", rate] => same_rate(rate, seen.failure_rate),
            ["slow", rate] => same_rate(rate, seen.slow_rate),
            ["calls", n] => expect(number(n), seen.counts.calls),
            ["failures", n] => expect(number(n), seen.counts.failures),
            ["refusals", n] => expect(number(n), seen.not_permitted),
            ["late", n] => expect(number(n), seen.late),
            ["attempts", n] => expect(number(n), seen.attempts),
            ["epoch", n] => expect(number(n), seen.epoch),
            ["permits", n] => expect(Some(number(n)), seen.permits_left),
            ["total", time] => expect(Some(span(time)), seen.total_duration),
            ["event", name, rest @ ..] => self.event(name, rest),
            ["events", "none"] => expect(None, self.breaker.take_transition()),
            _ => panic!("{words:?} is no step"),
        }
    }

    fn event(&self, name: &str, of: &[&str]) -> Result<(), String> {
        let transition = self.breaker.take_transition().ok_or("no event")?;
        let text = format!("{:?}", transition.reason);
        expect(name, text.split([' ', '(']).next().unwrap())?;
        let (part, calls) = match transition.reason {
            Reason::FailureRate { failures, calls }
            | Reason::Failures { failures, calls }
            | Reason::ProbesPassed { failures, calls, .. }
            | Reason::ProbesFailed { failures, calls, .. } => (failures, calls),
            Reason::SlowRate { slow, overdue, calls } => (slow + overdue, calls + overdue),
            Reason::Consecutive { failures } => (failures.into(), failures.into()),
            _ => (0, 0),
        };
        match of {
            [] => Ok(()),
            [text] => expect(fraction(text), (part.try_into().unwrap(), calls.try_into().unwrap())),
            _ => panic!("{of:?}"),
        }
    }
}

fn same_rate(text: &str, seen: Option<Rate>) -> Result<(), String> {
    if text == "none" {
        return expect(None, seen);
    }
    let (part, of) = fraction(text);
    expect(Some(Rate { part: part.into(), of: of.into() }), seen)
}

#[expect(clippy::needless_pass_by_value, reason = "what is expected is written in place")]
fn expect<T: PartialEq + std::fmt::Debug>(expected: T, seen: T) -> Result<(), String> {
    if expected == seen { Ok(()) } else { Err(format!("expected {expected:?}, saw {seen:?}")) }
}

/// What went wrong, if anything did.
pub(crate) fn run(vector: &Vector) -> Result<(), String> {
    let breaker = Breaker::new(config(&vector.config), 1, START).map_err(|error| error.to_string())?;
    let mut run = Run { breaker, now: START, held: BTreeMap::new() };
    for (line, words) in &vector.steps {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        run.act(&words).map_err(|error| format!("line {line} ({}): {error}", words.join(" ")))?;
    }
    Ok(())
}
