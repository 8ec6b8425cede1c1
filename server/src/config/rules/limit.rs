//! The `rate_limit` of a descriptor.

use tollgate_core::lease::{self, MIN_CAPACITY, MIN_TTL};
use tollgate_core::limit::{
    Calendar, FixedWindow, LeakyBucket, Limit, LimitError, Rate, Refused, SlidingLog, SlidingWindow,
    TokenBucket, Window,
};
use tollgate_core::rules::{Accuracy, Charge, Layout, OnFailure, Quota, RuleSpec, Unit};
use tollgate_core::time::Span;

use super::file::{File, Reading};
use super::keys::Place;
use super::map::Map;
use super::sense;
use crate::config::settings::duration;
use crate::config::yaml::Node;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Algorithm {
    FixedWindow,
    TokenBucket,
    LeakyBucket,
    SlidingWindow,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Precision {
    Counter,
    Log,
}

const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("fixed_window", Algorithm::FixedWindow),
    ("token_bucket", Algorithm::TokenBucket),
    ("leaky_bucket", Algorithm::LeakyBucket),
    ("sliding_window", Algorithm::SlidingWindow),
];
const PRECISIONS: [(&str, Precision); 2] = [("counter", Precision::Counter), ("log", Precision::Log)];
pub(super) const ON_FAILURE: [(&str, OnFailure); 4] = [
    ("error", OnFailure::Error),
    ("allow", OnFailure::Allow),
    ("deny", OnFailure::Deny),
    ("local", OnFailure::Local),
];
const ACCURACIES: [(&str, Accuracy); 3] =
    [("auto", Accuracy::Auto), ("strict", Accuracy::Strict), ("leased", Accuracy::Leased)];

/// Keys that only some algorithms have.
const ONLY_FOR: [(&str, &[Algorithm]); 6] = [
    ("burst", &[Algorithm::TokenBucket]),
    ("queue", &[Algorithm::LeakyBucket]),
    ("max_hold", &[Algorithm::LeakyBucket]),
    ("precision", &[Algorithm::SlidingWindow]),
    ("time_zone", &[Algorithm::FixedWindow]),
    ("anchored", &[Algorithm::FixedWindow]),
];
/// Keys that an unlimited rule cannot have.
const OF_LIMITS: [&str; 8] =
    ["algorithm", "unit_multiplier", "burst", "queue", "max_hold", "precision", "time_zone", "anchored"];

/// Reads `nodes`, each of which adds to those before it; `None` if one is wrong.
pub(super) fn rule(nodes: &[&Node], reading: &Reading, file: &mut File<'_>) -> Option<RuleSpec> {
    let before = file.error_count();
    let map = Map::read_all(nodes, Place::RateLimit, file)?;
    let name = map.text("name", file).unwrap_or_default().to_owned();
    let replaces = replaces(&map, &name, file);
    let on_failure = map.choice("on_failure", &ON_FAILURE, file).unwrap_or_default();
    let accuracy = map.choice("accuracy", &ACCURACIES, file).unwrap_or_default();
    let (limit, quota, max_hold) = if map.flag("unlimited", file) {
        check_unlimited(&map, file);
        (None, Quota::default(), Span::ZERO)
    } else {
        let terms = Terms::read(&map, accuracy, file);
        check_charge(&map, reading, file);
        check_layout(&map, file);
        let terms = terms?;
        let limit = terms.limit(&map, reading, file)?;
        check_leased(&limit, accuracy, &map, file);
        sense::limit(&map, &limit, (terms.quota, terms.max_hold), file);
        (Some(limit), terms.quota, terms.max_hold)
    };
    let rule = RuleSpec { limit, quota, name, replaces, on_failure, accuracy, max_hold };
    (file.error_count() == before).then_some(rule)
}

fn replaces(map: &Map<'_>, own: &str, file: &mut File<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for (place, item) in map.list("replaces", file).iter().enumerate() {
        file.within(format!("replaces[{place}]"), |file| {
            let Some(entry) = Map::read(item, Place::Replaces, file) else { return };
            let missing = "should not have an empty replaces entry";
            let Some(name) = entry.required("name", missing, file) else { return };
            let same = || "replaces should not contain name of same descriptor".to_owned();
            entry.error_unless(name != own, "name", same, file);
            names.push(name.to_owned());
        });
    }
    names
}

fn check_unlimited(map: &Map<'_>, file: &mut File<'_>) {
    let unit = map.text("unit", file).and_then(Unit::parse);
    let text = || "should not specify rate limit unit when unlimited".to_owned();
    map.error_unless(unit.is_none(), "unit", text, file);
    map.number("requests_per_unit", file);
    for key in OF_LIMITS.into_iter().filter(|key| map.has(key)) {
        map.error(key, format!("should not specify {key} when unlimited"), file);
    }
}

/// What the file says about a limit, each part right by itself.
struct Terms {
    algorithm: Algorithm,
    quota: Quota,
    burst: u64,
    queue: u64,
    max_hold: Span,
    precision: Precision,
}

impl Terms {
    fn read(map: &Map<'_>, accuracy: Accuracy, file: &mut File<'_>) -> Option<Terms> {
        let algorithm = map.choice("algorithm", &ALGORITHMS, file);
        let chosen = algorithm.unwrap_or(Algorithm::FixedWindow);
        if algorithm.is_some() || !map.has("algorithm") {
            check_algorithm(map, chosen, file);
        }
        let unit = unit(map, file);
        let multiplier = map.number("unit_multiplier", file).unwrap_or(1);
        let zero = || "unit_multiplier must not be 0".to_owned();
        map.error_unless(multiplier > 0, "unit_multiplier", zero, file);
        if !map.has("requests_per_unit") {
            let text = "requests_per_unit is missing and so 0: this refuses every request";
            map.warn("requests_per_unit", text.to_owned(), file);
        }
        let requests_per_unit = map.number("requests_per_unit", file).unwrap_or(0);
        let burst = map.number("burst", file).unwrap_or(requests_per_unit.max(1)).into();
        let queue = map.number("queue", file).unwrap_or(0).into();
        let max_hold = max_hold(map, file);
        let precision = map.choice("precision", &PRECISIONS, file).unwrap_or(Precision::Counter);
        let never_leased = chosen == Algorithm::LeakyBucket || precision == Precision::Log;
        let cannot = || "a leaky bucket or an exact log cannot be leased".to_owned();
        map.error_unless(accuracy != Accuracy::Leased || !never_leased, "accuracy", cannot, file);
        let quota = Quota { requests_per_unit, unit: unit?, multiplier: multiplier.max(1) };
        Some(Terms { algorithm: chosen, quota, burst, queue, max_hold, precision })
    }

    fn limit(&self, map: &Map<'_>, reading: &Reading, file: &mut File<'_>) -> Option<Limit> {
        let fixed = self.algorithm == Algorithm::FixedWindow;
        let window = self.window(map, file)?;
        let refused = if fixed && reading.charge == Charge::Each { Refused::Counts } else { Refused::Free };
        let counted = FixedWindow::new(self.quota.requests_per_unit.into(), window, refused);
        let built = counted.map(Limit::FixedWindow).and_then(|counted| match self.quota.requests_per_unit {
            _ if fixed => Ok(counted),
            // a limit of nothing refuses everything, whatever the algorithm; what else it says has to be right
            0 => self.other_algorithm().map(|_| counted),
            _ => self.other_algorithm(),
        });
        built.map_err(|error| limit_error(&error, map, file)).ok()
    }

    fn other_algorithm(&self) -> Result<Limit, LimitError> {
        let (requests, length) = (u64::from(self.quota.requests_per_unit), self.quota.span());
        let nothing = requests == 0;
        let rate = || if nothing { Rate::new(1, Span::from_secs(1)) } else { Rate::new(requests, length) };
        match (self.algorithm, self.precision) {
            (Algorithm::TokenBucket, _) => TokenBucket::new(rate()?, self.burst).map(Limit::TokenBucket),
            (Algorithm::LeakyBucket, _) => LeakyBucket::new(rate()?, self.queue).map(Limit::LeakyBucket),
            (_, Precision::Log) => SlidingLog::new(requests, length).map(Limit::SlidingLog),
            (_, Precision::Counter) => SlidingWindow::new(requests, length).map(Limit::SlidingWindow),
        }
    }

    fn window(&self, map: &Map<'_>, file: &mut File<'_>) -> Option<Window> {
        let zone = map.text("time_zone", file);
        let anchored = map.flag("anchored", file);
        match zone {
            Some(_) if anchored => {
                map.error("anchored", "a window is either anchored or in a time_zone".to_owned(), file);
                None
            }
            Some(zone) => {
                let unit = self.quota.unit.calendar()?;
                let calendar = Calendar::new(unit, self.quota.multiplier, zone);
                calendar.map(Window::Calendar).map_err(|error| limit_error(&error, map, file)).ok()
            }
            None if anchored => Some(Window::Anchored(self.quota.span())),
            None => Some(Window::Epoch(self.quota.span())),
        }
    }
}

fn check_algorithm(map: &Map<'_>, algorithm: Algorithm, file: &mut File<'_>) {
    let name = |wanted: Algorithm| {
        ALGORITHMS.iter().find(|(_, known)| *known == wanted).map_or("", |(name, _)| name)
    };
    for (key, algorithms) in ONLY_FOR {
        if map.has(key) && !algorithms.contains(&algorithm) {
            let names: Vec<&str> = algorithms.iter().map(|&algorithm| name(algorithm)).collect();
            let text = format!("{key} is for {} only, not for {}", names.join(", "), name(algorithm));
            map.error(key, text, file);
        }
    }
}

/// Whether the rule is sure to be no fixed window.
fn names_other_algorithm(map: &Map<'_>, file: &mut File<'_>) -> bool {
    let name = map.text("algorithm", file).unwrap_or_default();
    ALGORITHMS.iter().any(|(known, algorithm)| *known == name && *algorithm != Algorithm::FixedWindow)
}

/// Other algorithms than the fixed window never charge what they refuse.
fn check_charge(map: &Map<'_>, reading: &Reading, file: &mut File<'_>) {
    let fixed = !names_other_algorithm(map, file);
    let text = || {
        "charge: each is for fixed windows only: other algorithms never charge what they refuse".to_owned()
    };
    map.error_unless(fixed || !reading.explicit_each, "algorithm", text, file);
}

/// A limit may be of a kind that is leased and still too small, or too fast for what it holds.
fn check_leased(limit: &Limit, accuracy: Accuracy, map: &Map<'_>, file: &mut File<'_>) {
    if accuracy == Accuracy::Leased && lease::Terms::of(limit, accuracy).is_none() {
        let text = format!(
            "this limit is never leased: its capacity is below {MIN_CAPACITY}, or its rate brings more of it back \
             within {MIN_TTL} than leases may hold"
        );
        map.warn("accuracy", text, file);
    }
}

/// What the reference does not know it cannot count: it would go its own way on the shared counters.
fn check_layout(map: &Map<'_>, file: &mut File<'_>) {
    if file.layout == Layout::Tollgate {
        return;
    }
    let refused = [
        ("algorithm", names_other_algorithm(map, file), "has fixed windows only"),
        ("time_zone", map.has("time_zone"), "has no windows in a time zone"),
        ("anchored", map.flag("anchored", file), "has no anchored windows"),
        ("accuracy", map.text("accuracy", file) == Some("leased"), "has no leases"),
    ];
    for (key, is_refused, why) in refused {
        map.error_unless(!is_refused, key, || format!("store.redis.layout = \"reference\" {why}"), file);
    }
}

fn unit(map: &Map<'_>, file: &mut File<'_>) -> Option<Unit> {
    let text = map.required("unit", "invalid rate limit unit ''", file)?;
    let unit = Unit::parse(text);
    map.error_unless(unit.is_some(), "unit", || format!("invalid rate limit unit '{text}'"), file);
    unit
}

fn max_hold(map: &Map<'_>, file: &mut File<'_>) -> Span {
    let Some(text) = map.text("max_hold", file) else { return Span::ZERO };
    match duration::parse(text) {
        Some(time) => Span::from_micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        None => {
            map.error("max_hold", format!("max_hold '{text}' is no duration such as 15ms or 1s"), file);
            Span::ZERO
        }
    }
}

/// Reports `error` at the key that it is about.
fn limit_error(error: &LimitError, map: &Map<'_>, file: &mut File<'_>) {
    let key = match error {
        LimitError::Burst(_) => "burst",
        LimitError::Queue(_) => "queue",
        LimitError::Zone(_) => "time_zone",
        LimitError::Window(_) if map.has("unit_multiplier") => "unit_multiplier",
        LimitError::Window(_) => "unit",
        LimitError::Rate { .. } | LimitError::Limit(_) | LimitError::Log(_) => "requests_per_unit",
    };
    map.error(key, error.to_string(), file);
}
