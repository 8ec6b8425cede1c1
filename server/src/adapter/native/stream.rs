//! `CheckStream`: many checks a message, answered as they are decided.
//!
//! The stream itself drives its checks: what can be decided at once is, before the message after it is read,
//! and what has to wait for the store waits beside the others. No task, no channel; a caller who does not read
//! its answers is not read from. Checks are read from and answers written to the message's bytes directly
//! ([`read`], [`write`]): what generated code would allocate costs more than the decision.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, Stream, StreamExt as _};
use prost::Message as _;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tollgate_proto::tollgate::v1 as wire;
use tonic::Status;

use super::memo::Memory;
use super::read::{self, Item};
use super::turn::Turn;
use super::write::Message;
use super::{NativeService, NotDecided};
use crate::telemetry::metrics::Api;

/// Checks of one stream that may wait for their answers.
const MAX_WAITING: usize = 4_096;
/// Checks in one message.
const MAX_ITEMS: usize = 1_024;
/// Answers in one message.
const MAX_ANSWERS: usize = 1_024;

type Waiting = Pin<Box<dyn Future<Output = (u64, Result<wire::CheckResponse, NotDecided>)> + Send>>;

/// The answers to one stream of checks.
pub(super) struct Answers<S> {
    service: NativeService,
    incoming: S,
    memory: Memory,
    waiting: FuturesUnordered<Waiting>,
    /// Nothing more comes in, and how that ended.
    ended: Option<Result<(), Status>>,
    /// The connection is about to be closed; `None` once the caller has been told.
    leaving: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl<S: Stream<Item = Result<Bytes, Status>> + Unpin> Answers<S> {
    pub(super) fn new(
        service: NativeService,
        incoming: S,
        (leaving, memory): (CancellationToken, Memory),
    ) -> Answers<S> {
        let leaving = Some(Box::pin(leaving.cancelled_owned()));
        Answers { service, incoming, memory, waiting: FuturesUnordered::new(), ended: None, leaving }
    }

    /// Answers that are there now.
    fn gather(&mut self, context: &mut Context<'_>, answers: &mut Message) {
        while answers.len() < MAX_ANSWERS
            && let Poll::Ready(Some((id, answer))) = self.waiting.poll_next_unpin(context)
        {
            answers.told(id, answer.as_ref());
        }
    }

    /// Begins what has come in. Returns whether anything had.
    fn begin(&mut self, context: &mut Context<'_>, answers: &mut Message) -> bool {
        let full = self.waiting.len() >= MAX_WAITING || answers.len() >= MAX_ANSWERS;
        if full || self.ended.is_some() {
            return false;
        }
        match self.incoming.poll_next_unpin(context) {
            Poll::Pending => return false,
            Poll::Ready(None) => self.ended = Some(Ok(())),
            Poll::Ready(Some(Err(status))) => self.ended = Some(Err(status)),
            Poll::Ready(Some(Ok(message))) => {
                if let Err(status) = self.checks(&message, context, answers) {
                    self.ended = Some(Err(status));
                }
            }
        }
        true
    }

    /// Begins every check of one message; a message that makes no sense is not begun at all.
    fn checks(
        &mut self,
        message: &[u8],
        context: &mut Context<'_>,
        answers: &mut Message,
    ) -> Result<(), Status> {
        let broken = || Status::internal("a message of the stream cannot be decoded");
        let items = read::items(message).ok_or_else(broken)?;
        match items.len() {
            0 => return Err(NotDecided::field("items", "must not be empty").into()),
            1..=MAX_ITEMS => {}
            items => {
                let why = format!("has {items} items, more than {MAX_ITEMS}");
                return Err(NotDecided::field("items", why).into());
            }
        }
        answers.expect(items.len());
        let (engine, memory) = (self.service.engine.clone(), self.memory.clone());
        let rules = engine.rules();
        let scope = self.service.scope.clone();
        let mut turn = Turn::new((&engine, scope.as_ref()), rules.as_deref(), memory.lock());
        for Item { id, check } in items {
            let Some(check) = check else {
                answers.told(id, Err(&NotDecided::field("check", "must be set")));
                continue;
            };
            if self.service.sheds(check) {
                answers.told(id, Err(&NotDecided::Shed));
                continue;
            }
            if turn.answer(id, check, answers) {
                continue;
            }
            let check = wire::CheckRequest::decode(check).map_err(|_| broken())?;
            self.wait(id, check, context, answers);
        }
        Ok(())
    }

    fn wait(&mut self, id: u64, check: wire::CheckRequest, context: &mut Context<'_>, answers: &mut Message) {
        let service = self.service.clone();
        let mut decided: Waiting =
            Box::pin(async move { (id, service.answer(&check, None, Api::CheckStream).await) });
        match decided.as_mut().poll(context) {
            Poll::Ready((id, answer)) => answers.told(id, answer.as_ref()),
            Poll::Pending => self.waiting.push(decided),
        }
    }
}

impl<S: Stream<Item = Result<Bytes, Status>> + Unpin> Stream for Answers<S> {
    type Item = Result<Vec<u8>, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut answers = Message::default();
        loop {
            // also what was begun in the last turn has to know whom to wake
            self.gather(context, &mut answers);
            if !self.begin(context, &mut answers) {
                break;
            }
        }
        if answers.len() > 0 {
            return Poll::Ready(Some(Ok(answers.into_bytes())));
        }
        if self.waiting.is_empty()
            && let Some(end) = self.ended.take()
        {
            self.ended = Some(Ok(()));
            return Poll::Ready(end.err().map(Err));
        }
        if let Some(leaving) = &mut self.leaving
            && leaving.as_mut().poll(context).is_ready()
        {
            // no answers: the caller is asked to close its side
            self.leaving = None;
            return Poll::Ready(Some(Ok(Vec::new())));
        }
        Poll::Pending
    }
}
