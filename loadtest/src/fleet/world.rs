//! The events that connect clients, backend and owner.

mod fate;
mod message;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use anyhow::Result;
use tollgate_core::breaker::fleet::{Directive, Report, ReporterId};
use tollgate_core::time::{Span, Time};

use super::backend::{Arrival, Attempt, Backend};
use super::client::{Client, Granted, Leave, Pass};
use super::measure::{Measured, Meter};
use super::owner::Owner;
use super::scenario::{Scenario, TIMEOUT};
use crate::chance::Chance;

/// One thing that happens.
#[derive(Debug)]
enum Happening {
    /// A call of this client begins.
    Call(usize),
    /// A further attempt of a call begins.
    Again(Call),
    /// The backend has served an attempt.
    Served,
    /// An attempt ends.
    Ended { attempt: Attempt, succeeded: bool },
    /// A client looks whether it has to report.
    Flush(usize),
    /// A report reaches the owner.
    Up(Box<Report>),
    /// A directive reaches a client.
    Down(usize, Box<Directive>),
    /// A client's question for a permit reaches the owner.
    Ask(Call),
    /// The answer reaches the client.
    Answer(Call, Option<Granted>),
    /// The owner looks what is due.
    Wake,
    /// The liar lies.
    Lie,
    /// The owner fails.
    OwnerFails,
    /// A new owner begins.
    OwnerBegins,
}

/// One call on its way.
#[derive(Clone, Copy, Debug)]
struct Call {
    client: usize,
    roll: u32,
    attempt: u32,
}

/// An attempt in the backend.
#[derive(Debug)]
struct Sent {
    call: Call,
    at: Time,
    pass: Pass,
}

/// An event in its place in time; the serial makes the order total.
#[derive(Debug)]
struct Due {
    at: Time,
    serial: u64,
    what: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        (self.at, self.serial) == (other.at, other.serial)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

/// Everything.
struct World {
    scenario: Scenario,
    now: Time,
    serial: u64,
    events: BinaryHeap<Reverse<Due>>,
    chance: Chance,
    clients: Vec<Client>,
    /// When each client looks next whether it has to report.
    flushes: Vec<Time>,
    /// How long a message takes between each client and the owner.
    delays: Vec<Span>,
    backend: Backend,
    owner: Owner,
    owner_wake: Time,
    sent: HashMap<Attempt, Sent>,
    attempts: Attempt,
    meter: Meter,
}

/// Plays a scenario to its end.
///
/// # Errors
/// A configuration out of its range.
pub fn play(scenario: Scenario) -> Result<Measured> {
    let mut world = World::new(scenario)?;
    world.begin();
    while let Some(Reverse(due)) = world.events.pop() {
        if due.at > scenario.end() {
            break;
        }
        world.now = due.at;
        world.happen(due.what);
    }
    let (rounds, openings) = (world.owner.rounds, world.owner.openings);
    let local_faults = world.owner.local_faults;
    Ok(Measured { rounds, openings, local_faults, ..world.meter.finish() })
}

impl World {
    fn new(scenario: Scenario) -> Result<World> {
        let mut chance = Chance::new(scenario.seed);
        let clients = (0..scenario.clients).map(|index| Client::new(&scenario, index, chance.bits()));
        let clients = clients.collect::<Result<Vec<Client>>>()?;
        let mut delay = || chance.between(Span::from_millis(1), Span::from_millis(5));
        Ok(World {
            now: Time::EPOCH,
            serial: 0,
            events: BinaryHeap::new(),
            flushes: vec![Time::MAX; scenario.clients],
            delays: (0..scenario.clients).map(|_| delay()).collect(),
            backend: Backend::new(scenario),
            owner: Owner::new(scenario.fleet_config()?, chance.bits()),
            owner_wake: Time::MAX,
            sent: HashMap::new(),
            attempts: 0,
            meter: Meter::new(scenario),
            scenario,
            clients,
            chance,
        })
    }

    fn push(&mut self, at: Time, what: Happening) {
        self.serial += 1;
        self.events.push(Reverse(Due { at, serial: self.serial, what }));
    }

    fn begin(&mut self) {
        for client in 0..self.scenario.clients {
            self.next_call(client);
            // Instances do not start in step.
            let start = self.now + self.chance.between(Span::ZERO, Span::SECOND);
            self.schedule_flush(client, start);
        }
        self.begin_owner();
    }

    #[expect(clippy::cast_precision_loss, reason = "a number of clients is exact")]
    fn next_call(&mut self, client: usize) {
        let rate = self.scenario.load / self.scenario.clients as f64;
        let at = self.now + self.chance.exponential(rate);
        self.push(at, Happening::Call(client));
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Call(client) => {
                self.next_call(client);
                let roll = self.chance.roll();
                self.attempt(Call { client, roll, attempt: 1 });
            }
            Happening::Again(call) => self.attempt(call),
            Happening::Served => self.served(),
            Happening::Ended { attempt, succeeded } => self.ended(attempt, succeeded),
            Happening::Flush(client) => self.flush(client),
            Happening::Up(report) => self.arrive(&report),
            Happening::Down(client, directive) => self.directed(client, &directive),
            Happening::Ask(call) => self.asked(call),
            Happening::Answer(call, granted) => self.answered(call, granted),
            Happening::Wake => self.wake(),
            Happening::Lie => self.lie(),
            Happening::OwnerFails => self.owner_fails(),
            Happening::OwnerBegins => self.owner_begins(),
        }
    }

    fn attempt(&mut self, call: Call) {
        match self.clients[call.client].ask(self.now, call.roll) {
            Leave::Go(pass) => self.send(call, pass),
            Leave::Refused { ask, sooner } => {
                if ask {
                    self.ask_owner(call);
                } else {
                    self.meter.at(self.now).shed += 1;
                }
                if sooner {
                    self.look(call.client);
                }
            }
        }
    }

    fn send(&mut self, call: Call, pass: Pass) {
        self.meter.at(self.now).sent += 1;
        self.attempts += 1;
        let attempt = self.attempts;
        self.sent.insert(attempt, Sent { call, at: self.now, pass });
        let arrival = self.backend.arrive(self.now, attempt, self.chance.unit());
        let (after, begins) = match arrival {
            Arrival::Fails(after) => (after, false),
            Arrival::Swallowed => (TIMEOUT, false),
            Arrival::Queued => (TIMEOUT, true),
        };
        self.push(self.now + after, Happening::Ended { attempt, succeeded: false });
        if begins {
            self.serve();
        }
    }

    fn serve(&mut self) {
        if let Some(served) = self.backend.begin(self.now) {
            self.push(served, Happening::Served);
        }
    }

    fn served(&mut self) {
        if let Some((attempt, more)) = self.backend.served(self.now) {
            self.push(self.now + more, Happening::Ended { attempt, succeeded: true });
        }
        self.serve();
    }

    fn ended(&mut self, attempt: Attempt, succeeded: bool) {
        // What was answered does not time out, and what timed out is not answered.
        let Some(sent) = self.sent.remove(&attempt) else { return };
        let (call, took) = (sent.call, self.now - sent.at);
        self.meter.ended(self.now, sent.at, succeeded);
        let sooner = self.clients[call.client].ended(self.now, sent.pass, succeeded, took);
        if sooner {
            self.look(call.client);
        }
        if !succeeded && call.attempt < self.scenario.attempts {
            let pause = self.chance.between(Span::from_millis(50), Span::from_millis(150));
            self.push(self.now + pause, Happening::Again(Call { attempt: call.attempt + 1, ..call }));
        }
    }
}
