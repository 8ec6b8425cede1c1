//! How groups of hits travel: those that wait for one server at one moment share a call of the script.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, cmd};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use tollgate_core::time::Span;

use super::lane::{Lanes, Linked};
use super::report::Report;
use super::script::Script;
use super::shard::{Shard, Told, Waiting};
use super::slots::Topology;
use super::{Options, fault, reply};
use crate::clock::Clock;
use crate::store::Fault;

/// Pause before a group of several keys is tried again whose slot is moving.
const MOVING: Duration = Duration::from_millis(5);

/// Groups of hits on their way to Redis.
pub(super) struct Sender {
    pub(super) options: Options,
    pub(super) lanes: Arc<Lanes>,
    pub(super) topology: ArcSwap<Topology>,
    pub(super) report: Arc<Report>,
    pub(super) clock: Arc<dyn Clock>,
    script: Script,
}

/// A group of hits, ready to be sent. All keys are in one slot.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) slot: u16,
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) arguments: Vec<u8>,
}

/// The way to one server at one moment.
#[derive(Clone)]
struct Way<'s> {
    shard: &'s Arc<Shard>,
    lane: usize,
    linked: Arc<Linked>,
}

impl Sender {
    pub(super) fn new(options: Options, lanes: Arc<Lanes>, clock: Arc<dyn Clock>) -> Sender {
        let topology = Topology::single(&options.prefix, lanes.count());
        let (topology, report) = (ArcSwap::from_pointee(topology), Arc::default());
        Sender { options, lanes, topology, report, clock, script: Script::new() }
    }

    /// Sends a group and waits for what the script says to it, at most for `patience` and twice the time of a
    /// call (once in the queue, once on the way).
    pub(super) async fn ask(self: &Arc<Sender>, group: Group, patience: Span) -> Result<Told, Fault> {
        let shard = self.topology.load().shard(group.slot).clone();
        if shard.gate.is_open() {
            return Err(Fault::Open);
        }
        let _entered = shard.enter(self.options.max_waiting).ok_or(Fault::Overloaded)?;
        self.report.groups.fetch_add(1, Relaxed);
        let patience = Duration::from_micros(patience.as_micros()).min(self.call_timeout() * 2);
        let until = Instant::now() + patience;
        let (reply, told) = oneshot::channel();
        let sent = Arc::new(AtomicBool::new(false));
        let Group { slot, keys, arguments } = group;
        let answers = shard.answers();
        let lane = self.lanes.mine();
        if shard.push(lane, Waiting { slot, keys, arguments, until, sent: sent.clone(), reply }) {
            tokio::spawn(self.clone().flush(shard.clone(), lane));
        }
        match timeout_at(until, told).await {
            Ok(Ok(told)) => told,
            // the runtime of the flush is shutting down; a flush also drops whom it finds too late
            Ok(Err(_)) if Instant::now() < until => Err(Fault::Unreachable),
            // it answers others, but has no time for this one
            _ if !sent.load(Relaxed) && shard.answers() > answers => Err(Fault::Overloaded),
            _ => Err(Fault::Timeout),
        }
    }

    pub(super) fn call_timeout(&self) -> Duration {
        self.options.access.call_timeout
    }

    /// Sends batch after batch until nobody waits in this lane.
    async fn flush(self: Arc<Sender>, shard: Arc<Shard>, lane: usize) {
        let mut flushing = Flushing { shard: &shard, lane, ended: false };
        loop {
            // whoever else is woken in this tick joins the batch
            tokio::task::yield_now().await;
            let batch = shard.pull(lane);
            if batch.is_empty() {
                flushing.ended = true;
                return;
            }
            self.send(&shard, lane, batch).await;
        }
    }

    async fn send(self: &Arc<Sender>, shard: &Arc<Shard>, lane: usize, batch: Vec<Waiting>) {
        let now = Instant::now();
        let batch: Vec<Waiting> =
            batch.into_iter().filter(|waiting| waiting.until > now && !waiting.reply.is_closed()).collect();
        if batch.is_empty() {
            return;
        }
        if shard.gate.is_open() {
            return answer_all(batch, Fault::Open);
        }
        batch.iter().for_each(|waiting| waiting.sent.store(true, Relaxed));
        match self.way(shard, lane).await {
            Ok(way) => {
                let batches = by_slot(batch, self.is_cluster()).into_iter();
                join_all(batches.map(|batch| self.call(way.clone(), batch))).await;
            }
            Err(fault) => {
                self.failed(shard);
                answer_all(batch, fault);
            }
        }
    }

    async fn way<'s>(&self, shard: &'s Arc<Shard>, lane: usize) -> Result<Way<'s>, Fault> {
        let needs = shard.gate.epoch();
        let linked = self.lanes.linked(lane, needs, self.call_timeout(), &self.report).await?;
        Ok(Way { shard, lane, linked })
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.options.access.target, super::Target::Cluster(_))
    }

    /// Calls the script once for all groups of `batch`; once more if the connection had broken before.
    async fn call(self: &Arc<Sender>, mut way: Way<'_>, batch: Vec<Waiting>) {
        for attempt in 0.. {
            let failed = match self.evaluate(&way, &batch).await {
                Ok((told, replicated)) => return tell(batch, told, replicated),
                Err(failed) => failed,
            };
            match failed.then {
                // a slot that moves cannot serve keys of both its places in one call
                Then::OneByOne if batch.len() > 1 => {
                    let alone = |waiting| Box::pin(self.call(way.clone(), vec![waiting]));
                    join_all(batch.into_iter().map(alone)).await;
                    return;
                }
                Then::Reconnect if attempt == 0 => match self.way(way.shard, way.lane).await {
                    Ok(again) => way = again,
                    Err(fault) => return self.give_up(way.shard, batch, fault),
                },
                // the move of a slot takes a while; its caller may have that much time
                Then::OneByOne if batch.iter().any(|waiting| waiting.until > Instant::now() + MOVING) => {
                    tokio::time::sleep(MOVING).await;
                }
                Then::OneByOne => return answer_all(batch, failed.fault),
                Then::Reconnect | Then::GiveUp => return self.give_up(way.shard, batch, failed.fault),
            }
        }
    }

    fn give_up(self: &Arc<Sender>, shard: &Arc<Shard>, batch: Vec<Waiting>, fault: Fault) {
        self.failed(shard);
        answer_all(batch, fault);
    }

    async fn evaluate(
        self: &Arc<Sender>,
        way: &Way<'_>,
        batch: &[Waiting],
    ) -> Result<(Vec<Vec<u8>>, bool), Failed> {
        self.report.calls.fetch_add(1, Relaxed);
        let Some(slot) = batch.first().map(|waiting| waiting.slot) else { return Ok((Vec::new(), true)) };
        let began = Instant::now();
        let mut result = self.round_trip(way, slot, self.command("EVALSHA", batch)).await;
        self.report.times.record(began.elapsed());
        if matches!(&result, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
            // nothing was executed; EVAL brings the script along and leaves it there
            result = self.round_trip(way, slot, self.command("EVAL", batch)).await;
        }
        let value = result.map_err(|error| self.call_failed(way, &error))?;
        let Some((theirs, told)) = told(value, batch.len()) else {
            self.report.call_failed(Fault::Garbled, None);
            return Err(Failed { fault: Fault::Garbled, then: Then::GiveUp });
        };
        let now = Instant::now();
        let in_time = batch.iter().any(|waiting| waiting.until >= now);
        way.shard.answered(theirs, self.clock.now(), in_time);
        if refused_writes(&told) {
            return Err(self.read_only(way));
        }
        Ok((told, self.replicated(way, slot).await))
    }

    async fn round_trip(&self, way: &Way<'_>, slot: u16, command: Cmd) -> Result<Value, RedisError> {
        let mut link = way.linked.link.clone();
        match timeout(self.call_timeout(), link.send(slot, command)).await {
            Ok(result) => result,
            Err(_) => Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))),
        }
    }

    /// Whether as many replicas as wanted have everything that this connection wrote.
    async fn replicated(&self, way: &Way<'_>, slot: u16) -> bool {
        let wanted = self.options.wait_replicas;
        if wanted == 0 {
            return true;
        }
        let patience = u64::try_from(self.call_timeout().as_millis() / 2).unwrap_or(u64::MAX).max(1);
        let mut command = cmd("WAIT");
        command.arg(wanted).arg(patience);
        match self.round_trip(way, slot, command).await {
            Ok(Value::Int(replicas)) => replicas >= i64::from(wanted),
            _ => false,
        }
    }

    fn command(&self, name: &str, batch: &[Waiting]) -> Cmd {
        let keys = batch.iter().map(|waiting| waiting.keys.len()).sum::<usize>();
        let mut command = cmd(name);
        command.arg(if name == "EVAL" { self.script.text() } else { self.script.sha1() }).arg(keys);
        for key in batch.iter().flat_map(|waiting| &waiting.keys) {
            command.arg(key.as_slice());
        }
        for waiting in batch {
            command.arg(waiting.arguments.as_slice());
        }
        command
    }

    /// The server takes no writes: it is a replica now, and another one the master.
    fn read_only(&self, way: &Way<'_>) -> Failed {
        self.report.call_failed(Fault::ReadOnly, None);
        if self.is_cluster() {
            return Failed { fault: Fault::ReadOnly, then: Then::GiveUp };
        }
        self.lanes.drop_link(way.lane, &way.linked);
        Failed { fault: Fault::ReadOnly, then: Then::Reconnect }
    }

    fn call_failed(&self, way: &Way<'_>, error: &RedisError) -> Failed {
        let fault = fault::of(error);
        self.report.call_failed(fault, Some(error));
        let broken = fault::is_of_the_connection(error) && fault != Fault::Timeout;
        let then = if fault::is_of_the_move(error) {
            Then::OneByOne
        } else if broken && !self.is_cluster() {
            // a cluster's client sees to its connections itself
            self.lanes.drop_link(way.lane, &way.linked);
            Then::Reconnect
        } else {
            Then::GiveUp
        };
        Failed { fault, then }
    }

    /// Notes that a server failed; the third time in a row it is left alone until a probe succeeds.
    fn failed(self: &Arc<Sender>, shard: &Arc<Shard>) {
        if shard.gate.failed() {
            tracing::warn!(first_slot = shard.first_slot, "Redis is not asked until a probe succeeds");
            tokio::spawn(self.clone().probe(shard.clone()));
        }
    }
}

/// Why a call came to nothing.
struct Failed {
    fault: Fault,
    then: Then,
}

/// What may help.
enum Then {
    /// The same groups, each in a call of its own.
    OneByOne,
    /// Another connection. What was under way on the broken one may have been charged: then it counts twice,
    /// unless it has an id.
    Reconnect,
    GiveUp,
}

/// Frees its place when the flush ends early.
struct Flushing<'s> {
    shard: &'s Shard,
    lane: usize,
    ended: bool,
}

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.shard.abandon(self.lane);
        }
    }
}

fn tell(batch: Vec<Waiting>, told: Vec<Vec<u8>>, replicated: bool) {
    for (waiting, bytes) in batch.into_iter().zip(told) {
        // a caller that is gone has its answer all the same
        let _gone = waiting.reply.send(Ok(Told { bytes, replicated }));
    }
}

fn answer_all(batch: Vec<Waiting>, fault: Fault) {
    for waiting in batch {
        let _gone = waiting.reply.send(Err(fault));
    }
}

/// In a cluster one call serves one slot.
fn by_slot(mut batch: Vec<Waiting>, cluster: bool) -> Vec<Vec<Waiting>> {
    if !cluster || batch.len() == 1 {
        return vec![batch];
    }
    batch.sort_by_key(|waiting| waiting.slot);
    let mut batches: Vec<Vec<Waiting>> = Vec::new();
    for waiting in batch {
        match batches.last_mut() {
            Some(last) if last[0].slot == waiting.slot => last.push(waiting),
            _ => batches.push(vec![waiting]),
        }
    }
    batches
}

/// Whether some group was not written because the server is no master. Nothing of the call was written then.
fn refused_writes(told: &[Vec<u8>]) -> bool {
    let replica = |text: String| text.contains("READONLY");
    told.iter().any(|reply| reply::failure(reply).is_some_and(replica))
}

/// The server's time and what it told each of `groups`.
fn told(value: Value, groups: usize) -> Option<(i64, Vec<Vec<u8>>)> {
    let Value::Array(parts) = value else { return None };
    let mut parts = parts.into_iter();
    let Some(Value::Int(now)) = parts.next() else { return None };
    let told: Option<Vec<Vec<u8>>> = parts
        .map(|part| match part {
            Value::BulkString(bytes) => Some(bytes),
            _ => None,
        })
        .collect();
    told.filter(|told| told.len() == groups).map(|told| (now, told))
}
