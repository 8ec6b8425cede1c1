//! What loads, and may still not be meant: rules that can never win, and `replaces` that lead nowhere.

use std::collections::{HashMap, HashSet};

use super::Problem;
use super::file::Parsed;

/// A rule with its name and the names it replaces.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) replaces: Vec<String>,
    /// Its place; the text is still empty.
    pub(super) place: Problem,
}

/// The patterns of one level, in file order.
#[derive(Clone, Debug, Default)]
pub(super) struct Siblings(Vec<(String, Problem)>);

impl Siblings {
    pub(super) fn add(&mut self, composite: &str, place: Problem) {
        if composite.contains('*') {
            self.0.push((composite.to_owned(), place));
        }
    }
}

pub(super) fn warnings(domains: &[Parsed]) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for domain in domains {
        domain.patterns.iter().for_each(|siblings| shadowed(siblings, &mut warnings));
        replaces(&domain.named, &mut warnings);
    }
    warnings
}

/// A pattern that an earlier one makes unreachable. Only the last-star form is compared pairwise, and at most
/// a thousand siblings: a warning is worth no second of loading.
fn shadowed(siblings: &Siblings, warnings: &mut Vec<Problem>) {
    for (place, (pattern, at)) in siblings.0.iter().enumerate().take(1_000) {
        let earlier = siblings.0[..place].iter().find(|(earlier, _)| covers(earlier, pattern));
        if let Some((earlier, first)) = earlier {
            let text = format!(
                "'{pattern}' never matches: '{earlier}' in line {} stands before it and matches all that",
                first.line
            );
            warnings.push(Problem { text, ..at.clone() });
        }
    }
}

/// Whether `general` matches every text that `special` matches. Sound, not complete: it treats the stars of
/// `special` as a character that only a star matches.
fn covers(general: &str, special: &str) -> bool {
    let literals: Vec<&str> = general.split('*').collect();
    let [first, middle @ .., last] = literals.as_slice() else { return false };
    let Some(rest) = special.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    let mut rest = rest;
    for literal in middle.iter().filter(|literal| !literal.is_empty()) {
        let Some(at) = rest.find(literal) else { return false };
        rest = &rest[at + literal.len()..];
    }
    true
}

fn replaces(named: &[Named], warnings: &mut Vec<Problem>) {
    let names: HashSet<&str> = named.iter().map(|rule| rule.name.as_str()).collect();
    let mut edges: HashMap<&str, Vec<&str>> = HashMap::new();
    for rule in named.iter().filter(|rule| !rule.name.is_empty()) {
        edges.entry(&rule.name).or_default().extend(rule.replaces.iter().map(String::as_str));
    }
    for rule in named {
        for other in rule.replaces.iter().filter(|other| !names.contains(other.as_str())) {
            let text = format!("replaces '{other}', but no rule of the domain has that name");
            warnings.push(Problem { text, ..rule.place.clone() });
        }
        if !rule.name.is_empty() && reaches(&edges, &rule.name) {
            let name = &rule.name;
            let text = format!(
                "'{name}' replaces itself through others: when they match together, none of them limits"
            );
            warnings.push(Problem { text, ..rule.place.clone() });
        }
    }
}

/// Whether following `edges` from `start` comes back to it.
fn reaches(edges: &HashMap<&str, Vec<&str>>, start: &str) -> bool {
    let (mut seen, mut open) = (HashSet::new(), vec![start]);
    while let Some(name) = open.pop() {
        for next in edges.get(name).into_iter().flatten() {
            if *next == start {
                return true;
            }
            if seen.insert(*next) {
                open.push(next);
            }
        }
    }
    false
}
