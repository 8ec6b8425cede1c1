//! A stream in both directions without a task of its own: what comes in is heard, and what there is to say goes out,
//! whenever the connection asks. When the client goes, its connection drops all of it at once.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, Streaming};

/// A conversation, ready to be given to a client.
pub(super) type Said<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Messages that are heard before others on this thread have their turn.
const TURN: usize = 32;

/// One side of a conversation.
pub(super) trait Party: Send + Unpin + 'static {
    /// What comes in.
    type Up: Send + 'static;
    /// What goes out.
    type Down;

    /// Takes a message.
    ///
    /// # Errors
    /// It makes no sense; the stream ends with that.
    fn hear(&mut self, message: Self::Up) -> Result<(), Status>;

    /// The next thing to say.
    fn poll_say(&mut self, context: &mut Context<'_>) -> Poll<Self::Down>;
}

/// A conversation that goes on until the other side has gone or `closing` is cancelled.
pub(super) struct Exchange<P: Party> {
    inbound: Streaming<P::Up>,
    /// `None` when it is over.
    party: Option<P>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<P: Party> Exchange<P> {
    pub(super) fn new(inbound: Streaming<P::Up>, party: P, closing: CancellationToken) -> Exchange<P> {
        Exchange { inbound, party: Some(party), closing: Box::pin(closing.cancelled_owned()) }
    }

    /// Hears what has come in. `Ready` when the conversation is over.
    fn poll_hear(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let Some(party) = &mut self.party else { return Poll::Ready(Ok(())) };
        for _ in 0..TURN {
            match Pin::new(&mut self.inbound).poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(message))) => party.hear(message).map_or_else(Err, |()| Ok(()))?,
                // a client that breaks off is told nothing any more
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Ok(())),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<P: Party> Stream for Exchange<P> {
    type Item = Result<P::Down, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.party.is_none() {
            return Poll::Ready(None);
        }
        if this.closing.as_mut().poll(context).is_ready() {
            this.party = None;
            return Poll::Ready(None);
        }
        if let Poll::Ready(end) = this.poll_hear(context) {
            this.party = None;
            return Poll::Ready(end.err().map(Err));
        }
        match &mut this.party {
            Some(party) => party.poll_say(context).map(|said| Some(Ok(said))),
            None => Poll::Ready(None),
        }
    }
}
