//! The domains of all files, and what a further file adds to one.

use std::collections::{HashMap, HashSet};

use tollgate_core::rules::Charge;

use super::file::{File, Parsed, TopLevel};
use super::lint;

/// Every domain, in the order of the files.
#[derive(Default)]
pub(super) struct Domains {
    merge: bool,
    pub(super) parsed: Vec<Parsed>,
    known: HashMap<String, Known>,
}

/// A domain that a file has already.
struct Known {
    place: usize,
    /// Its top-level descriptors.
    composites: HashSet<String>,
}

impl Domains {
    pub(super) fn new(merge: bool) -> Domains {
        Domains { merge, ..Domains::default() }
    }

    pub(super) fn add(&mut self, parsed: Parsed, file: &mut File<'_>) {
        let name = parsed.spec.name.clone();
        if name.is_empty() {
            return;
        }
        match self.known.get_mut(&name) {
            None => {
                let composite = |descriptor: &TopLevel| descriptor.composite.clone();
                let composites = parsed.top_level.iter().map(composite).collect();
                self.known.insert(name, Known { place: self.parsed.len(), composites });
                self.parsed.push(parsed);
            }
            Some(_) if !self.merge => {
                file.error(parsed.at, format!("duplicate domain '{name}' in config file"));
            }
            Some(known) => {
                known.check(&parsed, file);
                merge(&mut self.parsed[known.place], parsed, file);
            }
        }
    }
}

impl Known {
    /// No descriptor of `more` may be in an earlier file too.
    fn check(&mut self, more: &Parsed, file: &mut File<'_>) {
        for TopLevel { composite, at, step } in &more.top_level {
            if self.composites.contains(composite) {
                let text = format!("duplicate descriptor composite key '{}.{composite}'", more.spec.name);
                file.within(step.clone(), |file| file.error(*at, text));
            }
        }
        self.composites.extend(more.top_level.iter().map(|descriptor| descriptor.composite.clone()));
    }
}

/// Adds the top-level descriptors of `more` to a domain of an earlier file.
fn merge(into: &mut Parsed, more: Parsed, file: &mut File<'_>) {
    file.within("charge".to_owned(), |file| check_charge(into, &more, file));
    if more.spec.partition != into.spec.partition {
        let text = format!("partition differs from the domain's other file {}", into.file);
        file.within("partition".to_owned(), |file| file.error(more.partition_at, text));
    }
    if let (Some(one), Some(two)) = (into.spec.on_overload, more.spec.on_overload)
        && one != two
    {
        let text = format!("on_overload differs from the domain's other file {}", into.file);
        file.within("on_overload".to_owned(), |file| file.error(more.on_overload_at, text));
    }
    into.charge = into.charge.or(more.charge);
    into.spec.on_overload = into.spec.on_overload.or(more.spec.on_overload);
    into.not_each = into.not_each.take().or(more.not_each);
    into.spec.descriptors.extend(more.spec.descriptors);
    into.named.extend(more.named);
    lint::join(&mut into.patterns, more.patterns);
}

fn check_charge(into: &Parsed, more: &Parsed, file: &mut File<'_>) {
    let other = &into.file;
    match (into.charge, more.charge) {
        (Some((one, _)), Some((two, at))) if one != two => {
            file.error(at, format!("charge differs from the domain's other file {other}"));
        }
        (None, Some((_, at))) if into.spec.charge != more.spec.charge => {
            file.error(at, format!("charge has to be in the domain's first file {other} too"));
        }
        (Some(_), None) if into.spec.charge != more.spec.charge => {
            file.error(more.at, format!("charge is missing here and set in the domain's other file {other}"));
        }
        _ => check_each(into, more, file),
    }
}

/// An explicit `each` of one file holds for the rules of the others.
fn check_each(into: &Parsed, more: &Parsed, file: &mut File<'_>) {
    for (one, other) in [(into, more), (more, into)] {
        let explicit = one.charge.is_some_and(|(charge, _)| charge == Charge::Each);
        if let Some(place) = other.not_each.as_ref().filter(|_| explicit && other.charge.is_none()) {
            let text = format!("charge: each of {} is for fixed windows only", one.file);
            file.error_elsewhere(place, text);
        }
    }
}
