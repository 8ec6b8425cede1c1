//! Which thresholds rule a circuit.

use std::sync::Arc;

use tollgate_core::breaker::fleet::{FleetConfig, FleetMode, FleetSettings};

use super::key::Key;
use crate::config::settings::CompiledRule;

/// Patterns, and what they say of their circuits.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    longest_lease: tollgate_core::time::Span,
}

#[derive(Debug)]
struct Rule {
    patterns: [String; 4],
    config: Option<Ruled>,
}

/// What rules a circuit: as it is configured, and as it is while somebody forces it to judge.
#[derive(Clone, Debug)]
pub(super) struct Ruled {
    pub(super) configured: Arc<FleetConfig>,
    pub(super) enforcing: Arc<FleetConfig>,
}

impl Policy {
    /// The first rule that matches a circuit rules it; the last one should match all.
    ///
    /// # Errors
    /// The core does not take a rule's thresholds.
    pub fn new(rules: Vec<CompiledRule>) -> anyhow::Result<Policy> {
        let rule = |CompiledRule { patterns, config }: CompiledRule| {
            let config = config.map(Ruled::new).transpose()?;
            Ok(Rule { patterns, config })
        };
        let rules: Vec<Rule> = rules.into_iter().map(rule).collect::<anyhow::Result<_>>()?;
        let leases = rules.iter().filter_map(|rule| Some(rule.config.as_ref()?.configured.settings().lease));
        let longest_lease = leases.max().unwrap_or_default();
        Ok(Policy { rules, longest_lease })
    }

    /// What rules `key`; `None` if its circuit is not kept.
    pub(super) fn of(&self, key: &Key) -> Option<&Ruled> {
        let parts = key.parts();
        let matching =
            |rule: &&Rule| rule.patterns.iter().zip(parts).all(|(pattern, part)| fits(pattern, part));
        self.rules.iter().find(matching)?.config.as_ref()
    }

    /// The longest time that a client believes an owner who is gone.
    pub(super) fn longest_lease(&self) -> tollgate_core::time::Span {
        self.longest_lease
    }
}

impl Ruled {
    fn new(configured: Arc<FleetConfig>) -> anyhow::Result<Ruled> {
        let enforcing = FleetSettings { mode: FleetMode::Enforce, ..configured.settings().clone() };
        Ok(Ruled { configured, enforcing: Arc::new(FleetConfig::new(enforcing)?) })
    }
}

/// Whether `text` is `pattern` with some text in the place of every `*`.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut pieces = rest.split('*').peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return text.ends_with(piece);
        }
        // the first place is as good as any later one: it leaves most to the pieces after it
        let Some(at) = text.find(piece) else { return false };
        text = &text[at + piece.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::{Breaker, BreakerMode};

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "x"),
            ("a*", "a"),
            ("a*", "ab"),
            ("*b", "ab"),
            ("a*c", "abc"),
            ("a*b*c", "a-b-b-c"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "x"),
            ("a", "ab"),
            ("a*", "ba"),
            ("a*a", "a"),
            ("*b", "ba"),
            ("a*b*c", "a-c"),
            ("a*bc*c", "abc"),
        ] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_pattern_that_matches_rules() {
        let rule = |json| serde_json::from_value(json).unwrap();
        let circuits = vec![
            rule(serde_json::json!({ "target": "pay*", "operation": "refund", "mode": "off" })),
            rule(serde_json::json!({ "target": "pay*", "mode": "enforce", "min_volume": 7 })),
        ];
        let breaker = Breaker { circuits, mode: BreakerMode::MetricsOnly, ..Breaker::default() };
        let policy = Policy::new(breaker.compile().unwrap()).unwrap();
        let volume = |parts| {
            let ruled = policy.of(&Key::new(parts).unwrap())?;
            let settings = ruled.configured.settings();
            Some((settings.min_volume, settings.mode, ruled.enforcing.settings().mode))
        };
        assert_eq!(volume(["n", "payments", "", "refund"]), None);
        assert_eq!(volume(["n", "payments", "", "x"]), Some((7, FleetMode::Enforce, FleetMode::Enforce)));
        assert_eq!(volume(["n", "stock", "", ""]), Some((100, FleetMode::MetricsOnly, FleetMode::Enforce)));
    }
}
