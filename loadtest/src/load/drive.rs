//! The generator: one thread, sockets that never block, one look at the clock per turn.

mod link;
mod links;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use self::links::Links;
use super::clock::{Clock, nanos};
use super::keys::Picks;
use super::measure::{Step, Used};
use super::oracle::Oracle;
use super::scenario::Scenario;
use super::usage;
use super::wire::{Call, Outcome};

/// A process that is watched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Watched {
    /// Its name in reports.
    pub name: String,
    /// Its number.
    pub pid: u32,
}

/// Whom to ask, and whom to watch meanwhile.
#[derive(Clone, Debug)]
pub struct Target {
    /// Connections are spread over these evenly.
    pub addresses: Vec<SocketAddr>,
    /// Watched processes.
    pub watched: Vec<Watched>,
}

/// Runs the step of `scenario` that asks `rate` times a second, and tells `progress` ten times a second how much of
/// it is done (0 to 1).
///
/// # Errors
/// No connection can be made, or a watched process is not there.
pub fn step(
    scenario: &Scenario,
    target: &Target,
    rate: f64,
    oracle: Option<&mut Oracle>,
    progress: &mut dyn FnMut(f64),
) -> Result<Step> {
    let measured = Duration::from_secs_f64(scenario.seconds);
    let begun = nanos(Duration::from_secs_f64(scenario.warmup));
    let mut driver = Driver {
        links: Links::open(scenario, target)?,
        picks: scenario.keys.pick(scenario.seed),
        waiting: VecDeque::new(),
        begun,
        end: begun.saturating_add(nanos(measured)),
        patience: scenario.patience(),
        step: Step::new(rate, measured, begun, scenario.patience())?,
        oracle,
        clock: Clock::start(),
    };
    let instants = scenario.arrivals.instants(rate, scenario.seed)?;
    driver.begin();
    driver.run(instants.map(nanos), target, progress)?;
    Ok(driver.step)
}

struct Driver<'o> {
    links: Links,
    picks: Picks,
    /// Due, and no connection has room.
    waiting: VecDeque<Call>,
    /// Where what is measured begins and ends, nanoseconds from the start.
    begun: u64,
    end: u64,
    patience: Duration,
    step: Step,
    oracle: Option<&'o mut Oracle>,
    clock: Clock,
}

impl Driver<'_> {
    /// Starts the clocks: this one and the oracle's.
    fn begin(&mut self) {
        self.clock = Clock::start();
        if let Some(oracle) = &mut self.oracle {
            oracle.begin(self.clock.wall());
        }
    }

    fn run(
        &mut self,
        instants: impl Iterator<Item = u64>,
        target: &Target,
        progress: &mut dyn FnMut(f64),
    ) -> Result<()> {
        let end = self.end;
        let mut instants = instants.take_while(|instant| *instant < end).peekable();
        let mut before = None;
        let mut told = 0;
        loop {
            let now = self.clock.now();
            if before.is_none() && now >= self.begun {
                before = Some(readings(target)?);
            }
            while let Some(meant) = instants.next_if(|instant| *instant <= now) {
                self.due(meant, now);
            }
            self.ask(now);
            self.flush();
            if now >= self.end && (self.is_idle() || now >= self.end + nanos(self.patience) + 1_000_000_000) {
                break;
            }
            let next = instants.peek().copied().unwrap_or(now + 1_000_000).min(now + 10_000_000);
            self.receive(Duration::from_nanos(next.saturating_sub(self.clock.now())))?;
            if now / 100_000_000 != told {
                told = now / 100_000_000;
                progress(share(now, self.end));
            }
        }
        let after = readings(target)?;
        self.account(before.unwrap_or_else(|| after.clone()), after, target)?;
        let now = self.clock.now();
        let mut lost: Vec<Call> = self.waiting.drain(..).collect();
        self.links.abandon(&mut |call, _| lost.push(call));
        lost.into_iter().for_each(|call| self.answered(call, Outcome::Failed, now));
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.links.is_idle()
    }

    fn due(&mut self, meant: u64, now: u64) {
        if meant >= self.begun {
            self.step.asked(meant - self.begun, now - meant);
        }
        self.waiting.push_back(Call { meant, sent: 0, key: self.picks.pick() });
    }

    fn ask(&mut self, now: u64) {
        while let Some(call) = self.waiting.front() {
            let call = Call { sent: now, ..*call };
            if !self.links.ask(call) {
                return;
            }
            self.waiting.pop_front();
        }
    }

    fn flush(&mut self) {
        let now = self.clock.now();
        let mut failed = Vec::new();
        self.links.flush(&mut |call, outcome| failed.push((call, outcome)));
        failed.into_iter().for_each(|(call, outcome)| self.answered(call, outcome, now));
    }

    fn receive(&mut self, wait: Duration) -> Result<()> {
        let ready = self.links.wait(wait)?;
        let mut answers = Vec::new();
        for link in ready {
            self.links.read(link, &mut |call, outcome| answers.push((call, outcome)));
        }
        let now = self.clock.now();
        answers.into_iter().for_each(|(call, outcome)| self.answered(call, outcome, now));
        Ok(())
    }

    fn answered(&mut self, call: Call, outcome: Outcome, now: u64) {
        if outcome == Outcome::Admitted
            && let Some(oracle) = &mut self.oracle
        {
            oracle.admitted(call, now);
        }
        if call.meant >= self.begun {
            self.step.answered(call, outcome, now);
        }
    }

    fn account(&mut self, before: Readings, after: Readings, target: &Target) -> Result<()> {
        self.step.own_cpu = after.own.saturating_sub(before.own);
        for ((watched, before), after) in target.watched.iter().zip(before.watched).zip(after.watched) {
            self.step.used.push(Used {
                name: watched.name.clone(),
                cpu: after.saturating_sub(before),
                resident: usage::resident(watched.pid)?,
            });
        }
        Ok(())
    }
}

#[derive(Clone)]
struct Readings {
    own: Duration,
    watched: Vec<Duration>,
}

fn readings(target: &Target) -> Result<Readings> {
    let watched = target.watched.iter().map(|watched| usage::cpu(watched.pid)).collect::<Result<_>>()?;
    Ok(Readings { own: usage::own()?, watched })
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn share(now: u64, end: u64) -> f64 {
    (now as f64 / end.max(1) as f64).min(1.0)
}
