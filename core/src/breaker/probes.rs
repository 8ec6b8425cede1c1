//! HALF_OPEN: who probes, and what the probes show. Lives under the breaker's lock.

use super::{Counts, HalfOpen, Ratio, Verdict};
use crate::time::{Span, Time};

/// One probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Slot {
    Free,
    /// Given to a call that started then.
    Out(Time),
    Done,
}

/// What the outcomes so far decide.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Decided {
    Nothing,
    Passed,
    Failed,
}

#[derive(Debug)]
pub(super) struct Probes {
    slots: Box<[(Slot, u16)]>,
    counts: Counts,
    ttl: Span,
    verdict: Verdict,
    early: bool,
}

impl Probes {
    pub(super) fn new(config: &HalfOpen) -> Probes {
        let slots = (0..config.permits).map(|_| (Slot::Free, 0)).collect();
        let counts = Counts::default();
        let (verdict, early) = (config.verdict, config.early_verdict);
        Probes { slots, counts, ttl: config.permit_ttl, verdict, early }
    }

    pub(super) fn clear(&mut self) {
        for (slot, _) in &mut self.slots {
            *slot = Slot::Free;
        }
        self.counts = Counts::default();
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    /// How many outcomes a verdict by rates is about.
    pub(super) fn needed(&self) -> u64 {
        match self.verdict {
            Verdict::Rates { minimum: Some(needed) } | Verdict::Successes { needed } => u64::from(needed),
            Verdict::Rates { minimum: None } => self.slots.len() as u64,
        }
    }

    /// Probes that nobody holds.
    pub(super) fn free(&self) -> u16 {
        let free = self.slots.iter().filter(|(slot, _)| *slot == Slot::Free).count();
        u16::try_from(free).unwrap_or(u16::MAX)
    }

    /// Probes that can be given out at `now`: those that nobody holds and those that were lost.
    pub(super) fn available(&self, now: Time) -> u16 {
        let open = |slot: &Slot| match slot {
            Slot::Free => true,
            Slot::Out(started) => now >= *started + self.ttl,
            Slot::Done => false,
        };
        let open = self.slots.iter().filter(|(slot, _)| open(slot)).count();
        u16::try_from(open).unwrap_or(u16::MAX)
    }

    /// When the oldest permit can be given to somebody else.
    pub(super) fn reissue(&self) -> Option<Time> {
        let out = self.slots.iter().filter_map(|(slot, _)| match slot {
            Slot::Out(started) => Some(*started + self.ttl),
            _ => None,
        });
        out.min()
    }

    /// A probe that is free or was lost: its number and its holder's.
    pub(super) fn take(&mut self, now: Time) -> Option<(u16, u16)> {
        let ttl = self.ttl;
        let lost = |slot: &Slot| matches!(slot, Slot::Out(started) if now >= *started + ttl);
        let free = self.slots.iter().position(|(slot, _)| *slot == Slot::Free);
        let index = free.or_else(|| self.slots.iter().position(|(slot, _)| lost(slot)))?;
        let (slot, serial) = self.slots.get_mut(index)?;
        *slot = Slot::Out(now);
        *serial = serial.wrapping_add(1);
        Some((u16::try_from(index).ok()?, *serial))
    }

    /// Takes back the probe of `holder`; `counted` is (failed, slow), or nothing for a probe that says
    /// nothing. `false` if the probe was given to somebody else meanwhile.
    pub(super) fn end(&mut self, holder: (u16, u16), counted: Option<(bool, bool)>) -> bool {
        let Some((slot, serial)) = self.slots.get_mut(usize::from(holder.0)) else { return false };
        if *serial != holder.1 || !matches!(slot, Slot::Out(_)) {
            return false;
        }
        *slot = if counted.is_some() { Slot::Done } else { Slot::Free };
        if let Some((failed, slow)) = counted {
            self.counts.calls += 1;
            self.counts.failures += u64::from(failed);
            self.counts.slow += u64::from(slow);
        }
        true
    }

    /// The probe of `holder` had passed, and has failed after all. `false` if it is not known any more.
    pub(super) fn overrule(&mut self, holder: (u16, u16)) -> bool {
        let known = self.slots.get(usize::from(holder.0)) == Some(&(Slot::Done, holder.1));
        self.counts.failures += u64::from(known);
        known
    }

    pub(super) fn decided(&self, failure_rate: Option<Ratio>, slow_rate: Option<Ratio>) -> Decided {
        let Counts { calls, failures, slow, .. } = self.counts;
        if let Verdict::Successes { needed } = self.verdict {
            let permits = self.slots.len() as u64;
            return match u64::from(needed) {
                needed if calls - failures >= needed => Decided::Passed,
                needed if failures > permits - needed => Decided::Failed,
                _ => Decided::Nothing,
            };
        }
        let needed = self.needed();
        // what is missing may turn out good or bad
        let total = calls.max(needed);
        let missing = total - calls;
        if missing > 0 && !self.early {
            return Decided::Nothing;
        }
        let over = |limit: Option<Ratio>, part: u64| limit.is_some_and(|limit| limit.reached(part, total));
        if over(failure_rate, failures) || over(slow_rate, slow) {
            Decided::Failed
        } else if over(failure_rate, failures + missing) || over(slow_rate, slow + missing) {
            Decided::Nothing
        } else {
            Decided::Passed
        }
    }
}
