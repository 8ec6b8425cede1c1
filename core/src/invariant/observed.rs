//! The same judgement from outside: who asked knows only that each decision fell between question and answer.

use std::collections::HashMap;

use super::Breach;
use crate::limit::{FixedWindow, Limit, Window};
use crate::time::{Span, Time};

/// An admission as its caller saw it. The decision fell somewhere in the closed interval from `sent` to
/// `received`; for a leaky bucket, so did its departure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Observed {
    /// Before the question left.
    pub sent: Time,
    /// After the answer came; not before `sent`.
    pub received: Time,
    /// Units taken.
    pub cost: u64,
}

/// A breach of `limit` that no choice of the instants of decision could explain, if there is one: an interval
/// within which more was both asked and answered than [`super::broken`] allows for it.
///
/// The order of `observed` is of no matter. The caller's clock has to be that of whoever decides, or for limits
/// without windows on the epoch at least run at its speed. Anchored windows are judged by what any two of them allow.
///
/// Time O(n log n), memory O(n).
#[must_use]
pub fn surely_broken(limit: &Limit, observed: &[Observed]) -> Option<Breach> {
    let mut order: Vec<Observed> = observed.iter().copied().filter(|seen| seen.cost > 0).collect();
    order.sort_by_key(|seen| seen.received);
    match limit {
        Limit::TokenBucket(bucket) => {
            let (count, per) = (bucket.rate().count(), bucket.rate().per());
            line(&order, count, per, u128::from(bucket.burst()) * u128::from(per))
        }
        Limit::LeakyBucket(bucket) => {
            let (count, per) = (bucket.rate().count(), bucket.rate().per());
            let largest = order.iter().map(|seen| seen.cost).max().unwrap_or(0);
            // a departure and whatever leaves with it, and the rounding of one microsecond
            let slack = u128::from(largest) * u128::from(per) + u128::from(count) - 1;
            line(&order, count, per, slack)
        }
        Limit::SlidingWindow(sliding) => {
            let (limit, per) = (sliding.limit(), sliding.length().as_micros());
            line(&order, limit, per, u128::from(limit) * u128::from(per))
        }
        Limit::SlidingLog(log) => within(&order, log.limit(), log.length() - Span::MICRO),
        Limit::FixedWindow(fixed) => match fixed.window() {
            Window::Anchored(length) => anchored(&order, fixed.limit(), *length),
            Window::Epoch(_) | Window::Calendar(_) => windows(&order, fixed),
        },
    }
}

fn windows(order: &[Observed], fixed: &FixedWindow) -> Option<Breach> {
    let allowed = u128::from(fixed.limit());
    let mut admitted: HashMap<Time, u128> = HashMap::new();
    for seen in order {
        let (start, end) = fixed.window().bounds(seen.sent);
        if seen.received >= end {
            continue;
        }
        let sum = admitted.entry(start).or_default();
        *sum += u128::from(seen.cost);
        if *sum > allowed {
            return Some(Breach { from: start, until: seen.received, admitted: *sum, allowed });
        }
    }
    None
}

fn anchored(order: &[Observed], limit: u64, length: Span) -> Option<Breach> {
    let twice = limit.saturating_mul(2);
    let per = length.as_micros();
    within(order, limit, Span::ZERO)
        .or_else(|| within(order, twice, length))
        .or_else(|| line(order, limit, per, u128::from(twice) * u128::from(per)))
}

/// At most `limit` units asked and answered within any interval of at most `length`.
fn within(order: &[Observed], limit: u64, length: Span) -> Option<Breach> {
    let starts = starts(order);
    let mut sums = Sums::new(starts.len());
    let allowed = u128::from(limit);
    for seen in order {
        sums.add(rank(&starts, seen.sent), seen.cost);
        let from = Time::from_micros(seen.received.as_micros().saturating_sub(length.as_micros()));
        let admitted = sums.from(rank(&starts, from));
        if admitted > allowed {
            return Some(Breach { from, until: seen.received, admitted, allowed });
        }
    }
    None
}

/// `units * per - d * count` is at most `slack` for what was asked and answered within any interval of length `d`.
fn line(order: &[Observed], count: u64, per: u64, slack: u128) -> Option<Breach> {
    let starts = starts(order);
    let slack = i128::try_from(slack).unwrap_or(i128::MAX);
    let at = |time: Time| i128::from(time.as_micros()) * i128::from(count);
    let mut heights = Heights::new(starts.iter().map(|start| at(*start)));
    for seen in order {
        let first = rank(&starts, seen.sent);
        heights.raise(first, i128::from(seen.cost).saturating_mul(i128::from(per)));
        let (highest, place) = heights.highest();
        if highest.saturating_sub(at(seen.received)) > slack {
            let from = starts[place];
            let inside = order.iter().filter(|one| one.sent >= from && one.received <= seen.received);
            let admitted = inside.map(|one| u128::from(one.cost)).sum();
            let earned = (seen.received - from).as_micros();
            let room = slack.unsigned_abs() + u128::from(earned) * u128::from(count);
            return Some(Breach { from, until: seen.received, admitted, allowed: room / u128::from(per) });
        }
    }
    None
}

/// Every instant at which an interval may usefully begin.
fn starts(order: &[Observed]) -> Vec<Time> {
    let mut starts: Vec<Time> = order.iter().map(|seen| seen.sent).collect();
    starts.sort_unstable();
    starts.dedup();
    starts
}

/// How many starts lie before `time`.
fn rank(starts: &[Time], time: Time) -> usize {
    starts.partition_point(|start| *start < time)
}

/// Sums over suffixes (Fenwick's tree, read from the end).
struct Sums(Vec<u128>);

impl Sums {
    fn new(len: usize) -> Sums {
        Sums(vec![0; len + 1])
    }

    fn add(&mut self, place: usize, cost: u64) {
        // the last place is node 1, so that a prefix of nodes is a suffix of places
        let mut node = self.0.len() - 1 - place;
        while node < self.0.len() {
            self.0[node] += u128::from(cost);
            node += node & node.wrapping_neg();
        }
    }

    fn from(&self, place: usize) -> u128 {
        let mut node = (self.0.len() - 1).saturating_sub(place);
        let mut sum = 0;
        while node > 0 {
            sum += self.0[node];
            node -= node & node.wrapping_neg();
        }
        sum
    }
}

/// For each start the height of the interval that begins there; a tree of maxima with additions that lie where
/// they cover a whole node.
struct Heights {
    leaves: usize,
    best: Vec<i128>,
    added: Vec<i128>,
    seen: Vec<bool>,
}

/// Far below everything; nothing has been seen at such a start.
const UNSEEN: i128 = i128::MIN / 4;

impl Heights {
    fn new(bases: impl ExactSizeIterator<Item = i128>) -> Heights {
        let seen = vec![false; bases.len()];
        let leaves = bases.len().next_power_of_two().max(1);
        let mut best = vec![UNSEEN; 2 * leaves];
        for (place, base) in bases.enumerate() {
            best[leaves + place] = UNSEEN + base;
        }
        for node in (1..leaves).rev() {
            best[node] = best[2 * node].max(best[2 * node + 1]);
        }
        Heights { leaves, best, added: vec![0; 2 * leaves], seen }
    }

    /// Something was asked at the start `place`: every interval from there or from before holds it.
    fn raise(&mut self, place: usize, by: i128) {
        if !std::mem::replace(&mut self.seen[place], true) {
            self.add(place, place + 1, -UNSEEN);
        }
        self.add(0, place + 1, by);
    }

    /// Adds to the places from `from` up to before `to`.
    fn add(&mut self, from: usize, to: usize, by: i128) {
        let (mut low, mut high) = (from + self.leaves, to + self.leaves);
        let (first, last) = (low, high - 1);
        while low < high {
            if low & 1 == 1 {
                self.lift(low, by);
                low += 1;
            }
            if high & 1 == 1 {
                high -= 1;
                self.lift(high, by);
            }
            low /= 2;
            high /= 2;
        }
        self.settle(first);
        self.settle(last);
    }

    fn lift(&mut self, node: usize, by: i128) {
        self.best[node] = self.best[node].saturating_add(by);
        self.added[node] = self.added[node].saturating_add(by);
    }

    fn settle(&mut self, leaf: usize) {
        let mut node = leaf / 2;
        while node > 0 {
            self.best[node] =
                self.best[2 * node].max(self.best[2 * node + 1]).saturating_add(self.added[node]);
            node /= 2;
        }
    }

    /// The greatest height, and where its interval begins.
    fn highest(&self) -> (i128, usize) {
        let mut node = 1;
        while node < self.leaves {
            let left = 2 * node;
            node = if self.best[left] >= self.best[left + 1] { left } else { left + 1 };
        }
        (self.best[1], node - self.leaves)
    }
}
