//! A queue that does not let the waiting outlive their callers.

use std::collections::VecDeque;

use super::criticality::Criticality;
use super::deadline::Deadline;
use super::{OutOfRange, within};
use crate::time::{Span, Time};

/// The controlled delay and adaptive LIFO of Maurer, "Fail at Scale" (ACM Queue, 2015), after CoDel (Nichols
/// and Jacobson, 2012).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueConfig {
    /// Most that wait: `1..=1_000_000`. Default 1000.
    pub capacity: u32,
    /// How long one may wait while the queue is overloaded: `100us..=interval`. Default 5 ms.
    pub target: Span,
    /// How long one may wait otherwise, and how long the queue must not have been empty to be overloaded:
    /// `1ms..=60s`. Default 100 ms.
    pub interval: Span,
}

impl Default for QueueConfig {
    fn default() -> QueueConfig {
        QueueConfig { capacity: 1_000, target: Span::from_millis(5), interval: Span::from_millis(100) }
    }
}

/// Why something that waited is not served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// The queue was full, and this was the least critical.
    Full,
    /// It waited for longer than the queue allows.
    Waited,
    /// It could not be answered within its caller's deadline any more.
    Deadline,
    /// The queue was closed.
    Closed,
}

/// Something that will not be served: tell its caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shed<T> {
    /// What was put in.
    pub item: T,
    /// Why it is not served.
    pub reason: Reason,
    /// How long it waited.
    pub waited: Span,
}

/// What comes out of a [`ShedQueue`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Popped<T> {
    /// Serve this.
    Serve {
        /// What was put in.
        item: T,
        /// How long it waited.
        waited: Span,
    },
    /// Tell this one's caller, and pop again.
    Shed(Shed<T>),
}

#[derive(Clone, Debug)]
struct Entry<T> {
    item: T,
    /// Its number in the order of arrival.
    number: u64,
    since: Time,
    deadline: Deadline,
}

/// A bounded queue: first in, first out; when overloaded the most critical and among them the newest first,
/// since the oldest are the nearest to being given up. Everything that is put in comes out once, served or
/// shed.
///
/// *Overloaded* is a queue that has not been empty for an interval.
#[derive(Clone, Debug)]
pub struct ShedQueue<T> {
    config: QueueConfig,
    /// One per class, from the least critical; each in the order of arrival.
    classes: [VecDeque<Entry<T>>; 4],
    len: usize,
    arrived: u64,
    /// When it was last seen empty.
    empty: Time,
    service: Span,
}

impl<T> ShedQueue<T> {
    /// An empty queue.
    ///
    /// # Errors
    /// [`OutOfRange`] names the first setting that is.
    pub fn new(config: QueueConfig, now: Time) -> Result<ShedQueue<T>, OutOfRange> {
        within("queue.capacity", config.capacity, 1..=1_000_000)?;
        within("queue.interval", config.interval, Span::from_millis(1)..=Span::from_secs(60))?;
        within("queue.target", config.target, Span::from_micros(100)..=config.interval)?;
        let classes = std::array::from_fn(|_| VecDeque::new());
        Ok(ShedQueue { config, classes, len: 0, arrived: 0, empty: now, service: Span::ZERO })
    }

    /// How long it takes to serve one, once it is popped: who has less time left is shed. Zero at first.
    pub fn set_service_time(&mut self, service: Span) {
        self.service = service;
    }

    /// Puts `item` in. Returns what had to go: nothing, or the least critical of those that waited for the
    /// longest, or `item` itself.
    #[must_use = "what had to go has a caller who waits"]
    pub fn push(&mut self, now: Time, item: T, class: Criticality, deadline: Deadline) -> Option<Shed<T>> {
        if self.len == 0 {
            self.empty = self.empty.max(now);
        }
        if !deadline.allows(now, self.service) {
            return Some(Shed { item, reason: Reason::Deadline, waited: Span::ZERO });
        }
        let shed = if self.is_full() { self.make_room(now, class) } else { None };
        if self.is_full() {
            return Some(Shed { item, reason: Reason::Full, waited: Span::ZERO });
        }
        let entry = Entry { item, number: self.arrived, since: now, deadline };
        self.arrived += 1;
        self.len += 1;
        self.classes[usize::from(class.index())].push_back(entry);
        shed
    }

    fn is_full(&self) -> bool {
        u64::try_from(self.len).unwrap_or(u64::MAX) >= u64::from(self.config.capacity)
    }

    /// Takes out one that is too old, or else the oldest of the least class, if that is below `class`.
    fn make_room(&mut self, now: Time, class: Criticality) -> Option<Shed<T>> {
        let old = self.too_old(now);
        if old.is_some() {
            return old;
        }
        let below = 0..usize::from(class.index());
        let least = below.into_iter().find(|index| !self.classes[*index].is_empty())?;
        let entry = self.take_oldest(least, now)?;
        Some(Shed { item: entry.item, reason: Reason::Full, waited: now - entry.since })
    }

    /// Takes out the next: something to serve, or something that waited in vain. Nothing if it is empty.
    pub fn pop(&mut self, now: Time) -> Option<Popped<T>> {
        if let Some(shed) = self.too_old(now) {
            return Some(Popped::Shed(shed));
        }
        let entry = if self.is_overloaded(now) {
            let class = (0..4).rev().find(|index| !self.classes[*index].is_empty())?;
            self.take_newest(class, now)?
        } else {
            let class = self.oldest()?;
            self.take_oldest(class, now)?
        };
        let waited = now - entry.since;
        if !entry.deadline.allows(now, self.service) {
            return Some(Popped::Shed(Shed { item: entry.item, reason: Reason::Deadline, waited }));
        }
        Some(Popped::Serve { item: entry.item, waited })
    }

    /// Takes out one that waits in vain at `now`, if there is one; for use between pops.
    pub fn expire(&mut self, now: Time) -> Option<Shed<T>> {
        self.too_old(now)
    }

    /// When the next of those that wait will have waited for too long, if nothing else happens. (Callers watch
    /// their own deadlines.)
    #[must_use]
    pub fn next_expiry(&self) -> Option<Time> {
        let oldest = self.classes[self.oldest()?].front()?;
        let relaxed = oldest.since + self.config.interval;
        // the shorter target holds from the overload on, an interval and the smallest step after `empty`
        let overloaded = self.empty + self.config.interval + Span::MICRO;
        Some(relaxed.min(overloaded.max(oldest.since + self.config.target)) + Span::MICRO)
    }

    /// Whether it has not been empty for an interval.
    #[must_use]
    pub fn is_overloaded(&self, now: Time) -> bool {
        self.len > 0 && now - self.empty > self.config.interval
    }

    /// How many wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes out all that wait, for a shutdown.
    pub fn close(&mut self, now: Time) -> Vec<Shed<T>> {
        let shed =
            |entry: Entry<T>| Shed { item: entry.item, reason: Reason::Closed, waited: now - entry.since };
        (self.len, self.empty) = (0, self.empty.max(now));
        self.classes.iter_mut().flat_map(|class| class.drain(..)).map(shed).collect()
    }

    /// The oldest, if it has waited for too long or cannot be answered in time.
    fn too_old(&mut self, now: Time) -> Option<Shed<T>> {
        let limit = if self.is_overloaded(now) { self.config.target } else { self.config.interval };
        for class in 0..4 {
            let Some(entry) = self.classes[class].front() else { continue };
            let waited = now - entry.since;
            let reason = match entry {
                _ if waited > limit => Reason::Waited,
                entry if !entry.deadline.allows(now, self.service) => Reason::Deadline,
                _ => continue,
            };
            let entry = self.take_oldest(class, now)?;
            return Some(Shed { item: entry.item, reason, waited });
        }
        None
    }

    /// The class of the one that arrived first.
    fn oldest(&self) -> Option<usize> {
        let number = |class: usize| Some((self.classes[class].front()?.number, class));
        (0..4).filter_map(number).min().map(|(_, class)| class)
    }

    fn take_oldest(&mut self, class: usize, now: Time) -> Option<Entry<T>> {
        let entry = self.classes[class].pop_front()?;
        self.left(now);
        Some(entry)
    }

    fn take_newest(&mut self, class: usize, now: Time) -> Option<Entry<T>> {
        let entry = self.classes[class].pop_back()?;
        self.left(now);
        Some(entry)
    }

    fn left(&mut self, now: Time) {
        self.len -= 1;
        if self.len == 0 {
            self.empty = self.empty.max(now);
        }
    }
}

#[cfg(test)]
mod tests;
