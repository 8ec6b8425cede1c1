//! What one step of load has shown.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

use super::wire::{Call, Outcome};

/// Length of a slice of the timeline.
pub const SLICE: Duration = Duration::from_millis(100);
/// Longest latency that is told apart, nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// One step of load.
#[derive(Clone, Debug)]
pub struct Step {
    /// Questions per second that were meant.
    pub rate: f64,
    /// Time that was measured.
    pub elapsed: Duration,
    /// Questions that were meant to leave in that time.
    pub meant: u64,
    /// Answers that admit.
    pub admitted: u64,
    /// Answers that refuse.
    pub refused: u64,
    /// Errors, lost connections, and questions never answered.
    pub failed: u64,
    /// Decisions that came while the step was measured, not after it.
    pub within: u64,
    /// Decisions within the deadline, counted from the instant at which the question was meant to leave.
    pub good: u64,
    /// From the instant meant to the answer, nanoseconds; decisions only.
    pub latency: Histogram<u64>,
    /// How late the generator itself was, nanoseconds, from the instant meant to the attempt to ask.
    pub late: Histogram<u64>,
    /// By the instant meant, one for each [`SLICE`].
    pub timeline: Vec<Slice>,
    /// CPU time of this process.
    pub own_cpu: Duration,
    /// What was watched.
    pub used: Vec<Used>,
    /// When it began, nanoseconds from the start of the clock.
    begun: u64,
    patience: Duration,
}

/// A slice of the timeline.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Slice {
    /// Questions meant to leave.
    pub meant: u64,
    /// Of these, admitted.
    pub admitted: u64,
    /// Of these, refused.
    pub refused: u64,
    /// Of these, without a decision.
    pub failed: u64,
    /// Longest latency among them, nanoseconds.
    pub longest: u64,
}

/// What a process has used in a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Used {
    /// Its name, as given.
    pub name: String,
    /// CPU time.
    pub cpu: Duration,
    /// Resident memory at the end, bytes.
    pub resident: u64,
}

impl Step {
    /// A step that measures `elapsed` from `begun` on, in nanoseconds from the start of the clock. Answers count as
    /// in time within `patience`.
    ///
    /// # Errors
    /// None in practice; the histograms' bounds are fixed.
    pub fn new(rate: f64, elapsed: Duration, begun: u64, patience: Duration) -> Result<Step> {
        Ok(Step {
            rate,
            elapsed,
            meant: 0,
            admitted: 0,
            refused: 0,
            failed: 0,
            within: 0,
            good: 0,
            latency: Histogram::new_with_max(LONGEST, 3)?,
            late: Histogram::new_with_max(LONGEST, 3)?,
            timeline: Vec::new(),
            own_cpu: Duration::ZERO,
            used: Vec::new(),
            begun,
            patience,
        })
    }

    /// A question is asked: `meant` nanoseconds after the step began, `late` nanoseconds after that.
    pub fn asked(&mut self, meant: u64, late: u64) {
        self.meant += 1;
        self.late.saturating_record(late);
        self.slice(meant).meant += 1;
    }

    /// It has its answer, at `now`, nanoseconds from the start of the clock.
    pub fn answered(&mut self, call: Call, outcome: Outcome, now: u64) {
        let latency = now.saturating_sub(call.meant);
        let slice = self.slice(call.meant - self.begun);
        slice.longest = slice.longest.max(latency);
        match outcome {
            Outcome::Admitted => slice.admitted += 1,
            Outcome::Refused => slice.refused += 1,
            Outcome::Failed => slice.failed += 1,
        }
        match outcome {
            Outcome::Admitted => self.admitted += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Failed => self.failed += 1,
        }
        if outcome != Outcome::Failed {
            self.latency.saturating_record(latency);
            self.good += u64::from(u128::from(latency) <= self.patience.as_nanos());
            let after = Duration::from_nanos(now.saturating_sub(self.begun));
            self.within += u64::from(after <= self.elapsed);
        }
    }

    fn slice(&mut self, after: u64) -> &mut Slice {
        let place = usize::try_from(u128::from(after) / SLICE.as_nanos()).unwrap_or(usize::MAX);
        if self.timeline.len() <= place {
            self.timeline.resize(place + 1, Slice::default());
        }
        &mut self.timeline[place]
    }

    /// Decisions.
    #[must_use]
    pub fn decided(&self) -> u64 {
        self.admitted + self.refused
    }

    /// Decisions per second, of those that came while the step was measured.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53")]
    pub fn throughput(&self) -> f64 {
        self.within as f64 / self.elapsed.as_secs_f64()
    }

    /// Decisions within the deadline, per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53")]
    pub fn goodput(&self) -> f64 {
        self.good as f64 / self.elapsed.as_secs_f64()
    }

    /// Microseconds of `cpu` for each decision.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53")]
    pub fn per_decision(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / (self.decided().max(1)) as f64
    }

    /// Whether the generator kept its schedule: 99 of 100 questions were tried within a millisecond of the instant
    /// meant. If not, the figures are not the server's.
    #[must_use]
    pub fn kept_schedule(&self) -> bool {
        self.late.value_at_quantile(0.99) <= 1_000_000
    }
}
