//! Nanoseconds to plan a request, by number of rules and of descriptors. Medians of five interleaved runs.

use std::hint::black_box;
use std::time::Instant;

use tollgate_core::limit::{FixedWindow, Limit, Refused, Window};
use tollgate_core::rules::{
    Accuracy, Defaults, Descriptor, DescriptorSpec, DomainSpec, Matcher, OnFailure, Query, Quota, RuleSpec,
    Unit,
};
use tollgate_core::time::Span;

const RUNS: usize = 5;
const ROUNDS: u32 = 200_000;

fn rule() -> RuleSpec {
    let window = Window::Epoch(Span::from_secs(3600));
    RuleSpec {
        limit: FixedWindow::new(100, window, Refused::Counts).ok().map(Limit::FixedWindow),
        quota: Quota { requests_per_unit: 100, unit: Unit::Hour, multiplier: 1 },
        name: String::new(),
        replaces: Vec::new(),
        on_failure: OnFailure::Error,
        accuracy: Accuracy::Auto,
        max_hold: Span::ZERO,
    }
}

fn node(key: &str, value: String) -> DescriptorSpec {
    DescriptorSpec { key: key.into(), value, rule: Some(rule()), ..DescriptorSpec::default() }
}

/// `count` rules of each kind: exact values and wildcards with prefix and suffix.
fn matcher(count: usize) -> Matcher {
    let mut descriptors: Vec<_> = (0..count).map(|n| node("route", format!("/api/v1/resource{n}"))).collect();
    descriptors.extend((0..count).map(|n| node("path", format!("/files/{n}/*.png"))));
    descriptors.push(node("user", String::new()));
    let domain = DomainSpec { name: "shop".into(), descriptors, ..DomainSpec::default() };
    Matcher::build(vec![domain], Defaults::default()).unwrap_or_default()
}

fn query<'a>(entries: &[(&'a str, &'a str)]) -> Query<'a> {
    let descriptor = |entry: &(&'a str, &'a str)| Descriptor {
        entries: [*entry].into_iter().collect(),
        ..Descriptor::default()
    };
    Query { domain: "shop", descriptors: entries.iter().map(descriptor).collect(), ..Query::default() }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn nanos(matcher: &Matcher, query: &Query<'_>) -> f64 {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        black_box(black_box(matcher).plan(black_box(query)));
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
}

fn main() {
    let sizes = [5, 500, 5_000];
    let matchers = sizes.map(matcher);
    let exact = [("route", "/api/v1/resource3")];
    let pattern = [("path", "/files/4/a/b.png")];
    let key = [("user", "ann")];
    let four = [exact[0], pattern[0], key[0], ("user", "bob")];
    let cases: [(&str, &[_]); 4] =
        [("exact value", &exact), ("wildcard", &pattern), ("key alone", &key), ("four descriptors", &four)];
    println!("{:<18}{:>12}{:>12}{:>12}   ns per request, by rules of each kind", "", 5, 500, 5_000);
    for (name, entries) in cases {
        let query = query(entries);
        let mut runs = sizes.map(|_| Vec::new());
        for _ in 0..RUNS {
            for (matcher, runs) in matchers.iter().zip(&mut runs) {
                runs.push(nanos(matcher, &query));
            }
        }
        let medians = runs.map(|mut runs| {
            runs.sort_by(f64::total_cmp);
            runs[RUNS / 2]
        });
        println!("{name:<18}{:>12.0}{:>12.0}{:>12.0}", medians[0], medians[1], medians[2]);
    }
}
