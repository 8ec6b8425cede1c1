//! `CheckStream`: many checks a message, answered as they are decided.
//!
//! The stream itself drives its checks: what can be decided at once is, before the message after it is read,
//! and what has to wait for the store waits beside the others. No task, no channel; a caller who does not read
//! its answers is not read from.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, Stream, StreamExt as _};
use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::check_answer::Answer;
use tonic::{Status, Streaming};

use super::{NativeService, NotDecided, encode};
use crate::telemetry::metrics::Api;

/// Checks of one stream that may wait for their answers.
const MAX_WAITING: usize = 4_096;
/// Checks in one message.
const MAX_ITEMS: usize = 1_024;
/// Answers in one message.
const MAX_ANSWERS: usize = 1_024;

type Waiting = Pin<Box<dyn Future<Output = wire::CheckAnswer> + Send>>;

/// The answers to one stream of checks.
pub struct Answers {
    service: NativeService,
    incoming: Streaming<wire::CheckStreamRequest>,
    waiting: FuturesUnordered<Waiting>,
    /// Nothing more comes in, and how that ended.
    ended: Option<Result<(), Status>>,
}

impl Answers {
    pub(super) fn new(service: NativeService, incoming: Streaming<wire::CheckStreamRequest>) -> Answers {
        Answers { service, incoming, waiting: FuturesUnordered::new(), ended: None }
    }

    /// Answers that are there now.
    fn gather(&mut self, context: &mut Context<'_>, answers: &mut Vec<wire::CheckAnswer>) {
        while answers.len() < MAX_ANSWERS
            && let Poll::Ready(Some(answer)) = self.waiting.poll_next_unpin(context)
        {
            answers.push(answer);
        }
    }

    /// Begins what has come in. Returns whether anything had.
    fn begin(&mut self, context: &mut Context<'_>, answers: &mut Vec<wire::CheckAnswer>) -> bool {
        let full = self.waiting.len() >= MAX_WAITING || answers.len() >= MAX_ANSWERS;
        if full || self.ended.is_some() {
            return false;
        }
        match self.incoming.poll_next_unpin(context) {
            Poll::Pending => return false,
            Poll::Ready(None) => self.ended = Some(Ok(())),
            Poll::Ready(Some(Err(status))) => self.ended = Some(Err(status)),
            Poll::Ready(Some(Ok(message))) => match allowed(&message) {
                Ok(()) => message.items.into_iter().for_each(|item| self.check(item, context, answers)),
                Err(error) => self.ended = Some(Err(error.into())),
            },
        }
        true
    }

    fn check(
        &mut self,
        item: wire::CheckItem,
        context: &mut Context<'_>,
        answers: &mut Vec<wire::CheckAnswer>,
    ) {
        let wire::CheckItem { id, check } = item;
        let Some(check) = check else {
            answers.push(told(id, Err(NotDecided::field("check", "must be set"))));
            return;
        };
        if let Some(answer) = self.service.answer_now(&check, Api::CheckStream) {
            answers.push(told(id, answer));
            return;
        }
        let service = self.service.clone();
        let mut decided: Waiting =
            Box::pin(async move { told(id, service.answer(&check, None, Api::CheckStream).await) });
        match decided.as_mut().poll(context) {
            Poll::Ready(answer) => answers.push(answer),
            Poll::Pending => self.waiting.push(decided),
        }
    }
}

impl Stream for Answers {
    type Item = Result<wire::CheckStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut answers = Vec::new();
        loop {
            // also what was begun in the last turn has to know whom to wake
            self.gather(context, &mut answers);
            if !self.begin(context, &mut answers) {
                break;
            }
        }
        if !answers.is_empty() {
            return Poll::Ready(Some(Ok(wire::CheckStreamResponse { answers })));
        }
        if self.waiting.is_empty()
            && let Some(end) = self.ended.take()
        {
            self.ended = Some(Ok(()));
            return Poll::Ready(end.err().map(Err));
        }
        Poll::Pending
    }
}

fn allowed(message: &wire::CheckStreamRequest) -> Result<(), NotDecided> {
    match message.items.len() {
        0 => Err(NotDecided::field("items", "must not be empty")),
        1..=MAX_ITEMS => Ok(()),
        items => Err(NotDecided::field("items", format!("has {items} items, more than {MAX_ITEMS}"))),
    }
}

fn told(id: u64, answer: Result<wire::CheckResponse, NotDecided>) -> wire::CheckAnswer {
    wire::CheckAnswer { id, answer: Some(answer.map_or_else(failed, Answer::Decision)) }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of a map")]
fn failed(error: NotDecided) -> Answer {
    let pause = error.code().retry_after();
    Answer::Error(wire::ItemError {
        code: error.code().grpc().into(),
        message: error.to_string(),
        retry_after: pause.map(encode::pause),
    })
}
