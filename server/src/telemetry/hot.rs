//! Which keys are asked about and refused most, for people who watch.
//!
//! Decisions are sampled: each thread's stripe takes about `BUDGET` of them a second, whatever comes. Of a quiet
//! server that is every decision, of a busy one every *w*-th, which then counts *w* times. What is taken goes into
//! sketches ([`TopK`]) of bounded size. Two generations take turns, so that what is shown covers the last 30 to 60
//! seconds. The error of a figure is the sketch's bound and, where *w* > 1, two standard deviations of the sampling.

mod gate;
mod name;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;
use tollgate_core::limit::{Cost, Retry};
use tollgate_core::rules::{Decision, Outcome, Query, Status};
use tollgate_core::sketch::TopK;

use self::gate::Gate;
pub use self::name::HotName;
use super::meter::{Stripes, seat};

/// Samples a second and stripe, of all decisions and again of the refused ones.
const BUDGET: u32 = 1_000;
/// Keys that each sketch keeps.
pub const KEYS: usize = 256;
/// Seconds after which a generation is the old one; after twice as many it is forgotten.
const GENERATION: u64 = 30;

/// What is known of a key besides how often it came.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// Variance that sampling added to the count.
    pub variance: u64,
    /// Used of the limit, when it was last seen.
    pub used: u64,
    /// The limit.
    pub limit: u64,
    /// How long it would have had to wait when it was last refused, in milliseconds; `u64::MAX` is for ever.
    pub retry_ms: u64,
    /// Second ([`HotKeys::turn`]) in which it was last seen.
    pub second: u64,
    /// The rule is in shadow: nobody is refused.
    pub shadow: bool,
}

/// The most frequent keys.
pub type Sketch = TopK<Arc<HotName>, Seen>;

/// What the sketches of all threads add up to.
#[derive(Clone, Debug)]
pub struct HotView {
    /// Decisions by key.
    pub asked: Sketch,
    /// Refusals by key, those of rules in shadow too.
    pub refused: Sketch,
    /// Seconds that the counts cover.
    pub covers: u64,
    /// The second that `Seen::second` counts up to.
    pub now: u64,
}

/// Samples decisions.
pub struct HotKeys {
    stripes: Box<[CachePadded<Stripe>]>,
    seconds: Mutex<Seconds>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seconds {
    now: u64,
    /// When the generations last changed.
    turned: u64,
    /// Whether there is an old generation.
    has_old: bool,
}

#[derive(Default)]
struct Stripe {
    asked: Gate,
    refused: Gate,
    kept: Mutex<Kept>,
}

struct Kept {
    new: Pair,
    old: Pair,
    second: u64,
}

struct Pair {
    asked: Sketch,
    refused: Sketch,
}

impl Pair {
    fn new() -> Pair {
        Pair { asked: TopK::new(KEYS), refused: TopK::new(KEYS) }
    }
}

impl Default for Kept {
    fn default() -> Kept {
        Kept { new: Pair::new(), old: Pair::new(), second: 0 }
    }
}

/// Which of a decision's outcomes are sampled.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Of {
    All,
    Refused,
}

impl HotKeys {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(stripes: Stripes) -> HotKeys {
        HotKeys {
            stripes: (0..stripes.count()).map(|_| CachePadded::default()).collect(),
            seconds: Mutex::default(),
        }
    }

    /// Takes a decision into account. Almost always that is a subtraction.
    #[inline]
    pub fn decided(&self, query: &Query<'_>, decision: &Decision<'_>) {
        let stripe = &self.stripes[seat() & (self.stripes.len() - 1)];
        if stripe.asked.passes() {
            stripe.take(Of::All, query, decision);
        }
        if decision.outcomes.iter().any(refuses) && stripe.refused.passes() {
            stripe.take(Of::Refused, query, decision);
        }
    }

    /// The same where the request has to be made anew to be shown.
    #[inline]
    pub fn noticed<'q>(&self, decision: &Decision<'_>, query: &impl Fn() -> Option<Query<'q>>) {
        let stripe = &self.stripes[seat() & (self.stripes.len() - 1)];
        let take = |of| {
            if let Some(query) = query() {
                stripe.take(of, &query, decision);
            }
        };
        if stripe.asked.passes() {
            take(Of::All);
        }
        if decision.outcomes.iter().any(refuses) && stripe.refused.passes() {
            take(Of::Refused);
        }
    }

    /// A second has passed: how much is sampled follows what came, and old counts go.
    pub fn turn(&self) {
        let mut seconds = lock(&self.seconds);
        seconds.now += 1;
        let turns = seconds.now - seconds.turned >= GENERATION;
        if turns {
            (seconds.turned, seconds.has_old) = (seconds.now, true);
        }
        for stripe in &self.stripes {
            let mut kept = lock(&stripe.kept);
            kept.second = seconds.now;
            if turns {
                kept.old = std::mem::replace(&mut kept.new, Pair::new());
            }
            stripe.asked.turn();
            stripe.refused.turn();
        }
    }

    /// Seconds since the start.
    #[must_use]
    pub fn now(&self) -> u64 {
        lock(&self.seconds).now
    }

    /// What was seen of late, all threads together.
    #[must_use]
    pub fn view(&self) -> HotView {
        let seconds = *lock(&self.seconds);
        let covers = seconds.now - seconds.turned + if seconds.has_old { GENERATION } else { 0 };
        let mut view = HotView { asked: TopK::new(KEYS), refused: TopK::new(KEYS), covers, now: seconds.now };
        for stripe in &self.stripes {
            let kept = lock(&stripe.kept);
            for pair in [&kept.new, &kept.old] {
                view.asked.merge(&pair.asked, Seen::join);
                view.refused.merge(&pair.refused, Seen::join);
            }
        }
        view
    }
}

impl fmt::Debug for HotKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HotKeys").field("stripes", &self.stripes.len()).finish_non_exhaustive()
    }
}

impl Stripe {
    #[cold]
    fn take(&self, of: Of, query: &Query<'_>, decision: &Decision<'_>) {
        let gate = if of == Of::All { &self.asked } else { &self.refused };
        let mut kept = lock(&self.kept);
        let weight = gate.take(BUDGET);
        let second = kept.second;
        for (descriptor, outcome) in query.descriptors.iter().zip(&decision.outcomes) {
            let Some((rule, seen)) = seen(outcome) else { continue };
            if of == Of::Refused && !refuses(outcome) {
                continue;
            }
            let name = Arc::new(HotName::new(rule, query.domain, descriptor));
            let sketch = if of == Of::All { &mut kept.new.asked } else { &mut kept.new.refused };
            let known = sketch.add(name, weight);
            let variance = known.variance.saturating_add(weight.saturating_mul(weight - 1));
            *known = Seen { variance, second, ..seen };
        }
    }
}

impl Seen {
    /// Brings `self` up to date with what another thread, time or server has seen.
    pub fn join(&mut self, other: &Seen) {
        let variance = self.variance.saturating_add(other.variance);
        // of what two threads saw within one second the later is not known: the fuller is
        if (other.second, other.used) >= (self.second, self.used) {
            *self = *other;
        }
        self.variance = variance;
    }

    /// By how much sampling may have missed the count, in 19 of 20 cases.
    #[must_use]
    pub const fn noise(&self) -> u64 {
        self.variance.isqrt().saturating_mul(2)
    }
}

/// A limit refuses, be it in shadow.
fn refuses(outcome: &Outcome<'_>) -> bool {
    matches!(outcome, Outcome::Decided { answer, ask, .. }
        if !answer.verdict.allowed && matches!(ask.cost, Cost::Take(1..)))
}

/// The rule that judged, and what it said; `None` of what charges no limit.
fn seen<'d>(outcome: &'d Outcome<'_>) -> Option<(&'d str, Seen)> {
    let Outcome::Decided { rule, ask, answer, status, .. } = outcome else { return None };
    if !matches!(ask.cost, Cost::Take(1..)) {
        return None;
    }
    let verdict = &answer.verdict;
    let retry_ms = match verdict.retry_after {
        Retry::After(span) => span.as_micros() / 1_000,
        Retry::Never => u64::MAX,
    };
    let shadow = !verdict.allowed && *status == Status::Ok;
    let (used, limit) = (verdict.used, verdict.limit);
    Some((&rule.path, Seen { used, limit, retry_ms, shadow, ..Seen::default() }))
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
