//! The past minutes: a point for each second, and what the store did not answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::store::times::Times;
use crate::telemetry::meter::Tally;
use crate::telemetry::metrics::{FallenBack, RuleUse, Totals};

/// Seconds that are remembered.
const SECONDS: usize = 300;
/// Lines of the log of fallbacks.
const LINES: usize = 100;
/// A line goes on if the same happens again within this many milliseconds.
const GOES_ON_MS: u64 = 3_000;
/// Rules are compared with what they had counted 5 to 10 seconds ago.
const RULES_EVERY: Duration = Duration::from_secs(5);
/// A shorter time says nothing of a rate.
const SHORTEST: Duration = Duration::from_millis(100);

/// Sums of one moment.
pub(super) struct Second {
    pub(super) at: Instant,
    pub(super) at_ms: u64,
    pub(super) totals: Totals,
    pub(super) fallen: Vec<FallenBack>,
    pub(super) times: Option<Times>,
}

/// A rule, by its domain and its path below that.
type Path = (Arc<str>, Arc<str>);
type Tallies = HashMap<Path, Tally, RandomState>;

/// A line of the log of fallbacks.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Line {
    fallen: FallenBack,
    from_ms: u64,
    until_ms: u64,
}

/// What happened of late.
pub(super) struct History {
    points: VecDeque<Value>,
    at: Instant,
    totals: Totals,
    times: Option<Times>,
    fallen: HashMap<(Path, &'static str, &'static str), u64, RandomState>,
    lines: VecDeque<Line>,
    /// What rules had counted: at the last mark, and at the one before.
    marks: [(Instant, Tallies); 2],
}

/// What rules have counted since, and for how long.
pub(super) struct Window {
    pub(super) before: Tallies,
    pub(super) seconds: f64,
}

impl History {
    /// Nothing has happened yet.
    pub(super) fn new(at: Instant) -> History {
        History {
            points: VecDeque::with_capacity(SECONDS),
            at,
            totals: Totals::default(),
            times: None,
            fallen: HashMap::default(),
            lines: VecDeque::new(),
            marks: [(at, Tallies::default()), (at, Tallies::default())],
        }
    }

    /// Notes what came since the last call.
    pub(super) fn note(&mut self, second: Second) {
        let passed = second.at - self.at;
        if passed < SHORTEST {
            return;
        }
        let fallen = self.note_fallen(second.at_ms, second.fallen);
        let before = self.times.clone().unwrap_or_default();
        let times = second.times.as_ref().map(|times| times.since(&before));
        let percentile = |percent| times.as_ref().and_then(|times| times.percentile(percent));
        let rate = |now: u64, before: u64| rate(now.wrapping_sub(before), passed.as_secs_f64());
        let (now, then) = (second.totals, self.totals);
        let errors = |totals: Totals| totals.store_errors.wrapping_add(totals.other_errors);
        // the order that the page and `tollgate top` know
        let point = json!([
            second.at_ms,
            rate(now.allowed, then.allowed),
            rate(now.refused, then.refused),
            rate(errors(now), errors(then)),
            rate(now.shadowed, then.shadowed),
            rate(fallen, 0),
            percentile(50),
            percentile(99),
            times.as_ref().map(|times| rate(times.count(), 0)),
        ]);
        if self.points.len() >= SECONDS {
            self.points.pop_front();
        }
        self.points.push_back(point);
        (self.at, self.totals, self.times) = (second.at, second.totals, second.times);
    }

    /// Writes the log. Returns how many answers were given in place of the store's.
    fn note_fallen(&mut self, at_ms: u64, all: Vec<FallenBack>) -> u64 {
        let mut sum = 0;
        for fallen in all {
            let key = ((fallen.domain.clone(), fallen.rule.clone()), fallen.cause, fallen.answer);
            let before = self.fallen.insert(key, fallen.times).unwrap_or_default();
            let times = fallen.times.saturating_sub(before);
            if times > 0 {
                sum += times;
                self.write(at_ms, FallenBack { times, ..fallen });
            }
        }
        sum
    }

    fn write(&mut self, at_ms: u64, fallen: FallenBack) {
        let same = |line: &&mut Line| {
            let FallenBack { domain, rule, cause, answer, .. } = &line.fallen;
            line.until_ms + GOES_ON_MS >= at_ms
                && (domain, rule, cause, answer)
                    == (&fallen.domain, &fallen.rule, &fallen.cause, &fallen.answer)
        };
        if let Some(line) = self.lines.iter_mut().find(same) {
            line.until_ms = at_ms;
            line.fallen.times += fallen.times;
            return;
        }
        if self.lines.len() >= LINES {
            self.lines.pop_back();
        }
        self.lines.push_front(Line { fallen, from_ms: at_ms, until_ms: at_ms });
    }

    /// Whether it is time for [`History::note_rules`].
    pub(super) fn wants_rules(&self, at: Instant) -> bool {
        at - self.marks[0].0 >= RULES_EVERY
    }

    /// Notes what rules have counted so far.
    pub(super) fn note_rules(&mut self, at: Instant, uses: Vec<RuleUse>) {
        let tallies = uses.into_iter().map(|used| ((used.domain, used.rule), used.tally)).collect();
        self.marks.swap(0, 1);
        self.marks[0] = (at, tallies);
    }

    /// What rules had counted 5 to 10 seconds before `at`.
    pub(super) fn window(&self, at: Instant) -> Window {
        let (since, before) = &self.marks[1];
        Window { before: before.clone(), seconds: (at - *since).max(SHORTEST).as_secs_f64() }
    }

    /// All points, the oldest first.
    pub(super) fn points(&self) -> Value {
        self.points.iter().cloned().collect()
    }

    /// The latest point.
    pub(super) fn latest(&self) -> Value {
        self.points.back().cloned().unwrap_or_default()
    }

    /// The log of fallbacks, the latest line first.
    pub(super) fn log(&self) -> Value {
        let line = |line: &Line| {
            let FallenBack { domain, rule, cause, answer, times } = &line.fallen;
            json!({
                "from_ms": line.from_ms,
                "until_ms": line.until_ms,
                "rule": format!("{domain}.{rule}"),
                "cause": cause,
                "answer": answer,
                "times": times,
            })
        };
        self.lines.iter().map(line).collect()
    }
}

/// Times a second, to a tenth.
pub(super) fn rate(times: u64, seconds: f64) -> f64 {
    (times as f64 / seconds * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(at: Instant, at_ms: u64, allowed: u64, fallen: Vec<FallenBack>) -> Second {
        Second { at, at_ms, totals: Totals { allowed, ..Totals::default() }, fallen, times: None }
    }

    fn fallen(rule: &str, times: u64) -> FallenBack {
        FallenBack { domain: "shop".into(), rule: rule.into(), cause: "timeout", answer: "deny", times }
    }

    #[test]
    fn a_point_is_what_came_in_its_second_and_old_ones_go() {
        let began = Instant::now();
        let mut history = History::new(began);
        for number in 1..=400_u32 {
            let at = began + Duration::from_secs(u64::from(number) * 2);
            history.note(second(at, number.into(), u64::from(number) * 5, Vec::new()));
        }
        let points = history.points();
        assert_eq!(points.as_array().map(Vec::len), Some(SECONDS));
        assert_eq!(history.latest(), json!([400, 2.5, 0.0, 0.0, 0.0, 0.0, null, null, null]));
    }

    #[test]
    fn what_goes_on_stays_one_line_of_the_log() {
        let began = Instant::now();
        let mut history = History::new(began);
        for (number, all) in [
            (1, vec![fallen("user", 3)]),
            (2, vec![fallen("user", 10), fallen("tenant", 1)]),
            (3, vec![fallen("user", 10), fallen("tenant", 1)]),
            (9, vec![fallen("user", 11), fallen("tenant", 1)]),
        ] {
            history.note(second(began + Duration::from_secs(number), number * 1_000, 0, all));
        }
        let log = history.log();
        let lines: Vec<_> = log.as_array().unwrap().iter().collect();
        let short = |line: &Value| json!([line["rule"], line["from_ms"], line["until_ms"], line["times"]]);
        let expected = [
            json!(["shop.user", 9_000, 9_000, 1]),
            json!(["shop.tenant", 2_000, 2_000, 1]),
            json!(["shop.user", 1_000, 2_000, 10]),
        ];
        assert_eq!(lines.into_iter().map(short).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_log_is_bounded() {
        let began = Instant::now();
        let mut history = History::new(began);
        let all = (0..500).map(|number| fallen(&format!("k{number}"), 1)).collect();
        history.note(second(began + Duration::from_secs(1), 1_000, 0, all));
        assert_eq!(history.log().as_array().map(Vec::len), Some(LINES));
        assert_eq!(history.latest()[5], json!(500.0));
    }

    #[test]
    fn rules_are_compared_with_a_few_seconds_ago() {
        let began = Instant::now();
        let mut history = History::new(began);
        let used = |allowed| RuleUse {
            domain: "shop".into(),
            rule: "user".into(),
            tally: Tally { allowed, ..Tally::default() },
        };
        let mut noted = 0;
        for number in 1..=21 {
            let at = began + Duration::from_secs(number);
            if history.wants_rules(at) {
                history.note_rules(at, vec![used(number)]);
                noted += 1;
            }
        }
        let window = history.window(began + Duration::from_secs(22));
        assert_eq!((noted, window.seconds), (4, 7.0));
        assert_eq!(window.before[&("shop".into(), "user".into())].allowed, 15);
    }
}
