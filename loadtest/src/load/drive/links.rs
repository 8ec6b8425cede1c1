//! All connections, and which of them has something to read.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use super::Target;
use super::link::Link;
use crate::load::scenario::Scenario;
use crate::load::wire::{Call, Sink, wire};

/// What is read at once.
const BUFFER: usize = 256 << 10;

/// The connections of a step.
pub(super) struct Links {
    scenario: Scenario,
    links: Vec<Option<Link>>,
    addresses: Vec<SocketAddr>,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    /// Who is asked next.
    next: usize,
    /// Those with something to write.
    touched: Vec<usize>,
    open: usize,
    /// Connections made again.
    turns_until_retry: u32,
}

impl Links {
    pub(super) fn open(scenario: &Scenario, target: &Target) -> Result<Links> {
        let mut links = Links {
            scenario: scenario.clone(),
            links: Vec::new(),
            addresses: target.addresses.clone(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(256),
            buffer: vec![0; BUFFER],
            next: 0,
            touched: Vec::new(),
            open: 0,
            turns_until_retry: 0,
        };
        for place in 0..usize::try_from(scenario.connections)? {
            links.links.push(None);
            links.connect(place)?;
        }
        Ok(links)
    }

    fn connect(&mut self, place: usize) -> Result<()> {
        let address = self.addresses[place % self.addresses.len()];
        let link = Link::connect(address, wire(&self.scenario, &address.to_string()))?;
        let data = epoll::EventData::new_u64(place as u64);
        epoll::add(&self.epoll, &link.socket, data, epoll::EventFlags::IN)?;
        self.links[place] = Some(link);
        self.touched.push(place);
        Ok(())
    }

    /// Whether nobody waits for an answer.
    pub(super) fn is_idle(&self) -> bool {
        self.open == 0
    }

    /// Asks on the next connection that has room; no if none has.
    pub(super) fn ask(&mut self, call: Call) -> bool {
        for _ in 0..self.links.len() {
            let place = self.next;
            self.next = (self.next + 1) % self.links.len();
            let Some(link) = self.links[place].as_mut().filter(|link| link.wire.room() > 0) else { continue };
            link.wire.ask(call);
            self.open += 1;
            self.touched.push(place);
            return true;
        }
        false
    }

    /// Writes what was asked, and makes lost connections again.
    pub(super) fn flush(&mut self, answers: &mut Sink<'_>) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for &place in &touched {
            let Some(link) = &mut self.links[place] else { continue };
            if link.flush().is_err() {
                self.lose(place, answers);
            } else if self.links[place].as_ref().is_some_and(|link| link.is_full) {
                self.touched.push(place);
            }
        }
        self.reconnect();
    }

    /// Makes lost connections again, not in every turn: a connect may take its time.
    fn reconnect(&mut self) {
        if self.turns_until_retry > 0 {
            self.turns_until_retry -= 1;
            return;
        }
        let Some(place) = self.links.iter().position(Option::is_none) else { return };
        if self.connect(place).is_err() {
            self.turns_until_retry = 100;
        }
    }

    /// Waits until something can be read, at most so long: the places of who has it.
    /// The kernel wakes up to a millisecond late, so that the last one is spent looking again and again.
    pub(super) fn wait(&mut self, time: Duration) -> Result<Vec<usize>> {
        let time = Timespec::try_from(time.saturating_sub(Duration::from_millis(1)))?;
        self.events.clear();
        let waited = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&time));
        match waited {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let place = |event: &epoll::Event| usize::try_from(event.data.u64()).ok();
        Ok(self.events.iter().filter_map(place).collect())
    }

    /// Reads from one.
    pub(super) fn read(&mut self, place: usize, answers: &mut Sink<'_>) {
        let Some(link) = &mut self.links[place] else { return };
        let open = &mut self.open;
        let read = link.read(&mut self.buffer, &mut |call, outcome| {
            *open = open.saturating_sub(1);
            answers(call, outcome);
        });
        // one that the server wants to be rid of is left once everything has been answered
        if read.is_err() || link.wire.is_leaving() && link.wire.open() == 0 {
            self.lose(place, answers);
            return;
        }
        // acknowledgements and windows
        if !link.wire.outgoing().is_empty() {
            self.touched.push(place);
        }
    }

    fn lose(&mut self, place: usize, answers: &mut Sink<'_>) {
        let Some(mut link) = self.links[place].take() else { return };
        let open = &mut self.open;
        link.wire.lost(&mut |call, outcome| {
            *open = open.saturating_sub(1);
            answers(call, outcome);
        });
    }

    /// Gives up on whoever has no answer.
    pub(super) fn abandon(&mut self, answers: &mut Sink<'_>) {
        for place in 0..self.links.len() {
            self.lose(place, answers);
        }
    }
}
