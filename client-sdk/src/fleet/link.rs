//! The task of a client: connects, keeps the conversation going, connects again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};
use tollgate_core::time::Time;
use tollgate_proto::tollgate::v1 as proto;
use tollgate_proto::tollgate::v1::circuit_breakers_client::CircuitBreakersClient;

use super::FleetTransport;
use super::book::Book;
use super::gate::Gate;
use super::stats::Stats;
use crate::clock::{Clock, SystemClock, duration};
use crate::config::Rolls;
use crate::secure::Authed;

/// First bound of the random pause before the next attempt; doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Highest bound of it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Notices that are taken together.
const NOTICES: usize = 256;
/// Reports are not closer than this, so that many circuits share a message.
pub(super) const GAP: Duration = Duration::from_millis(10);

/// What breakers tell the task. At most one [`Notice::Look`] of a circuit is on its way at once, and one
/// [`Notice::Ask`] within 250 ms, so the queue is bounded by the number of circuits.
#[derive(Debug)]
pub(super) enum Notice {
    /// There is a new circuit.
    Born(Weak<Gate>),
    /// A delta of the circuit may be due sooner.
    Look(u64),
    /// A call of the circuit could be a probe.
    Ask(u64),
    /// Nobody uses the circuit any more.
    Gone(u64),
}

/// Why a conversation is over.
#[derive(Debug)]
pub(super) enum End {
    /// Nobody uses the client any more.
    Dropped,
    /// The connection broke, or there is none.
    Lost(tonic::Status),
}

/// The task.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) service: CircuitBreakersClient<Authed>,
    pub(super) reporter: proto::Reporter,
    pub(super) book: Book,
    pub(super) stats: Arc<Stats>,
    /// Something was said on the present connection.
    pub(super) greeted: bool,
    transport: FleetTransport,
    notices: UnboundedReceiver<Notice>,
    /// Attempts without success.
    failed: u32,
    rolls: Rolls,
}

impl Link {
    pub(super) fn new(
        (service, transport): (CircuitBreakersClient<Authed>, FleetTransport),
        reporter: proto::Reporter,
        notices: UnboundedReceiver<Notice>,
        stats: Arc<Stats>,
        seed: u64,
    ) -> Link {
        Link {
            service,
            reporter,
            book: Book::new(stats.clone(), transport == FleetTransport::Unary),
            stats,
            greeted: false,
            transport,
            notices,
            failed: 0,
            rolls: Rolls::new(seed),
        }
    }

    /// Runs until nobody uses the client any more.
    pub(super) async fn run(mut self) {
        loop {
            let end = match self.transport {
                FleetTransport::Stream => self.converse().await,
                FleetTransport::Unary => self.report().await,
            };
            self.stats.disconnected();
            if std::mem::take(&mut self.greeted) {
                self.book.stream_lost();
            }
            let End::Lost(why) = end else { return };
            let pause = self.pause();
            tell(&why, pause);
            if let Some(End::Dropped) = self.rest(pause).await {
                return;
            }
        }
    }

    /// The server has answered: it is there.
    pub(super) fn answered(&mut self) {
        self.failed = 0;
        self.stats.connected();
    }

    /// Full jitter (Brooker, "Exponential Backoff And Jitter", 2015): clients whose server has gone do not come
    /// back together.
    fn pause(&mut self) -> Duration {
        let bound = FIRST_PAUSE.saturating_mul(1 << self.failed.min(10)).min(LONGEST_PAUSE);
        self.failed = self.failed.saturating_add(1);
        bound.mul_f64(f64::from(self.rolls.next()) / f64::from(u32::MAX))
    }

    /// Waits for `pause`; leases run out meanwhile.
    async fn rest(&mut self, pause: Duration) -> Option<End> {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            let lapse = self.book.next_lapse().map_or(until, |lapse| at(lapse).min(until));
            tokio::select! {
                heard = hear(&mut self.notices, &mut self.book) => if !heard { return Some(End::Dropped) },
                () = sleep_until(lapse) => self.book.lapse(SystemClock.now()),
            }
        }
        None
    }

    /// Waits for what comes first: notices, which are taken, or the next time at which something is due.
    pub(super) async fn next(&mut self, not_before: Instant) -> Option<End> {
        let due = self.book.next_look().map(|look| at(look).max(not_before));
        let due = [due, self.book.next_lapse().map(at)].into_iter().flatten().min();
        let timer = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = hear(&mut self.notices, &mut self.book) => (!heard).then_some(End::Dropped),
            () = timer => {
                self.book.lapse(SystemClock.now());
                None
            }
        }
    }
}

/// A server that is away comes back; one that refuses what it is told does not change by itself.
fn tell(why: &tonic::Status, pause: Duration) {
    use tonic::Code::{InvalidArgument, PermissionDenied, Unauthenticated, Unimplemented};
    if matches!(why.code(), InvalidArgument | PermissionDenied | Unauthenticated | Unimplemented) {
        tracing::warn!(%why, ?pause, "fleet breakers: the server refuses");
    } else {
        tracing::debug!(%why, ?pause, "fleet breakers: no connection");
    }
}

/// Takes notices; false if nobody can send any more. Loses none if it is dropped while it waits.
async fn hear(notices: &mut UnboundedReceiver<Notice>, book: &mut Book) -> bool {
    let mut some = Vec::new();
    if notices.recv_many(&mut some, NOTICES).await == 0 {
        return false;
    }
    some.into_iter().for_each(|notice| book.hear(notice));
    true
}

/// The moment for a timer.
fn at(time: Time) -> Instant {
    Instant::now() + duration(time - SystemClock.now())
}
