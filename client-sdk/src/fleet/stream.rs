//! The conversation over one stream.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tollgate_proto::tollgate::v1 as proto;
use tonic::{Response, Status};

use super::MAX_CIRCUITS;
use super::link::{End, GAP, Link};
use crate::clock::{Clock, SystemClock};

/// Longest wait for the server's first word on the connection.
const OPENING: Duration = Duration::from_secs(5);
/// Messages that wait to be sent: as many as the greeting of a client with the most circuits has, and some.
const OUTBOUND: usize = 64;
const _: () = assert!(OUTBOUND > MAX_CIRCUITS.div_ceil(256));
/// The pause if that many wait.
const STUCK: Duration = Duration::from_millis(50);

type Up = mpsc::Sender<proto::SyncRequest>;

impl Link {
    /// Talks until the stream ends.
    pub(super) async fn converse(&mut self) -> End {
        let (up, outbound) = mpsc::channel(OUTBOUND);
        let wanted = Arc::new(Notify::new());
        let asked = wanted.clone();
        let mut service = self.service.clone();
        let call = async move { service.sync(telling(asked, outbound)).await };
        let mut opening = std::pin::pin!(timeout(OPENING, call));
        let mut not_before = Instant::now();
        let mut down = loop {
            tokio::select! {
                opened = &mut opening => match opened {
                    Ok(Ok(opened)) => break Response::into_inner(opened),
                    Ok(Err(status)) => return End::Lost(status),
                    Err(_) => return End::Lost(Status::deadline_exceeded("the server does not answer")),
                },
                () = wanted.notified(), if !self.greeted => self.greet(&up),
                end = self.next(not_before) => if let Some(end) = end { return end },
            }
            not_before = if self.greeted { self.say(&up) } else { Instant::now() + STUCK };
        };
        if !self.greeted {
            self.greet(&up);
        }
        loop {
            tokio::select! {
                said = down.next() => match said {
                    Some(Ok(said)) => self.obey(said),
                    Some(Err(status)) => return End::Lost(status),
                    None => return End::Lost(Status::unavailable("the server has ended the stream")),
                },
                end = self.next(not_before) => if let Some(end) = end { return end },
            }
            not_before = self.say(&up);
        }
    }

    /// Who we are, what we believe, what we want to hear of, and what was not acknowledged.
    fn greet(&mut self, up: &Up) {
        self.greeted = true;
        let now = SystemClock.now();
        let mut reporter = Some(self.reporter.clone());
        let mut groups = self.book.groups();
        if groups.is_empty() {
            groups.push(Vec::new());
        }
        for group in groups {
            let batch = self.book.greet(&group, now);
            self.stats.sent(batch.deltas.len());
            // the channel is empty and has room for all groups
            let _fits = up.try_send(batch.request(reporter.take()));
        }
    }

    /// Sends what is due, as far as there is room. Returns when to do so again at the earliest.
    fn say(&mut self, up: &Up) -> Instant {
        let now = SystemClock.now();
        if self.book.next_look().is_none_or(|look| look > now) {
            return Instant::now();
        }
        loop {
            let Ok(room) = up.try_reserve() else { return Instant::now() + STUCK };
            let batch = self.book.due(now);
            if batch.is_empty() {
                return Instant::now() + GAP;
            }
            self.stats.sent(batch.deltas.len());
            room.send(batch.request(None));
        }
    }

    pub(super) fn obey(&mut self, said: proto::SyncResponse) {
        self.answered();
        let now = SystemClock.now();
        said.directives.into_iter().for_each(|directive| self.book.follow(directive, now));
    }
}

/// What comes out of `outbound`; tells `asked` when it is asked for it first. That is when there is a connection: a
/// greeting for one that never comes would be written in vain.
fn telling(
    asked: Arc<Notify>,
    outbound: mpsc::Receiver<proto::SyncRequest>,
) -> impl Stream<Item = proto::SyncRequest> {
    let tell = stream::once(async move { asked.notify_one() });
    tell.filter_map(|()| None).chain(ReceiverStream::new(outbound))
}
