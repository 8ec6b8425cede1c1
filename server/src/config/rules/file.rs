//! One file: from its bytes to the descriptors of a domain.

use std::collections::HashSet;
use std::rc::Rc;

use tollgate_core::limit::Limit;
use tollgate_core::rules::{Charge, DescriptorSpec, DomainSpec, Layout, Metadata, RuleSpec};

use super::Problem;
use super::keys::{self, Place, shown};
use super::limit;
use super::lint::{Named, Siblings};
use super::map::Map;
use super::metadata;
use super::report::{MAX_PROBLEMS, Report};
use super::rollout::rollout;
use super::sense;
use crate::config::yaml::scalar::{Resolved, resolve};
use crate::config::yaml::{self, Node, Position, Value};

const CHARGES: [(&str, Charge); 3] =
    [("each", Charge::Each), ("admitted", Charge::Admitted), ("all_or_nothing", Charge::AllOrNothing)];

const NO_DOMAIN: &str = "config file cannot have empty domain";
/// What is being read, and what is wrong with it so far.
#[derive(Default)]
pub(super) struct File<'f> {
    name: &'f str,
    /// How counters are named, which rules have to fit.
    pub(super) layout: Layout,
    domain: String,
    path: Vec<String>,
    errors: Report,
    warnings: Report,
    /// What `tollgate check` says besides; no load does.
    advice: Report,
    /// The keys without a value on the way down.
    open: Vec<String>,
    /// Where the first pass found something wrong, of which the second need not speak again.
    broken: HashSet<Position>,
}

/// A descriptor as messages name it.
pub(super) struct TopLevel {
    pub(super) composite: String,
    pub(super) at: Position,
    /// Its step of the path.
    pub(super) step: String,
}

/// The siblings below one descriptor.
#[derive(Default)]
struct Level {
    /// `domain.key_value` of that descriptor.
    trail: String,
    specs: Vec<DescriptorSpec>,
    top_level: Vec<TopLevel>,
    /// Every composite so far.
    known: HashSet<String>,
    patterns: Siblings,
}

/// A file that has a domain.
pub(super) struct Parsed {
    pub(super) file: String,
    /// Where the domain's name stands.
    pub(super) at: Position,
    pub(super) spec: DomainSpec,
    /// `charge`, if the file has it.
    pub(super) charge: Option<(Charge, Position)>,
    /// Where `partition` stands, or else the domain's name.
    pub(super) partition_at: Position,
    /// Where `on_overload` stands, or else the root.
    pub(super) on_overload_at: Position,
    /// The first rule that never charges what it refuses; the text is still empty.
    pub(super) not_each: Option<Problem>,
    pub(super) top_level: Vec<TopLevel>,
    pub(super) named: Vec<Named>,
    /// The patterns of each level; those of the top level come last.
    pub(super) patterns: Vec<Siblings>,
}

/// What the domain says about all of its descriptors, and what is collected from them.
pub(super) struct Reading {
    pub(super) charge: Charge,
    pub(super) explicit_each: bool,
    named: Vec<Named>,
    patterns: Vec<Siblings>,
    not_each: Option<Problem>,
}

impl<'f> File<'f> {
    pub(super) fn new(name: &'f str, layout: Layout) -> File<'f> {
        File { name, layout, ..File::default() }
    }

    fn problem(&self, at: Position, text: String) -> Problem {
        let path = self.path.join(".");
        let path =
            if self.domain.is_empty() || path.is_empty() { path } else { format!("{}: {path}", self.domain) };
        Problem { file: self.name.to_owned(), line: at.line, column: at.column, path, text }
    }

    pub(super) fn error(&mut self, at: Position, text: String) {
        let mut errors = std::mem::take(&mut self.errors);
        errors.add(at, text, |text| self.problem(at, text));
        self.errors = errors;
    }

    /// An error of an earlier file that this one brings about.
    pub(super) fn error_elsewhere(&mut self, at: &Problem, text: String) {
        let position = Position { line: at.line, column: at.column };
        self.errors.add(position, text, |text| Problem { text, ..at.clone() });
    }

    /// An error that the first pass finds.
    pub(super) fn broken(&mut self, at: Position, text: String) {
        self.broken_list(at);
        self.error(at, text);
    }

    /// A list that holds such an error.
    pub(super) fn broken_list(&mut self, at: Position) {
        if self.broken.len() < MAX_PROBLEMS {
            self.broken.insert(at);
        }
    }

    /// How many errors there are.
    pub(super) fn error_count(&self) -> usize {
        self.errors.count()
    }

    /// What is wrong with the file, what may not be meant, and what to think about again.
    pub(super) fn finish(self) -> [Vec<Problem>; 3] {
        [(self.errors, "errors"), (self.warnings, "warnings"), (self.advice, "warnings")]
            .map(|(report, what)| report.finish(self.name, what))
    }

    pub(super) fn error_unless(&mut self, holds: bool, at: Position, text: impl FnOnce() -> String) {
        if !holds {
            self.error(at, text());
        }
    }

    pub(super) fn warn(&mut self, at: Position, text: String) {
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.add(at, text, |text| self.problem(at, text));
        self.warnings = warnings;
    }

    pub(super) fn advise(&mut self, at: Position, text: String) {
        let mut advice = std::mem::take(&mut self.advice);
        advice.add(at, text, |text| self.problem(at, text));
        self.advice = advice;
    }

    /// A value of the wrong type.
    pub(super) fn unmarshal(&mut self, node: &Node, wanted: &str) {
        if self.broken.contains(&node.at) {
            return;
        }
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
            self.error(Position { line: 1, column: 1 }, NO_DOMAIN.to_owned());
            return None;
        };
        if !matches!(root.value, Value::Mapping(_)) {
            self.error(
                root.at,
                format!("error loading config file: the root has to be a mapping, not {}", shown(&root)),
            );
            return None;
        }
        self.domain = domain_of(&root);
        keys::check(&root, self);
        self.root(&root)
    }

    fn root(&mut self, root: &Node) -> Option<Parsed> {
        let map = Map::read(root, Place::Root, self)?;
        let name = map.required("domain", NO_DOMAIN, self).unwrap_or_default().to_owned();
        self.domain.clone_from(&name);
        let charge = map.choice("charge", &CHARGES, self).map(|charge| (charge, map.at("charge")));
        let partition = map.text("partition", self).map(str::to_owned);
        let all_or_nothing = charge.is_some_and(|(charge, _)| charge == Charge::AllOrNothing);
        let needs = || "partition needs charge: all_or_nothing".to_owned();
        map.error_unless(partition.is_none() || all_or_nothing, "partition", needs, self);
        if all_or_nothing && partition.is_none() {
            let text = "charge: all_or_nothing without partition: on Redis Cluster the limits of a request lie on \
                        several nodes and cannot be charged in one step";
            self.warn(map.at("charge"), text.to_owned());
        }
        let chosen = charge.map(|(charge, _)| charge);
        let fits = self.layout == Layout::Tollgate || chosen.unwrap_or_default() == Charge::Each;
        let differs = || "store.redis.layout = \"reference\" has charge: each only".to_owned();
        map.error_unless(fits, "charge", differs, self);
        let on_overload = map.choice("on_overload", &limit::ON_FAILURE, self);
        let mut reading = Reading {
            charge: chosen.unwrap_or_default(),
            explicit_each: chosen == Some(Charge::Each),
            named: Vec::new(),
            patterns: Vec::new(),
            not_each: None,
        };
        let items = map.list("descriptors", self);
        let Level { specs: descriptors, top_level, .. } = self.descriptors(items, &name, &mut reading);
        let spec = DomainSpec { name, charge: reading.charge, partition, on_overload, descriptors };
        sense::partition(&spec, &map, self);
        let at = map.at("domain");
        Some(Parsed {
            file: self.name.to_owned(),
            at,
            spec,
            charge,
            on_overload_at: map.at("on_overload"),
            partition_at: if map.has("partition") { map.at("partition") } else { at },
            not_each: reading.not_each,
            top_level,
            named: reading.named,
            patterns: reading.patterns,
        })
    }

    /// The siblings below `trail`.
    fn descriptors(&mut self, items: &[Rc<Node>], trail: &str, reading: &mut Reading) -> Level {
        let mut level = Level { trail: trail.to_owned(), ..Level::default() };
        for (place, item) in items.iter().enumerate() {
            let step = format!("descriptors[{place}]");
            self.within(step.clone(), |file| file.sibling(item, step, &mut level, reading));
        }
        reading.patterns.push(std::mem::take(&mut level.patterns));
        level
    }

    fn sibling(&mut self, item: &Node, step: String, level: &mut Level, reading: &mut Reading) {
        let Some(map) = Map::read(item, Place::Descriptor, self) else { return };
        let composite = self.composite(&map, level);
        let trail = format!("{}.{composite}", level.trail);
        level.specs.push(self.descriptor(&map, &composite, &trail, reading));
        level.top_level.push(TopLevel { composite, at: map.at, step });
    }

    /// `key` or `key_value`, which no other sibling may have.
    fn composite(&mut self, map: &Map<'_>, level: &mut Level) -> String {
        let key = map.required("key", "descriptor has empty key", self);
        let value = map.text("value", self).filter(|value| !value.is_empty());
        let composite = match (key, value) {
            (None, _) => return String::new(),
            (Some(key), None) => key.to_owned(),
            (Some(key), Some(value)) => format!("{key}_{value}"),
        };
        let text = || format!("duplicate descriptor composite key '{}.{composite}'", level.trail);
        self.error_unless(!level.known.contains(&composite), map.at, text);
        level.known.insert(composite.clone());
        if composite.contains('*') {
            level.patterns.add(&composite, self.place(map.at));
        } else if value.is_none() {
            level.patterns.add_key(&composite, self.place(map.at));
        }
        composite
    }

    fn descriptor(
        &mut self,
        map: &Map<'_>,
        composite: &str,
        trail: &str,
        reading: &mut Reading,
    ) -> DescriptorSpec {
        let text = |name: &str, file: &mut Self| map.text(name, file).unwrap_or_default().to_owned();
        let mut spec =
            DescriptorSpec { key: text("key", self), value: text("value", self), ..Default::default() };
        spec.share_threshold = map.flag("share_threshold", self);
        let shared = || {
            format!(
                "share_threshold can only be used with wildcard values (containing '*'), but found key '{composite}'"
            )
        };
        map.error_unless(!spec.share_threshold || composite.contains('*'), "share_threshold", shared, self);
        spec.shadow = map.flag("shadow_mode", self);
        spec.alternative = map.flag("quota_mode", self);
        spec.detailed_metric = map.flag("detailed_metric", self);
        spec.value_to_metric = map.flag("value_to_metric", self);
        spec.metadata = self.metadata(map);
        spec.rollout = rollout(map, spec.share_threshold, self);
        let depth = self.open.len();
        self.open.extend(spec.value.is_empty().then(|| spec.key.clone()));
        let nodes = map.nodes("rate_limit");
        if let Some(node) = nodes.last() {
            let rule = self.within("rate_limit".to_owned(), |file| limit::rule(&nodes, reading, file));
            if let Some(rule) = &rule {
                reading.named.extend(self.named(rule, node.at));
            }
            if rule.as_ref().is_some_and(|rule| !matches!(rule.limit, None | Some(Limit::FixedWindow(_)))) {
                reading
                    .not_each
                    .get_or_insert_with(|| self.within("rate_limit".to_owned(), |file| file.place(node.at)));
            }
            if rule.as_ref().is_some_and(|rule| rule.limit.is_some()) {
                sense::cardinality(&self.open.clone(), map, self);
            }
            spec.rule = rule;
        } else {
            self.warn_without_limit(map);
        }
        let items = map.list("descriptors", self);
        spec.descriptors = self.descriptors(items, trail, reading).specs;
        self.open.truncate(depth);
        spec
    }

    fn warn_without_limit(&mut self, map: &Map<'_>) {
        for key in ["shadow_mode", "quota_mode", "detailed_metric", "metadata"] {
            if map.has(key) {
                let text = format!("'{key}' has no effect: this descriptor has no rate_limit of its own");
                map.warn(key, text, self);
            }
        }
    }

    fn metadata(&mut self, map: &Map<'_>) -> Option<Metadata> {
        let nodes = map.nodes("metadata");
        let node = nodes.last()?;
        self.within("metadata".to_owned(), |file| {
            if !matches!(node.value, Value::Mapping(_)) {
                file.unmarshal(node, "metadata has to be a mapping");
                return None;
            }
            let read = metadata::read_all(&nodes);
            read.map_err(|(at, why)| file.error(at, format!("error parsing metadata: {why}"))).ok()
        })
    }

    fn named(&self, rule: &RuleSpec, at: Position) -> Option<Named> {
        let linked = !rule.name.is_empty() || !rule.replaces.is_empty();
        linked.then(|| Named {
            name: rule.name.clone(),
            replaces: rule.replaces.clone(),
            place: self.place(at),
        })
    }
}

fn is_null(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar { text, plain: true } if resolve(text) == Resolved::Null)
}

/// The domain as far as messages need it before it is read.
fn domain_of(root: &Node) -> String {
    let Value::Mapping(pairs) = &root.value else { return String::new() };
    let is_domain = |key: &Node| matches!(&key.value, Value::Scalar { text, .. } if text == "domain");
    match pairs.iter().rfind(|(key, _)| is_domain(key)).map(|(_, value)| &value.value) {
        Some(Value::Scalar { text, plain }) if !plain || resolve(text) != Resolved::Null => text.clone(),
        _ => String::new(),
    }
}

fn line_of(bytes: &[u8], place: usize) -> Position {
    let before = &bytes[..place.min(bytes.len())];
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let begin = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    Position { line, column: place - begin + 1 }
}
