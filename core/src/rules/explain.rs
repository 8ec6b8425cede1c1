//! Why a request meets the limits that it meets.

use super::Rule;
use super::matcher::{Domain, Level, Matcher};
use super::query::{Descriptor, Query};

/// How one level was matched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MatchedBy {
    /// A sibling is exactly `key_value`.
    Value,
    /// A sibling's pattern matches `key_value`; it is the first in file order that does.
    Pattern,
    /// A sibling has the key and no value.
    Key,
}

/// One level of the walk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Walked {
    /// The request's key.
    pub key: String,
    /// The request's value.
    pub value: String,
    /// The sibling that was taken, as `key` or `key_value`, and why; `None` if none fits.
    pub taken: Option<(String, MatchedBy)>,
    /// The values that match share one counter.
    pub shared: bool,
}

/// Why a descriptor has no rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoRule {
    /// No rules for this domain.
    UnknownDomain,
    /// The descriptor has no entries.
    NoEntries,
    /// No sibling fits the last level walked.
    NoMatch,
    /// The last entry's node has no limit: it is an explicit exception, or the descriptor is too short.
    NoLimitHere,
}

/// What happens to one descriptor.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation<'m> {
    /// Level by level, as far as the walk came.
    pub walk: Vec<Walked>,
    /// The rule, or why there is none. A limit in the request goes before any rule.
    pub rule: Result<&'m Rule, NoRule>,
}

impl Matcher {
    /// Explains each descriptor of `query`, in order.
    #[must_use]
    pub fn explain(&self, query: &Query<'_>) -> Vec<Explanation<'_>> {
        let domain = self.domain(query.domain);
        query.descriptors.iter().map(|descriptor| self.explain_one(domain, descriptor)).collect()
    }

    fn explain_one(&self, domain: Option<&Domain>, descriptor: &Descriptor<'_>) -> Explanation<'_> {
        let Some(domain) = domain else {
            return Explanation { walk: Vec::new(), rule: Err(NoRule::UnknownDomain) };
        };
        let mut explanation = Explanation { walk: Vec::new(), rule: Err(NoRule::NoEntries) };
        let mut level: &Level = domain.root();
        for &(key, value) in &descriptor.entries {
            let child = level.child(key, value);
            explanation.walk.push(Walked {
                key: key.to_owned(),
                value: value.to_owned(),
                taken: child.map(|child| (child.node.composite.to_string(), child.by)),
                shared: child.is_some_and(|child| child.shared().is_some()),
            });
            let Some(child) = child else {
                explanation.rule = Err(NoRule::NoMatch);
                return explanation;
            };
            explanation.rule = child.node.rule.map(|rule| &self.rules()[rule]).ok_or(NoRule::NoLimitHere);
            level = &child.node.children;
        }
        explanation
    }
}
