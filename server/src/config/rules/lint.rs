//! What loads, and may still not be meant: rules that can never win, and `replaces` that lead nowhere.

use std::collections::HashMap;

use super::Problem;
use super::file::Parsed;

/// Pairs of patterns that are compared.
const MAX_COMPARISONS: usize = 500_000;

/// A rule with its name and the names it replaces.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) replaces: Vec<String>,
    /// Its place; the text is still empty.
    pub(super) place: Problem,
}

/// The patterns of one level, in file order, and its keys without a value.
#[derive(Clone, Debug, Default)]
pub(super) struct Siblings(Vec<(String, Problem)>, Vec<(String, Problem)>);

impl Siblings {
    pub(super) fn add(&mut self, composite: &str, place: Problem) {
        self.0.push((composite.to_owned(), place));
    }

    pub(super) fn add_key(&mut self, key: &str, place: Problem) {
        self.1.push((key.to_owned(), place));
    }
}

/// Adds the levels of a further file of a domain, of which the last one is the top level.
pub(super) fn join(into: &mut Vec<Siblings>, mut more: Vec<Siblings>) {
    let top = into.pop().unwrap_or_default();
    let more_top = more.pop().unwrap_or_default();
    into.append(&mut more);
    let both = |one: Vec<_>, two: Vec<_>| one.into_iter().chain(two).collect();
    into.push(Siblings(both(top.0, more_top.0), both(top.1, more_top.1)));
}

pub(super) fn warnings(domains: &[Parsed]) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut budget = MAX_COMPARISONS;
    for domain in domains {
        domain.patterns.iter().for_each(|siblings| shadowed(siblings, &mut budget, &mut warnings));
        domain.patterns.iter().for_each(|siblings| never_alone(siblings, &mut budget, &mut warnings));
        replaces(&domain.named, &mut warnings);
    }
    warnings
}

/// Patterns that an earlier one makes unreachable, as far as the budget goes: a warning is worth no second
/// of loading.
fn shadowed(siblings: &Siblings, budget: &mut usize, warnings: &mut Vec<Problem>) {
    for (place, (pattern, at)) in siblings.0.iter().enumerate() {
        if *budget < place {
            return;
        }
        *budget -= place;
        let earlier = siblings.0[..place].iter().find(|(earlier, _)| covers(earlier, pattern));
        if let Some((earlier, first)) = earlier {
            let file = if first.file == at.file { String::new() } else { format!(" of {}", first.file) };
            let text = format!(
                "'{pattern}' never matches: '{earlier}' in line {}{file} stands before it and matches all that",
                first.line
            );
            warnings.push(Problem { text, ..at.clone() });
        }
    }
}

/// Keys of which a pattern takes every value.
fn never_alone(siblings: &Siblings, budget: &mut usize, warnings: &mut Vec<Problem>) {
    for (key, at) in &siblings.1 {
        if *budget < siblings.0.len() {
            return;
        }
        *budget -= siblings.0.len();
        if let Some((pattern, first)) = siblings.0.iter().find(|(pattern, _)| takes_all(pattern, key)) {
            let file = if first.file == at.file { String::new() } else { format!(" of {}", first.file) };
            let text = format!(
                "'{key}' never matches: '{pattern}' in line {}{file} goes before it and matches every value",
                first.line
            );
            warnings.push(Problem { text, ..at.clone() });
        }
    }
}

/// Whether `pattern` matches `key_` followed by anything.
fn takes_all(pattern: &str, key: &str) -> bool {
    pattern
        .strip_suffix('*')
        .is_some_and(|before| format!("{key}_").starts_with(before) && !before.contains('*'))
}

/// Whether `general` matches every text that `special` matches. Sound, not complete: it treats the stars of
/// `special` as a character that only a star matches.
fn covers(general: &str, special: &str) -> bool {
    if general.split('*').next().is_none_or(|first| !special.starts_with(first)) {
        return false;
    }
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
    let graph = Graph::of(named);
    let in_cycle = graph.in_cycle();
    for rule in named {
        for other in rule.replaces.iter().filter(|other| !graph.names.contains_key(other.as_str())) {
            let text = format!("replaces '{other}', but no rule of the domain has that name");
            warnings.push(Problem { text, ..rule.place.clone() });
        }
        if graph.names.get(rule.name.as_str()).is_some_and(|&place| in_cycle[place]) {
            let name = &rule.name;
            let text = format!(
                "'{name}' replaces itself through others: when they match together, none of them limits"
            );
            warnings.push(Problem { text, ..rule.place.clone() });
        }
    }
}

/// Which name replaces which. Names may repeat; a rule without one cannot be replaced.
struct Graph<'n> {
    names: HashMap<&'n str, usize>,
    forward: Vec<Vec<usize>>,
    backward: Vec<Vec<usize>>,
}

impl<'n> Graph<'n> {
    fn of(named: &'n [Named]) -> Graph<'n> {
        let mut names = HashMap::new();
        for rule in named.iter().filter(|rule| !rule.name.is_empty()) {
            let next = names.len();
            names.entry(rule.name.as_str()).or_insert(next);
        }
        let mut graph =
            Graph { forward: vec![Vec::new(); names.len()], backward: vec![Vec::new(); names.len()], names };
        for rule in named {
            let Some(&from) = graph.names.get(rule.name.as_str()) else { continue };
            for &to in rule.replaces.iter().filter_map(|other| graph.names.get(other.as_str())) {
                graph.forward[from].push(to);
                graph.backward[to].push(from);
            }
        }
        graph
    }

    /// Which names lead back to themselves: those that share a strongly connected component (Kosaraju).
    fn in_cycle(&self) -> Vec<bool> {
        let mut finished = Vec::new();
        let mut seen = vec![false; self.forward.len()];
        for start in 0..self.forward.len() {
            walk(&self.forward, start, &mut seen, &mut finished);
        }
        let mut seen = vec![false; self.forward.len()];
        let mut in_cycle = vec![false; self.forward.len()];
        for &start in finished.iter().rev() {
            let mut component = Vec::new();
            walk(&self.backward, start, &mut seen, &mut component);
            let cycle = component.len() > 1;
            component.iter().filter(|_| cycle).for_each(|&place| in_cycle[place] = true);
        }
        in_cycle
    }
}

/// Appends what can be reached from `start` and was not `seen`, each after all that lies behind it.
fn walk(edges: &[Vec<usize>], start: usize, seen: &mut [bool], finished: &mut Vec<usize>) {
    if std::mem::replace(&mut seen[start], true) {
        return;
    }
    let mut open = vec![(start, 0)];
    while let Some((place, done)) = open.last_mut() {
        let Some(&next) = edges[*place].get(*done) else {
            finished.push(*place);
            open.pop();
            continue;
        };
        *done += 1;
        if !std::mem::replace(&mut seen[next], true) {
            open.push((next, 0));
        }
    }
}
