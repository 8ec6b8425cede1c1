//! When questions are meant to leave.

use std::time::Duration;

use crate::chance::Chance;
use anyhow::{Result, ensure};
use serde::Deserialize;

/// How arrivals are spread over time, at a given mean rate.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Arrivals {
    /// Evenly.
    Constant,
    /// Independently of each other: exponential gaps.
    Poisson,
    /// `size` at once, at even distances.
    Bursts {
        /// Questions in a burst, 1 or more.
        size: u32,
    },
    /// At the instants of a file, in seconds from the start, one a line, in order. The rate does not matter.
    Trace {
        /// The file.
        file: std::path::PathBuf,
    },
}

impl Arrivals {
    /// Whether they make sense.
    ///
    /// # Errors
    /// They do not; the message says why.
    pub fn check(&self) -> Result<()> {
        if let Arrivals::Bursts { size } = self {
            ensure!(*size > 0, "arrivals.size is 0, must be 1 or more");
        }
        Ok(())
    }

    /// The instants, from 0 on. Those of a trace end; the others go on for ever.
    ///
    /// # Errors
    /// The file of a trace cannot be read, or has something else than instants in order.
    pub fn instants(&self, rate: f64, seed: u64) -> Result<Instants> {
        ensure!(rate.is_finite() && rate > 0.0, "the rate is {rate}, must be above 0");
        let kind = match self {
            Arrivals::Constant => Kind::Bursts { size: 1, next: 0 },
            Arrivals::Bursts { size } => Kind::Bursts { size: u64::from(*size), next: 0 },
            Arrivals::Poisson => Kind::Poisson { random: Chance::new(seed), at: 0.0 },
            Arrivals::Trace { file } => Kind::Trace(trace(file)?.into_iter()),
        };
        Ok(Instants { rate, kind })
    }
}

fn trace(file: &std::path::Path) -> Result<Vec<Duration>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| anyhow::anyhow!("cannot read {}: {error}", file.display()))?;
    let mut instants = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = || format!("{}:{}: {line:?}", file.display(), number + 1);
        let seconds: f64 = line.trim().parse().map_err(|_| anyhow::anyhow!("{} is no number", place()))?;
        let instant = Duration::try_from_secs_f64(seconds)
            .map_err(|_| anyhow::anyhow!("{} is no time from the start", place()))?;
        ensure!(instants.last().is_none_or(|last| *last <= instant), "{} is before the line above", place());
        instants.push(instant);
    }
    Ok(instants)
}

/// Instants in order.
#[derive(Debug)]
pub struct Instants {
    rate: f64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Bursts { size: u64, next: u64 },
    Poisson { random: Chance, at: f64 },
    Trace(std::vec::IntoIter<Duration>),
}

impl Iterator for Instants {
    type Item = Duration;

    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 questions")]
    fn next(&mut self) -> Option<Duration> {
        match &mut self.kind {
            Kind::Bursts { size, next } => {
                let burst = *next / *size * *size;
                *next += 1;
                Duration::try_from_secs_f64(burst as f64 / self.rate).ok()
            }
            Kind::Poisson { random, at } => {
                // 1 − u is never 0
                *at -= (1.0 - random.unit()).ln() / self.rate;
                Duration::try_from_secs_f64(*at).ok()
            }
            Kind::Trace(instants) => instants.next(),
        }
    }
}
