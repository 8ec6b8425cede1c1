//! Questions whose limit is known: who asks again is not matched again.
//!
//! A question is known by the very bytes of its domain and its one descriptor. What was found holds for one set of
//! rules and is forgotten with it. The memory has a fixed number of places; a new question takes the place of an
//! old one only if that has been asked for less often of late, so that more questions than places do not make
//! every check learn and forget.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use tollgate_core::rules::Known;

/// Questions that are remembered at most: a power of two.
const PLACES: usize = 4_096;
/// Bytes of a domain and a descriptor that are remembered at most.
const LONGEST: usize = 256;
/// How often others have to ask for the place of a new question before they get it.
const CREDIT: u8 = 64;

/// A memory that the streams of one worker share. There is never more than one that waits for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(Arc<Mutex<Memo>>);

impl Memory {
    pub(super) fn lock(&self) -> MutexGuard<'_, Memo> {
        // whatever a panic left behind is a memory still
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of questions by one set of rules.
#[derive(Debug, Default)]
pub(super) struct Memo {
    generation: u64,
    hasher: RandomState,
    /// Empty until the first question.
    places: Vec<Option<Box<Entry>>>,
}

/// The bytes of a question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'q> {
    pub(super) domain: &'q [u8],
    pub(super) descriptor: &'q [u8],
}

#[derive(Debug)]
struct Entry {
    /// The domain, and after it the descriptor.
    bytes: Box<[u8]>,
    domain: usize,
    credit: u8,
    found: Found,
}

/// What is known of a question.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) known: Known,
    /// What the descriptor says that it costs.
    pub(super) cost: Option<u64>,
}

impl Memo {
    /// Forgets everything unless it was found by the rules of `generation`.
    pub(super) fn of(&mut self, generation: u64) {
        if self.generation != generation {
            self.generation = generation;
            self.places.fill_with(|| None);
        }
    }

    #[inline]
    fn place(&self, question: Question<'_>) -> usize {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(question.domain);
        hasher.write(question.descriptor);
        #[expect(clippy::cast_possible_truncation, reason = "a hash: any bits do")]
        let hash = hasher.finish() as usize;
        hash & (PLACES - 1)
    }

    /// What is known of `question`. A question that is not known here, and is asked for the place of another,
    /// takes from that one's credit.
    #[inline]
    pub(super) fn find(&mut self, question: Question<'_>) -> Option<&Found> {
        let place = self.place(question);
        let entry = self.places.get_mut(place)?.as_deref_mut()?;
        if entry.is(question) {
            entry.credit = CREDIT;
            return Some(&entry.found);
        }
        entry.credit = entry.credit.saturating_sub(1);
        None
    }

    /// Whether there is a place for `question`, which is not known.
    pub(super) fn has_place(&self, question: Question<'_>) -> bool {
        let fits = question.domain.len() + question.descriptor.len() <= LONGEST;
        let taken = self.places.get(self.place(question)).and_then(Option::as_deref);
        fits && taken.is_none_or(|entry| entry.credit == 0)
    }

    /// Remembers what was found for `question`.
    pub(super) fn learn(&mut self, question: Question<'_>, found: Found) {
        if self.places.is_empty() {
            self.places.resize_with(PLACES, || None);
        }
        let place = self.place(question);
        let bytes = [question.domain, question.descriptor].concat().into();
        let entry = Entry { bytes, domain: question.domain.len(), credit: CREDIT, found };
        self.places[place] = Some(Box::new(entry));
    }
}

impl Entry {
    #[inline]
    fn is(&self, question: Question<'_>) -> bool {
        let (domain, descriptor) = self.bytes.split_at(self.domain);
        domain == question.domain && descriptor == question.descriptor
    }
}

#[cfg(test)]
mod tests {
    use tollgate_core::limit::{Limit, Rate, TokenBucket};
    use tollgate_core::rules::{
        Accuracy, Defaults, Descriptor, DescriptorSpec, DomainSpec, Matcher, OnFailure, Query, Quota,
        RuleSpec,
    };
    use tollgate_core::time::Span;

    use super::*;

    fn known(value: &str) -> Known {
        let limit = TokenBucket::new(Rate::new(1, Span::SECOND).unwrap(), 1).unwrap();
        let rule = RuleSpec {
            limit: Some(Limit::TokenBucket(limit)),
            quota: Quota::default(),
            name: String::new(),
            replaces: Vec::new(),
            on_failure: OnFailure::Error,
            accuracy: Accuracy::Strict,
            max_hold: Span::ZERO,
        };
        let user = DescriptorSpec { key: "user".into(), rule: Some(rule), ..DescriptorSpec::default() };
        let domain = DomainSpec { name: "d".into(), descriptors: vec![user], ..DomainSpec::default() };
        let matcher = Matcher::build(vec![domain], Defaults::default()).unwrap();
        let descriptor =
            Descriptor { entries: [("user", value)].into_iter().collect(), ..Descriptor::default() };
        let query =
            Query { domain: "d", descriptors: [descriptor].into_iter().collect(), ..Query::default() };
        Known::of(&matcher.plan(&query)).unwrap()
    }

    fn question(descriptor: &[u8]) -> Question<'_> {
        Question { domain: b"d", descriptor }
    }

    #[test]
    fn what_was_learned_is_known_until_the_rules_change() {
        let mut memo = Memo::default();
        memo.of(1);
        assert!(memo.find(question(b"ann")).is_none() && memo.has_place(question(b"ann")));
        memo.learn(question(b"ann"), Found { known: known("ann"), cost: Some(2) });
        let found = memo.find(question(b"ann")).unwrap();
        assert_eq!((&found.known, found.cost), (&known("ann"), Some(2)));
        let other = Question { domain: b"da", descriptor: b"nn" };
        assert!(memo.find(other).is_none(), "the bytes are the same, where they divide is not");
        memo.of(1);
        assert!(memo.find(question(b"ann")).is_some());
        memo.of(2);
        assert!(memo.find(question(b"ann")).is_none());
    }

    #[test]
    fn long_questions_are_not_remembered() {
        let memo = Memo::default();
        assert!(memo.has_place(question(&[0; LONGEST - 1])));
        assert!(!memo.has_place(question(&[0; LONGEST])));
    }

    #[test]
    fn a_flood_of_new_questions_takes_no_place_from_who_asks_often() {
        let mut memo = Memo::default();
        let often = known("often");
        memo.learn(question(b"often"), Found { known: often.clone(), cost: None });
        for number in 0..20 * PLACES {
            let new = number.to_le_bytes();
            if memo.find(question(&new)).is_none() && memo.has_place(question(&new)) {
                memo.learn(question(&new), Found { known: often.clone(), cost: None });
            }
            if number % 64 == 0 {
                assert!(memo.find(question(b"often")).is_some(), "after {number} others");
            }
        }
        assert_eq!(memo.places.len(), PLACES);
    }
}
