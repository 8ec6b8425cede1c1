//! `*` patterns over `key_value` texts, found in file order without trying them all.

use std::collections::HashMap;

use foldhash::fast::FixedState;

type Map<V> = HashMap<Box<str>, V, FixedState>;

/// One pattern: the literals between its stars.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Pattern {
    /// Place among its siblings: the earliest that matches wins.
    order: usize,
    /// The literals between the first and the last.
    middle: Box<[Box<str>]>,
}

/// The wildcard siblings of one level, indexed by what stands before the first and after the last star.
///
/// A look-up costs one probe for each pair of a prefix length and a suffix length in use, and tries only
/// patterns whose both ends fit, so it does not grow with the number of rules.
#[derive(Clone, Debug, Default)]
pub(super) struct Wildcards {
    prefixes: Map<Suffixes>,
    prefix_lengths: Vec<usize>,
}

#[derive(Clone, Debug, Default)]
struct Suffixes {
    patterns: Map<Vec<Pattern>>,
    lengths: Vec<usize>,
}

impl Wildcards {
    /// Adds `pattern`, which contains `*`. Patterns are added in file order.
    pub(super) fn insert(&mut self, pattern: &str, order: usize) {
        let mut literals: Vec<&str> = pattern.split('*').collect();
        let suffix = literals.pop().unwrap_or_default();
        let (prefix, middle) = literals.split_first().map_or(("", &[][..]), |(first, rest)| (*first, rest));
        let middle = middle.iter().filter(|text| !text.is_empty()).map(|&text| text.into()).collect();
        remember(&mut self.prefix_lengths, prefix.len());
        let suffixes = self.prefixes.entry(prefix.into()).or_default();
        remember(&mut suffixes.lengths, suffix.len());
        suffixes.patterns.entry(suffix.into()).or_default().push(Pattern { order, middle });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// The place of the first pattern in file order that matches `text`.
    pub(super) fn find(&self, text: &str) -> Option<usize> {
        let fitting = self.prefix_lengths.iter().filter_map(|&length| {
            let (prefix, rest) = text.split_at_checked(length)?;
            self.prefixes.get(prefix)?.find(rest)
        });
        fitting.min()
    }
}

impl Suffixes {
    fn find(&self, rest: &str) -> Option<usize> {
        let fitting = self.lengths.iter().filter_map(|&length| {
            let (middle, suffix) = rest.split_at_checked(rest.len().checked_sub(length)?)?;
            let patterns = self.patterns.get(suffix)?;
            patterns.iter().find(|pattern| pattern.fits(middle)).map(|pattern| pattern.order)
        });
        fitting.min()
    }
}

impl Pattern {
    /// Whether the middle literals occur in `text` in order, without overlapping (greedy from the left).
    fn fits(&self, mut text: &str) -> bool {
        for literal in &self.middle {
            let Some(at) = text.find(&**literal) else { return false };
            text = &text[at + literal.len()..];
        }
        true
    }
}

fn remember(lengths: &mut Vec<usize>, length: usize) {
    if let Err(place) = lengths.binary_search(&length) {
        lengths.insert(place, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(patterns: &[&str], text: &str) -> Option<usize> {
        let mut wildcards = Wildcards::default();
        for (order, pattern) in patterns.iter().enumerate() {
            wildcards.insert(pattern, order);
        }
        wildcards.find(text)
    }

    #[test]
    fn literals_do_not_overlap() {
        assert_eq!(find(&["a*a"], "a"), None);
        assert_eq!(find(&["a*a"], "aa"), Some(0));
        assert_eq!(find(&["x*ab*b"], "xab"), None);
        assert_eq!(find(&["x*ab*b"], "x.ab.b"), Some(0));
    }

    #[test]
    fn a_star_matches_nothing_and_anything() {
        assert_eq!(find(&["*"], ""), Some(0));
        assert_eq!(find(&["v_**"], "v_"), Some(0));
        assert_eq!(find(&["p_/api/*/act"], "p_/api//act"), Some(0));
        assert_eq!(find(&["p_/api/*/act"], "p_/api/1/2/act"), Some(0));
        assert_eq!(find(&["star*"], "star_zz"), Some(0));
    }

    #[test]
    fn the_first_in_file_order_wins_not_the_longest() {
        assert_eq!(find(&["v_a*", "v_ab*"], "v_abd"), Some(0));
        assert_eq!(find(&["v_ab*", "v_a*"], "v_abd"), Some(0));
        assert_eq!(find(&["v_*d", "v_a*"], "v_abd"), Some(0));
        assert_eq!(find(&["v_a*", "v_*d"], "v_abd"), Some(0));
    }

    #[test]
    fn texts_are_cut_only_between_characters() {
        assert_eq!(find(&["ab*"], "a\u{e9}"), None);
        assert_eq!(find(&["*b"], "\u{e9}"), None);
    }
}
