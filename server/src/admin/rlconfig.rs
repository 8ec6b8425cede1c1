//! `/rlconfig`: the rules in force, as the reference prints them; what only we know stands at the end.

use std::fmt::Write as _;

use axum::extract::State;
use tollgate_core::limit::{Limit, Window};
use tollgate_core::rules::{Accuracy, OnFailure, Rule};

use super::Shared;
use super::date::rfc3339;
use crate::config::watch::ConfigSnapshot;

pub(super) async fn show(State(served): Shared) -> String {
    let mut text = problems(&served.admin.config.snapshot());
    if let Some(rules) = served.admin.engine.rules().as_ref() {
        let mut lines: Vec<String> = rules.matcher().rules().iter().map(line).collect();
        lines.sort_unstable();
        text.extend(lines);
    }
    text
}

/// What is wrong with files that could not be loaded, as comments; nothing if the last load was good.
fn problems(config: &ConfigSnapshot) -> String {
    if config.problems.is_empty() {
        return String::new();
    }
    let failed = rfc3339(config.last_attempt_unix_ms);
    let in_force = config.last_good_unix_ms.map_or_else(
        || "there are no rules".to_owned(),
        |good| format!("the rules of {} stay in force", rfc3339(good)),
    );
    let mut text = format!("# the load at {failed} failed: {in_force}\n");
    for line in config.problems.iter().flat_map(|problem| problem.lines()) {
        text.extend(["# ", line, "\n"]);
    }
    text
}

fn line(rule: &Rule) -> String {
    let (path, quota) = (on_one_line(&rule.path), rule.quota);
    let (unit, requests) = match rule.limit {
        Some(_) => (quota.unit.name(), quota.requests_per_unit),
        None => ("UNKNOWN", 0),
    };
    let (shadow, alternative) = (rule.shadow, rule.alternative);
    let mut line = format!(
        "{path}: unit={unit} requests_per_unit={requests}, shadow_mode: {shadow}, quota_mode: {alternative}"
    );
    for (name, value) in extras(rule) {
        // writing to a string does not fail
        let _ = write!(line, ", {name}: {value}");
    }
    line.push('\n');
    line
}

/// Options that the reference does not know, where they are not as with the reference.
fn extras(rule: &Rule) -> Vec<(&'static str, String)> {
    let mut extras = rule.limit.as_ref().map(|limit| algorithm(limit, rule)).unwrap_or_default();
    let mut add = |name, differs: bool, value: &dyn ToString| {
        if differs {
            extras.push((name, value.to_string()));
        }
    };
    add("unit_multiplier", rule.quota.multiplier > 1, &rule.quota.multiplier);
    add("max_hold", !rule.max_hold.is_zero(), &rule.max_hold);
    add("accuracy", rule.accuracy != Accuracy::Auto, &accuracy(rule.accuracy));
    add("on_failure", rule.on_failure != OnFailure::Error, &on_failure(rule.on_failure));
    extras.extend(rule.rollout.as_ref().map(|rollout| ("rollout", rollout.share().to_string())));
    extras
}

fn algorithm(limit: &Limit, rule: &Rule) -> Vec<(&'static str, String)> {
    match limit {
        Limit::FixedWindow(limit) => match limit.window() {
            Window::Epoch(_) => Vec::new(),
            Window::Anchored(_) => vec![("anchored", true.to_string())],
            Window::Calendar(calendar) => vec![("time_zone", calendar.zone().to_owned())],
        },
        // as the file has it: with what is set aside for leases
        Limit::TokenBucket(limit) => {
            named("token_bucket", Some(("burst", rule.capacity().unwrap_or(limit.burst()))))
        }
        Limit::LeakyBucket(limit) => named("leaky_bucket", Some(("queue", limit.queue()))),
        Limit::SlidingWindow(_) => named("sliding_window", None),
        Limit::SlidingLog(_) => {
            let mut extras = named("sliding_window", None);
            extras.push(("precision", "log".to_owned()));
            extras
        }
    }
}

fn named(algorithm: &str, size: Option<(&'static str, u64)>) -> Vec<(&'static str, String)> {
    let size = size.map(|(name, value)| (name, value.to_string()));
    [("algorithm", algorithm.to_owned())].into_iter().chain(size).collect()
}

const fn accuracy(accuracy: Accuracy) -> &'static str {
    match accuracy {
        Accuracy::Auto => "auto",
        Accuracy::Strict => "strict",
        Accuracy::Leased => "leased",
    }
}

const fn on_failure(on_failure: OnFailure) -> &'static str {
    match on_failure {
        OnFailure::Error => "error",
        OnFailure::Allow => "allow",
        OnFailure::Deny => "deny",
        OnFailure::Local => "local",
    }
}

/// A path may hold any text: a line break in it must not look like another rule.
fn on_one_line(path: &str) -> String {
    let mut line = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter.is_control() {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use tollgate_core::lease::divide;
    use tollgate_core::limit::{FixedWindow, LeakyBucket, Rate, Refused, SlidingWindow, TokenBucket};
    use tollgate_core::rules::{Metric, Quota, Unit};
    use tollgate_core::time::Span;

    use super::*;

    fn rule(limit: Option<Limit>) -> Rule {
        Rule {
            id: 0,
            path: "shop.tenant_a.route".into(),
            name: "named".into(),
            limit,
            lease: None,
            quota: Quota { requests_per_unit: 6, unit: Unit::Minute, multiplier: 1 },
            shadow: false,
            alternative: true,
            replaces: Box::default(),
            metadata: None,
            on_failure: OnFailure::Error,
            accuracy: Accuracy::Auto,
            max_hold: Span::ZERO,
            metric: Metric::default(),
            rollout: None,
        }
    }

    fn window(window: Window) -> Option<Limit> {
        Some(Limit::FixedWindow(FixedWindow::new(6, window, Refused::Counts).unwrap()))
    }

    fn rate() -> Rate {
        Rate::new(6, Span::from_secs(60)).unwrap()
    }

    /// What stands after the reference's part of the line.
    fn extra(rule: &Rule) -> String {
        let line = line(rule);
        line.trim_end().split_once("quota_mode: true").unwrap().1.to_owned()
    }

    #[test]
    fn a_plain_rule_reads_as_with_the_reference() {
        let expected =
            "shop.tenant_a.route: unit=MINUTE requests_per_unit=6, shadow_mode: false, quota_mode: true\n";
        assert_eq!(line(&rule(window(Window::Epoch(Span::from_secs(60))))), expected);
    }

    #[test]
    fn an_unlimited_rule_has_no_unit() {
        let line = line(&rule(None));
        assert!(line.contains(": unit=UNKNOWN requests_per_unit=0, shadow_mode: false"), "{line}");
    }

    #[test]
    fn options_of_ours_stand_at_the_end() {
        let bucket = Some(Limit::TokenBucket(TokenBucket::new(rate(), 500).unwrap()));
        let quota = Quota { multiplier: 5, ..rule(None).quota };
        let expected = ", algorithm: token_bucket, burst: 500, unit_multiplier: 5";
        assert_eq!(extra(&Rule { quota, ..rule(bucket) }), expected);

        let queue = Some(Limit::LeakyBucket(LeakyBucket::new(rate(), 20).unwrap()));
        let held = Rule { max_hold: Span::from_millis(15), ..rule(queue) };
        assert_eq!(
            extra(&held),
            format!(", algorithm: leaky_bucket, queue: 20, max_hold: {}", held.max_hold)
        );

        let sliding = Some(Limit::SlidingWindow(SlidingWindow::new(6, Span::from_secs(60)).unwrap()));
        let local = Rule { on_failure: OnFailure::Local, accuracy: Accuracy::Strict, ..rule(sliding) };
        assert_eq!(extra(&local), ", algorithm: sliding_window, accuracy: strict, on_failure: local");

        let anchored = rule(window(Window::Anchored(Span::from_secs(60))));
        assert_eq!(extra(&anchored), ", anchored: true");
    }

    #[test]
    fn a_leased_bucket_shows_the_burst_of_its_file() {
        let bucket = Limit::TokenBucket(TokenBucket::new(rate(), 5_000).unwrap());
        let (left, lease) = divide(bucket, Accuracy::Leased);
        assert_eq!(left.capacity(), 2_500);
        let leased = Rule { lease, accuracy: Accuracy::Leased, ..rule(Some(left)) };
        assert_eq!(extra(&leased), ", algorithm: token_bucket, burst: 5000, accuracy: leased");
    }

    #[test]
    fn a_path_with_a_line_break_stays_on_one_line() {
        let rule = Rule { path: "d.k_a\nb".into(), ..rule(None) };
        assert!(line(&rule).starts_with("d.k_a\\nb: unit="));
    }

    #[test]
    fn a_failed_load_is_told_in_comments_with_every_error() {
        let config = ConfigSnapshot {
            last_attempt_unix_ms: 86_400_000,
            last_good_unix_ms: Some(0),
            problems: vec!["a.yaml:1:2: first\n  more".into(), "second".into()],
            ..ConfigSnapshot::default()
        };
        let expected = "# the load at 1970-01-02T00:00:00Z failed: the rules of 1970-01-01T00:00:00Z stay in force\n\
                        # a.yaml:1:2: first\n#   more\n# second\n";
        assert_eq!(problems(&config), expected);
        assert_eq!(problems(&ConfigSnapshot::default()), "");
    }
}
