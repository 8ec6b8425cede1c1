//! Many checks over one stream: whatever waits while the writer is busy shares its next message.
//!
//! The request body is pulled by the connection whenever it can take more bytes; each pull takes all that has
//! been queued by then. A check that finds nothing under way is sent at once. While a message is under way, the
//! others gather until it is answered ([`hold`], as commits of a database share a write): callers who were woken
//! by one message ask in one. While checks are in flight the writer also lets the runtime run its other tasks
//! once before it pulls.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use foldhash::fast::FixedState;
use futures_util::Stream;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tollgate_proto::tollgate::v1::{
    CheckAnswer, CheckItem, CheckRequest, CheckResponse, CheckStreamRequest, CheckStreamResponse,
    check_answer,
};
use tonic::{Status, Streaming};

use self::hold::{Hold, Rounds};
use super::fault::Fault;

mod hold;

/// A stream that has not answered anything for this long, though it was asked, is given up.
const STALLED: Duration = Duration::from_secs(5);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes of checks after which a message is full: servers take messages of 4 MiB at most.
const LARGEST: usize = 1 << 20;
/// How long a stream that is no longer used may take to answer what it was asked.
const DRAIN: Duration = Duration::from_secs(1);

type Answer = Result<CheckResponse, Fault>;

/// How checks share messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coalesce {
    /// Most checks of one message.
    pub(super) batch: usize,
    /// Most checks that wait for an answer on one stream.
    pub(super) in_flight: usize,
}

struct Queued {
    id: u64,
    check: CheckRequest,
    /// Bytes of it.
    size: usize,
    answer: oneshot::Sender<Answer>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Who waits for which answer.
    callers: HashMap<u64, oneshot::Sender<Answer>, FixedState>,
    /// The stream has ended; nobody will answer.
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Checks that hold a place: queued or not answered.
    places: AtomicUsize,
    next_id: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
    rounds: Rounds,
}

impl Shared {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The callers' end of a stream.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    queue: mpsc::Sender<Queued>,
    shared: Arc<Shared>,
    coalesce: Coalesce,
}

/// A place among the checks in flight. Dropped, it is free again and nobody waits for the answer.
struct Place<'l> {
    shared: &'l Shared,
    id: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.waiting().callers.remove(&self.id);
        self.shared.places.fetch_sub(1, Relaxed);
    }
}

impl Lane {
    /// A lane, and the body of the request that carries its checks.
    pub(super) fn new(coalesce: Coalesce) -> (Lane, Outbound) {
        let (queue, queued) = mpsc::channel(coalesce.in_flight);
        let shared = Arc::new(Shared::default());
        let outbound = Outbound {
            queued,
            shared: shared.clone(),
            batch: coalesce.batch,
            taken: Vec::new(),
            turned: false,
            hold: Hold::default(),
        };
        (Lane { queue, shared, coalesce }, outbound)
    }

    /// Asks, and waits for the answer. Dropping the future withdraws a check that has not been sent yet.
    pub(super) async fn ask(&self, check: CheckRequest) -> Answer {
        let place = self.place()?;
        let (answer, answered) = oneshot::channel();
        let queued = Queued { id: place.id, size: check.encoded_len(), check, answer };
        self.queue.try_send(queued).map_err(|_| Fault::not_sent("the stream has ended"))?;
        if self.queue.max_capacity() - self.queue.capacity() >= self.coalesce.batch {
            // enough for a message: no more company is waited for
            self.shared.rounds.wake();
        }
        match answered.await {
            Ok(answer) => answer,
            // dropped with the queue, before it was put into a message
            Err(_) => Err(Fault::not_sent("the stream has ended")),
        }
    }

    fn place(&self) -> Result<Place<'_>, Fault> {
        let limit = self.coalesce.in_flight;
        let free = |taken: usize| (taken < limit).then_some(taken + 1);
        let shared = &*self.shared;
        if shared.places.fetch_update(Relaxed, Relaxed, free).is_err() {
            return Err(Fault::Overloaded { limit });
        }
        Ok(Place { shared, id: shared.next_id.fetch_add(1, Relaxed) })
    }

    /// Checks that are queued or not answered yet.
    pub(super) fn in_flight(&self) -> usize {
        self.shared.places.load(Relaxed)
    }

    /// Hands out answers until the stream ends, stalls, or is told to `stop` and has answered what it was
    /// asked. Whether anything was answered.
    pub(super) async fn serve(
        &self,
        mut inbound: Streaming<CheckStreamResponse>,
        stop: &CancellationToken,
    ) -> bool {
        let end = tokio::select! {
            end = self.read(&mut inbound) => end,
            () = self.stalled() => "no answer for a long time".into(),
            () = stop.cancelled() => {
                // bounded, and whatever is not answered by then is told so below
                let _ = tokio::time::timeout(DRAIN, self.drain(&mut inbound)).await;
                "the client is closed".into()
            }
        };
        self.end(&end);
        self.shared.answered.load(Relaxed) > 0
    }

    async fn read(&self, inbound: &mut Streaming<CheckStreamResponse>) -> Arc<str> {
        loop {
            match inbound.message().await {
                // a server that is about to leave says so: nothing more is sent, what was sent is answered
                Ok(Some(message)) if message.answers.is_empty() => {
                    self.shared.waiting().ended = true;
                    self.shared.rounds.heard();
                    let _ = tokio::time::timeout(DRAIN, self.drain(inbound)).await;
                    return "the server leaves".into();
                }
                Ok(Some(message)) => self.deliver(message),
                Ok(None) => return "the stream has ended".into(),
                Err(status) => return described(&status),
            }
        }
    }

    async fn drain(&self, inbound: &mut Streaming<CheckStreamResponse>) {
        while self.in_flight() > 0 {
            let Ok(Some(message)) = inbound.message().await else { return };
            self.deliver(message);
        }
    }

    async fn stalled(&self) {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            tokio::time::sleep(LOOK).await;
            let answered = self.shared.answered.load(Relaxed);
            let idle = self.shared.sent.load(Relaxed) <= answered;
            if idle || answered != seen {
                (seen, since) = (answered, Instant::now());
            } else if since.elapsed() >= STALLED {
                return;
            }
        }
    }

    fn deliver(&self, message: CheckStreamResponse) {
        self.shared.answered.fetch_add(message.answers.len() as u64, Relaxed);
        let mut waiting = self.shared.waiting();
        for CheckAnswer { id, answer } in message.answers {
            let Some(caller) = waiting.callers.remove(&id) else { continue };
            let answer = match answer {
                Some(check_answer::Answer::Decision(decision)) => Ok(decision),
                Some(check_answer::Answer::Error(error)) => Err(Fault::of_item(&error)),
                None => Err(Fault::malformed()),
            };
            // a caller that has gone does not mind
            let _ = caller.send(answer);
        }
        drop(waiting);
        // after the callers, so that they ask again before the writer looks
        self.shared.rounds.heard();
    }

    /// Tells everybody who waits that no answer will come.
    fn end(&self, why: &Arc<str>) {
        let callers = {
            let mut waiting = self.shared.waiting();
            waiting.ended = true;
            std::mem::take(&mut waiting.callers)
        };
        for caller in callers.into_values() {
            let _ = caller.send(Err(Fault::Lost(why.clone())));
        }
        self.shared.rounds.heard();
    }
}

fn described(status: &Status) -> Arc<str> {
    format!("the stream failed: {:?}: {}", status.code(), status.message()).into()
}

/// The body of the request: a message whenever the connection can take one.
pub(super) struct Outbound {
    queued: mpsc::Receiver<Queued>,
    shared: Arc<Shared>,
    batch: usize,
    taken: Vec<Queued>,
    /// Others have had their turn.
    turned: bool,
    hold: Hold,
}

impl Outbound {
    /// Whether to let the other tasks run first: checks in flight mean that others may be about to ask.
    fn lets_others_run(&mut self, cx: &Context<'_>) -> bool {
        let few = self.queued.len() < self.batch;
        if self.turned || !few || self.queued.is_empty() || self.shared.places.load(Relaxed) < 2 {
            return false;
        }
        self.turned = true;
        cx.waker().wake_by_ref();
        true
    }

    /// Whether to wait for an answer that is under way, and for who will ask after it.
    fn gathers(&mut self, cx: &mut Context<'_>) -> bool {
        let queued = self.queued.len();
        let few = queued > 0 && queued < self.batch;
        // whoever holds a place and is not queued waits for an answer
        let asked = || self.shared.places.load(Relaxed) > queued;
        few && self.hold.holds(&self.shared.rounds, asked, cx)
    }

    /// Takes what is queued; 0 if there will be nothing more.
    fn take(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let taken = ready!(self.queued.poll_recv_many(cx, &mut self.taken, self.batch));
        self.turned = false;
        Poll::Ready(taken)
    }

    /// Puts into a message what is still wanted.
    fn message(&mut self) -> CheckStreamRequest {
        let (mut full, mut fit) = (0, 0);
        for queued in &self.taken {
            full += queued.size;
            if fit > 0 && full > LARGEST {
                break;
            }
            fit += 1;
        }
        let mut waiting = self.shared.waiting();
        let mut items = Vec::with_capacity(fit);
        for Queued { id, check, answer, .. } in self.taken.drain(..fit) {
            if answer.is_closed() {
                continue;
            }
            if waiting.ended {
                let _ = answer.send(Err(Fault::not_sent("the stream has ended")));
                continue;
            }
            waiting.callers.insert(id, answer);
            items.push(CheckItem { id, check: Some(check) });
        }
        drop(waiting);
        self.shared.sent.fetch_add(items.len() as u64, Relaxed);
        CheckStreamRequest { items }
    }
}

impl Stream for Outbound {
    type Item = CheckStreamRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<CheckStreamRequest>> {
        let this = &mut *self;
        if this.taken.is_empty() && (this.gathers(cx) || this.lets_others_run(cx)) {
            return Poll::Pending;
        }
        loop {
            if this.taken.is_empty() && ready!(this.take(cx)) == 0 {
                return Poll::Ready(None);
            }
            let message = this.message();
            if !message.items.is_empty() {
                this.hold.sent(&this.shared.rounds);
                return Poll::Ready(Some(message));
            }
        }
    }
}

#[cfg(test)]
mod tests;
