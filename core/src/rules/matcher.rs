//! The compiled rules: an immutable tree that finds the limits of a request.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::explain::MatchedBy;
use super::key::{Key, KeyBuilder, Layout, Shared};
use super::plan::{Asked, Plan, Slot};
use super::query::{Descriptor, Override, Query};
use super::rollout::Rollout;
use super::spec::{Accuracy, Charge, DescriptorSpec, DomainSpec, OnFailure};
use super::wildcard::Wildcards;
use super::{Metric, MetricLevel, Rule};
use crate::limit::{FixedWindow, Limit, Refused, Window};
use crate::time::Span;

type Map<V> = HashMap<Box<str>, V, FixedState>;

/// All rules of all domains. Matching walks one hash map per level, whatever the number of rules.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    domains: Map<Domain>,
    rules: Vec<Rule>,
    defaults: Defaults,
}

/// What holds for every rule, whatever its file says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Defaults {
    /// Nothing is enforced (`SHADOW_MODE`).
    pub shadow: bool,
    /// Every descriptor is an alternative (`QUOTA_MODE`).
    pub alternative: bool,
    /// How counters are named.
    pub layout: Layout,
}

/// Why rules cannot be compiled.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BuildError {
    /// Two specs have one name.
    #[error("duplicate domain '{0}' in config file")]
    Domain(String),
    /// Two siblings match the same text.
    #[error("duplicate descriptor composite key '{0}'")]
    Descriptor(String),
}

#[derive(Clone, Debug)]
pub(super) struct Domain {
    together: Together,
    root: Level,
}

/// How the hits of one request are treated together.
#[derive(Clone, Debug)]
pub(super) struct Together {
    pub(super) charge: Charge,
    pub(super) on_overload: OnFailure,
    pub(super) partition: Option<Box<str>>,
}

impl Together {
    fn of(spec: &DomainSpec) -> Together {
        Together {
            charge: spec.charge,
            on_overload: spec.on_overload.unwrap_or(OnFailure::Local),
            partition: spec.partition.as_deref().map(Box::from),
        }
    }
}

impl Domain {
    pub(super) fn root(&self) -> &Level {
        &self.root
    }

    fn find(&self, key: KeyBuilder, descriptor: &Descriptor<'_>) -> Option<Found<'_>> {
        self.root.find(key, descriptor, self.together.partition.as_deref())
    }
}

/// The siblings below one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    by_composite: Map<usize>,
    wildcards: Wildcards,
    nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    /// `key` or `key_value`, as the file has it.
    pub(super) composite: Box<str>,
    pub(super) rule: Option<usize>,
    /// All values that match the pattern share one counter.
    shares: bool,
    pub(super) children: Level,
}

/// The sibling that fits one entry.
#[derive(Clone, Copy)]
pub(super) struct Child<'m> {
    pub(super) node: &'m Node,
    pub(super) by: MatchedBy,
}

impl<'m> Child<'m> {
    /// The pattern, if every value that matches it shares one counter.
    pub(super) fn shared(&self) -> Option<&'m str> {
        (self.by == MatchedBy::Pattern && self.node.shares).then_some(&*self.node.composite)
    }
}

/// A rule together with the counter that the request has under it.
struct Found<'m> {
    rule: usize,
    key: Key,
    shared: bool,
    /// The pattern that stands for the value of the partition's entry, if one does.
    partition: Option<&'m str>,
}

impl Matcher {
    /// Compiles `specs`.
    ///
    /// # Errors
    /// A domain or a sibling that is there twice. (A loader that knows places in files says it better.)
    pub fn build(specs: Vec<DomainSpec>, defaults: Defaults) -> Result<Matcher, BuildError> {
        let mut matcher = Matcher { defaults, ..Matcher::default() };
        for spec in specs {
            let mut trail = Trail { text: spec.name.clone(), levels: Vec::new() };
            let together = Together::of(&spec);
            let root = Level::build(spec.descriptors, &mut trail, &mut matcher.rules)?;
            let domain = Domain { together, root };
            if matcher.domains.insert(spec.name.as_str().into(), domain).is_some() {
                return Err(BuildError::Domain(spec.name));
            }
        }
        // the reference's servers count on the same keys and know no leases
        if defaults.layout == Layout::Tollgate {
            matcher.rules.iter_mut().for_each(Rule::divide);
        }
        Ok(matcher)
    }

    /// Every rule that has a limit or lifts it, by [`Rule::id`].
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Names of the domains, sorted.
    #[must_use]
    pub fn domains(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.domains.keys().map(|name| &**name).collect();
        names.sort_unstable();
        names
    }

    pub(super) fn domain(&self, name: &str) -> Option<&Domain> {
        self.domains.get(name)
    }

    /// Finds the limit of each descriptor of `query`, in order. Cannot fail: unknown domains match nothing.
    #[must_use]
    pub fn plan<'m>(&'m self, query: &Query<'_>) -> Plan<'m> {
        let Some(domain) = self.domains.get(query.domain) else {
            return Plan::unknown_domain(query.descriptors.len(), self.defaults);
        };
        let mut plan = Plan::new(&domain.together, self.defaults);
        for descriptor in &query.descriptors {
            match &descriptor.limit {
                Some(limit) => {
                    let (rule, key) = self.override_of(domain, query.domain, descriptor, limit);
                    plan.charge_override(rule, key, Asked { query, descriptor, partition: None });
                }
                None => match domain.find(self.key(query.domain), descriptor) {
                    None => plan.slots.push(Slot::Unmatched),
                    Some(Found { rule, key, partition, .. }) => {
                        let asked = Asked { query, descriptor, partition };
                        plan.charge_rule(&self.rules[rule], key, asked);
                    }
                },
            }
        }
        plan.finish()
    }

    fn key(&self, domain: &str) -> KeyBuilder {
        KeyBuilder::rule(self.defaults.layout, domain)
    }

    /// The rule and the counter of a limit that came with the request. It shares the counter of the
    /// configured rule for the same entries if both count fixed windows of one length, as the reference does.
    fn override_of(
        &self,
        domain: &Domain,
        name: &str,
        descriptor: &Descriptor<'_>,
        limit: &Override,
    ) -> (Box<Rule>, Key) {
        let refused = if domain.together.charge == Charge::Each { Refused::Counts } else { Refused::Free };
        let window = limit.window(refused);
        let found = domain.find(self.key(name), descriptor).filter(|found| {
            let rule = &self.rules[found.rule];
            !found.shared && same_window(rule.limit.as_ref(), &window)
        });
        let begin = || match self.defaults.layout {
            Layout::Tollgate => KeyBuilder::with_override(name, limit.quota().span()),
            Layout::Reference => self.key(name),
        };
        let key = found.map_or_else(|| override_key(begin(), descriptor), |found| found.key);
        let rule = Rule {
            id: Rule::OVERRIDE,
            path: format!("{name}.override").into(),
            name: "".into(),
            limit: Some(Limit::FixedWindow(window)),
            lease: None,
            quota: limit.quota(),
            shadow: false,
            alternative: false,
            replaces: Box::default(),
            metadata: None,
            on_failure: OnFailure::Error,
            accuracy: Accuracy::Auto,
            max_hold: Span::ZERO,
            metric: Metric::default(),
            rollout: None,
        };
        (Box::new(rule), key)
    }
}

fn same_window(limit: Option<&Limit>, window: &FixedWindow) -> bool {
    matches!(limit, Some(Limit::FixedWindow(rule))
        if matches!((rule.window(), window.window()), (Window::Epoch(one), Window::Epoch(two)) if one == two))
}

fn override_key(mut key: KeyBuilder, descriptor: &Descriptor<'_>) -> Key {
    for (name, value) in &descriptor.entries {
        key.level(name, value, Shared::No);
    }
    key.finish()
}

impl Level {
    fn build(
        specs: Vec<DescriptorSpec>,
        trail: &mut Trail,
        rules: &mut Vec<Rule>,
    ) -> Result<Level, BuildError> {
        let mut level = Level::default();
        for spec in specs {
            let composite = composite(&spec);
            let order = level.nodes.len();
            let length = trail.push(&composite, &spec);
            if level.by_composite.insert(composite.as_str().into(), order).is_some() {
                return Err(BuildError::Descriptor(trail.text.clone()));
            }
            if composite.contains('*') {
                level.wildcards.insert(&composite, order);
            }
            level.nodes.push(Node::build(spec, composite, trail, rules)?);
            trail.pop(length);
        }
        Ok(level)
    }

    /// Walks down one entry a level. The first sibling that fits is taken for good: there is no way back
    /// to a less specific one. The limit has to sit on the last entry's node.
    fn find<'m>(
        &'m self,
        mut key: KeyBuilder,
        descriptor: &Descriptor<'_>,
        partition: Option<&str>,
    ) -> Option<Found<'m>> {
        let (mut any_shared, mut pattern_of_partition) = (false, None);
        let mut level = self;
        let mut entries = descriptor.entries.iter().peekable();
        while let Some(&(name, value)) = entries.next() {
            let child = level.child(name, value)?;
            match child.shared() {
                None => key.level(name, value, Shared::No),
                Some(pattern) => {
                    key.level(name, without_key(pattern, name), Shared::Yes);
                    any_shared = true;
                    let mine = (partition == Some(name)).then_some(pattern);
                    pattern_of_partition = pattern_of_partition.or(mine);
                }
            }
            if entries.peek().is_none() {
                let (rule, key) = (child.node.rule?, key.finish());
                return Some(Found { rule, key, shared: any_shared, partition: pattern_of_partition });
            }
            level = &child.node.children;
        }
        None
    }

    /// Exact `key_value`, else the first pattern in file order, else the key alone.
    pub(super) fn child(&self, key: &str, value: &str) -> Option<Child<'_>> {
        if self.nodes.is_empty() {
            return None;
        }
        let mut text: SmallVec<[u8; 128]> = SmallVec::new();
        text.extend_from_slice(key.as_bytes());
        text.push(b'_');
        text.extend_from_slice(value.as_bytes());
        let composite = std::str::from_utf8(&text).ok()?;
        let child = |order: usize, by| Child { node: &self.nodes[order], by };
        if let Some(&order) = self.by_composite.get(composite) {
            return Some(child(order, MatchedBy::Value));
        }
        if !self.wildcards.is_empty()
            && let Some(order) = self.wildcards.find(composite)
        {
            return Some(child(order, MatchedBy::Pattern));
        }
        self.by_composite.get(key).map(|&order| child(order, MatchedBy::Key))
    }
}

/// `key_value`, or `key` alone when there is no value.
fn composite(spec: &DescriptorSpec) -> String {
    if spec.value.is_empty() { spec.key.clone() } else { format!("{}_{}", spec.key, spec.value) }
}

/// The value part of a pattern; all of it if the request's key is not its beginning.
fn without_key<'p>(pattern: &'p str, key: &str) -> &'p str {
    pattern.strip_prefix(key).and_then(|rest| rest.strip_prefix('_')).unwrap_or(pattern)
}

impl Node {
    fn build(
        spec: DescriptorSpec,
        composite: String,
        trail: &mut Trail,
        rules: &mut Vec<Rule>,
    ) -> Result<Node, BuildError> {
        let shares = spec.share_threshold && composite.contains('*');
        let DescriptorSpec {
            rule, shadow, alternative, detailed_metric, metadata, rollout, descriptors, ..
        } = spec;
        let rule = rule.map(|rule| {
            let metric = Metric { detailed: detailed_metric, levels: trail.levels.clone().into() };
            let of = Rule::of(rule, rules.len(), &trail.text);
            let mut rule = Rule { shadow, alternative, metadata, metric, ..of };
            rule.rollout = rollout.map(|rollout| Rollout::of(rollout, &rule));
            rules.push(rule);
            rules.len() - 1
        });
        let children = Level::build(descriptors, trail, rules)?;
        Ok(Node { composite: composite.into(), rule, shares, children })
    }
}

/// Where in the tree the build is.
struct Trail {
    text: String,
    levels: Vec<MetricLevel>,
}

impl Trail {
    /// Goes one level down; returns what [`Trail::pop`] needs to come back.
    fn push(&mut self, composite: &str, spec: &DescriptorSpec) -> usize {
        let length = self.text.len();
        self.text.push('.');
        self.text.push_str(composite);
        let many = spec.value.is_empty() || composite.contains('*');
        self.levels.push(MetricLevel {
            composite: composite.into(),
            shared: spec.share_threshold,
            value: spec.value_to_metric && many,
        });
        length
    }

    fn pop(&mut self, length: usize) {
        self.text.truncate(length);
        self.levels.pop();
    }
}
