//! One file: from its bytes to the descriptors of a domain.

use std::collections::HashMap;
use std::rc::Rc;

use tollgate_core::rules::{Charge, DescriptorSpec, DomainSpec, Metadata};

use super::Problem;
use super::keys::{self, Place, shown};
use super::limit;
use super::lint::{Named, Siblings};
use super::map::{self, Map};
use crate::config::yaml::{self, Node, Position, Value};

const CHARGES: [(&str, Charge); 3] =
    [("each", Charge::Each), ("admitted", Charge::Admitted), ("all_or_nothing", Charge::AllOrNothing)];

/// What is being read, and what is wrong with it so far.
pub(super) struct File<'f> {
    name: &'f str,
    domain: String,
    path: Vec<String>,
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// A file that has a domain.
pub(super) struct Parsed {
    pub(super) file: String,
    /// Where the domain's name stands.
    pub(super) at: Position,
    pub(super) spec: DomainSpec,
    /// `charge`, if the file has it.
    pub(super) charge: Option<(Charge, Position)>,
    pub(super) top_level: Vec<(String, Position)>,
    pub(super) named: Vec<Named>,
    pub(super) patterns: Vec<Siblings>,
}

/// What the domain says about all of its descriptors, and what is collected from them.
pub(super) struct Reading {
    pub(super) charge: Charge,
    pub(super) explicit_each: bool,
    named: Vec<Named>,
    patterns: Vec<Siblings>,
}

impl<'f> File<'f> {
    pub(super) fn new(name: &'f str) -> File<'f> {
        File { name, domain: String::new(), path: Vec::new(), errors: Vec::new(), warnings: Vec::new() }
    }

    fn problem(&self, at: Position, text: String) -> Problem {
        let path = self.path.join(".");
        let path =
            if self.domain.is_empty() || path.is_empty() { path } else { format!("{}: {path}", self.domain) };
        Problem { file: self.name.to_owned(), line: at.line, column: at.column, path, text }
    }

    pub(super) fn error(&mut self, at: Position, text: String) {
        let problem = self.problem(at, text);
        if !self.errors.contains(&problem) {
            self.errors.push(problem);
        }
    }

    pub(super) fn error_unless(&mut self, holds: bool, at: Position, text: impl FnOnce() -> String) {
        if !holds {
            self.error(at, text());
        }
    }

    pub(super) fn warn(&mut self, at: Position, text: String) {
        let problem = self.problem(at, text);
        self.warnings.push(problem);
    }

    /// A value of the wrong type.
    pub(super) fn unmarshal(&mut self, node: &Node, wanted: &str) {
        let text =
            format!("error loading config file: yaml: unmarshal errors: {wanted}, not {}", shown(node));
        self.error(node.at, text);
    }

    /// Runs `work` one step further down the path.
    pub(super) fn within<T>(&mut self, step: String, work: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let done = work(self);
        self.path.pop();
        done
    }

    pub(super) fn place(&self, at: Position) -> Problem {
        self.problem(at, String::new())
    }

    /// Reads the file; `None` if it has no domain.
    pub(super) fn parse(&mut self, bytes: &[u8]) -> Option<Parsed> {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let place = error.valid_up_to();
                self.error(
                    line_of(bytes, place),
                    format!("error loading config file: byte {place} is not UTF-8"),
                );
                return None;
            }
        };
        let root = match yaml::parse(text) {
            Ok(root) => root,
            Err(error) => {
                self.error(error.at, format!("error loading config file: {}", error.text));
                return None;
            }
        };
        let Some(root) = root.filter(|root| !is_null(root)) else {
            self.error(Position { line: 1, column: 1 }, "config file cannot have empty domain".to_owned());
            return None;
        };
        if !matches!(root.value, Value::Mapping(_)) {
            self.error(
                root.at,
                format!("error loading config file: the root has to be a mapping, not {}", shown(&root)),
            );
            return None;
        }
        keys::check(&root, self);
        self.root(&root)
    }

    fn root(&mut self, root: &Node) -> Option<Parsed> {
        let map = Map::read(root, Place::Root, self)?;
        let name = map.text("domain", self).unwrap_or_default().to_owned();
        self.error_unless(!name.is_empty(), map.at("domain"), || {
            "config file cannot have empty domain".to_owned()
        });
        self.domain.clone_from(&name);
        let charge = map.choice("charge", &CHARGES, self).map(|charge| (charge, map.at("charge")));
        let partition = map.text("partition", self).map(str::to_owned);
        let all_or_nothing = charge.is_some_and(|(charge, _)| charge == Charge::AllOrNothing);
        self.error_unless(partition.is_none() || all_or_nothing, map.at("partition"), || {
            "partition needs charge: all_or_nothing".to_owned()
        });
        let chosen = charge.map(|(charge, _)| charge);
        let mut reading = Reading {
            charge: chosen.unwrap_or_default(),
            explicit_each: chosen == Some(Charge::Each),
            named: Vec::new(),
            patterns: Vec::new(),
        };
        let items = map.list("descriptors", self);
        let (descriptors, top_level) = self.descriptors(items, &name, &mut reading);
        let spec = DomainSpec { name, charge: reading.charge, partition, descriptors };
        let (named, patterns) = (reading.named, reading.patterns);
        let file = self.name.to_owned();
        Some(Parsed { file, at: map.at("domain"), spec, charge, top_level, named, patterns })
    }

    /// The siblings below `trail`, and their composites.
    fn descriptors(
        &mut self,
        items: &[Rc<Node>],
        trail: &str,
        reading: &mut Reading,
    ) -> (Vec<DescriptorSpec>, Vec<(String, Position)>) {
        let (mut specs, mut known, mut composites) = (Vec::new(), HashMap::new(), Vec::new());
        let mut siblings = Siblings::default();
        for (place, item) in items.iter().enumerate() {
            self.within(format!("descriptors[{place}]"), |file| {
                let Some(map) = Map::read(item, Place::Descriptor, file) else { return };
                let key = map.text("key", file).unwrap_or_default().to_owned();
                let value = map.text("value", file).unwrap_or_default().to_owned();
                file.error_unless(!key.is_empty(), map.at("key"), || "descriptor has empty key".to_owned());
                let composite = if value.is_empty() { key.clone() } else { format!("{key}_{value}") };
                let trail = format!("{trail}.{composite}");
                file.error_unless(known.insert(composite.clone(), ()).is_none(), map.at, || {
                    format!("duplicate descriptor composite key '{trail}'")
                });
                siblings.add(&composite, file.place(map.at));
                composites.push((composite.clone(), map.at));
                specs.push(file.descriptor(
                    &map,
                    DescriptorSpec { key, value, ..Default::default() },
                    &trail,
                    reading,
                ));
            });
        }
        reading.patterns.push(siblings);
        (specs, composites)
    }

    fn descriptor(
        &mut self,
        map: &Map<'_>,
        mut spec: DescriptorSpec,
        trail: &str,
        reading: &mut Reading,
    ) -> DescriptorSpec {
        let composite =
            if spec.value.is_empty() { spec.key.clone() } else { format!("{}_{}", spec.key, spec.value) };
        spec.share_threshold = map.flag("share_threshold", self);
        self.error_unless(!spec.share_threshold || composite.contains('*'), map.at("share_threshold"), || {
            format!("share_threshold can only be used with wildcard values (containing '*'), but found key '{composite}'")
        });
        spec.shadow = map.flag("shadow_mode", self);
        spec.alternative = map.flag("quota_mode", self);
        spec.detailed_metric = map.flag("detailed_metric", self);
        spec.value_to_metric = map.flag("value_to_metric", self);
        spec.metadata = self.metadata(map);
        if let Some(node) = map.node("rate_limit") {
            let rule = self.within("rate_limit".to_owned(), |file| limit::rule(node, reading, file));
            if let Some(rule) = &rule {
                let replaces = rule.replaces.clone();
                reading.named.push(Named { name: rule.name.clone(), replaces, place: self.place(node.at) });
            }
            spec.rule = rule;
        } else {
            self.warn_without_limit(map);
        }
        let items = map.list("descriptors", self);
        spec.descriptors = self.descriptors(items, trail, reading).0;
        spec
    }

    fn warn_without_limit(&mut self, map: &Map<'_>) {
        for key in ["shadow_mode", "quota_mode", "detailed_metric", "metadata"] {
            if map.has(key) {
                self.warn(
                    map.at(key),
                    format!("'{key}' has no effect: this descriptor has no rate_limit of its own"),
                );
            }
        }
    }

    fn metadata(&mut self, map: &Map<'_>) -> Option<Metadata> {
        let node = map.node("metadata")?;
        if !matches!(node.value, Value::Mapping(_)) {
            self.unmarshal(node, "metadata has to be a mapping");
            return None;
        }
        map::metadata(node).map_err(|(at, why)| self.error(at, format!("error parsing metadata: {why}"))).ok()
    }
}

fn is_null(node: &Node) -> bool {
    use yaml::scalar::{Resolved, resolve};
    matches!(&node.value, Value::Scalar { text, plain: true } if resolve(text) == Resolved::Null)
}

fn line_of(bytes: &[u8], place: usize) -> Position {
    let before = &bytes[..place.min(bytes.len())];
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let begin = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    Position { line, column: place - begin + 1 }
}
