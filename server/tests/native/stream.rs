use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tollgate_core::rules::Hit;
use tollgate_core::time::Time;
use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::check_answer::Answer;
use tollgate_server::store::{Charging, Clearing, Forgetting, Request as Charge, Store, Usage};
use tonic::{Code, Status, Streaming};

use crate::check::{NOW, RULES, world};
use crate::native_world::{Native, check};
use crate::rls_world::{World, memory};

/// One stream of checks.
struct Stream {
    asks: mpsc::Sender<wire::CheckStreamRequest>,
    answers: Streaming<wire::CheckStreamResponse>,
}

impl Stream {
    async fn open(native: &Native) -> Stream {
        let (asks, asked) = mpsc::channel(64);
        let answers = native.limiter.clone().check_stream(ReceiverStream::new(asked)).await.unwrap();
        Stream { asks, answers: answers.into_inner() }
    }

    async fn ask(&self, items: Vec<wire::CheckItem>) {
        self.asks.send(wire::CheckStreamRequest { items }).await.unwrap();
    }

    /// Waits for `count` answers.
    async fn answers(&mut self, count: usize) -> HashMap<u64, Answer> {
        let mut answers = HashMap::new();
        while answers.len() < count {
            let message = self.answers.message().await.unwrap().unwrap();
            for answer in message.answers {
                assert!(answers.insert(answer.id, answer.answer.unwrap()).is_none(), "answered twice");
            }
        }
        answers
    }
}

fn item(id: u64, check: wire::CheckRequest) -> wire::CheckItem {
    wire::CheckItem { id, check: Some(check) }
}

fn allowed(answer: &Answer) -> bool {
    matches!(answer, Answer::Decision(decision) if decision.allowed)
}

#[tokio::test]
async fn thousands_of_checks_are_told_apart_and_the_limit_is_exact() {
    let (_world, native) = world().await;
    let mut stream = Stream::open(&native).await;
    for batch in 0..10 {
        let items = (0..1_000).map(|at| item(batch * 1_000 + at, check(&["three"]))).collect();
        stream.ask(items).await;
    }
    let answers = stream.answers(10_000).await;
    assert_eq!(answers.values().filter(|answer| allowed(answer)).count(), 3);
    assert!((0..3).all(|id| allowed(&answers[&id])), "in their order");
}

#[tokio::test]
async fn an_item_that_cannot_be_decided_fails_alone() {
    let (_world, native) = world().await;
    let mut stream = Stream::open(&native).await;
    let nothing = wire::CheckItem { id: 8, check: None };
    stream.ask(vec![item(7, wire::CheckRequest::default()), nothing, item(9, check(&["three"]))]).await;
    let answers = stream.answers(3).await;
    let error = |id: u64| match &answers[&id] {
        Answer::Error(error) => (error.code, error.message.as_str()),
        Answer::Decision(decision) => panic!("{decision:?}"),
    };
    assert_eq!(error(7), (i32::from(Code::InvalidArgument), "domain: must not be empty"));
    assert_eq!(error(8), (i32::from(Code::InvalidArgument), "check: must be set"));
    assert!(allowed(&answers[&9]));
}

#[tokio::test]
async fn a_message_that_makes_no_sense_ends_the_stream() {
    let (_world, native) = world().await;
    let ends = async |items: Vec<wire::CheckItem>| -> Status {
        let mut stream = Stream::open(&native).await;
        stream.ask(items).await;
        stream.answers.message().await.unwrap_err()
    };
    let status = ends(Vec::new()).await;
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "items: must not be empty"));
    let many = (0..1_025).map(|id| item(id, check(&["three"]))).collect();
    assert_eq!(ends(many).await.message(), "items: has 1025 items, more than 1024");
}

#[tokio::test]
async fn who_closes_its_side_still_gets_every_answer() {
    let (_world, native) = world().await;
    let mut stream = Stream::open(&native).await;
    stream.ask(vec![item(1, check(&["three"]))]).await;
    let Stream { asks, .. } = stream;
    drop(asks);
    let message = stream.answers.message().await.unwrap().unwrap();
    assert_eq!(message.answers[0].id, 1);
    assert!(stream.answers.message().await.unwrap().is_none(), "and then the end");
}

/// A store whose answers wait until the test lets them go.
struct Slow {
    store: Arc<dyn Store>,
    gate: Semaphore,
    asked: AtomicUsize,
    answered: AtomicUsize,
}

impl Store for Slow {
    fn charge<'a>(&'a self, request: Charge<'a>) -> Charging<'a> {
        self.asked.fetch_add(1, Relaxed);
        Box::pin(async move {
            self.gate.acquire().await.unwrap().forget();
            self.answered.fetch_add(1, Relaxed);
            self.store.charge(request).await
        })
    }

    fn forget<'a>(&'a self, hits: &'a [Hit<'a>], now: Time) -> Forgetting<'a> {
        self.store.forget(hits, now)
    }

    fn clear(&self) -> Clearing<'_> {
        self.store.clear()
    }

    fn usage(&self) -> Usage {
        self.store.usage()
    }
}

fn slow() -> Arc<Slow> {
    let (asked, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Arc::new(Slow { store: memory(), gate: Semaphore::new(0), asked, answered })
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), waited).await.is_ok(), "{what}");
}

#[tokio::test]
async fn checks_wait_for_the_store_side_by_side_and_not_without_bound() {
    let store = slow();
    let world = World::over(store.clone(), RULES, NOW);
    let native = Native::serve(world.engine.clone(), "").await;
    let mut stream = Stream::open(&native).await;
    for batch in 0..10 {
        let items = (0..1_024).map(|at| item(batch * 1_024 + at, check(&["three"]))).collect();
        stream.ask(items).await;
    }
    until("four thousand wait", || store.asked.load(Relaxed) >= 4_096).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(store.asked.load(Relaxed), 4_096, "no more are read");
    store.gate.add_permits(20_000);
    let answers = stream.answers(10_240).await;
    assert_eq!(answers.values().filter(|answer| allowed(answer)).count(), 3);
}

#[tokio::test]
async fn nothing_is_left_of_a_stream_that_was_dropped() {
    let store = slow();
    let world = World::over(store.clone(), RULES, NOW);
    let native = Native::serve(world.engine.clone(), "").await;
    for round in 1..=50 {
        let stream = Stream::open(&native).await;
        stream.ask((0..100).map(|id| item(id, check(&["three"]))).collect()).await;
        until("it is asked", || store.asked.load(Relaxed) >= round * 100).await;
    }
    let held = Arc::strong_count(&store);
    // what still waited would take a permit each
    until("nobody waits", || {
        store.gate.add_permits(1);

        store.gate.available_permits() >= 200
    })
    .await;
    let answered = store.answered.load(Relaxed);
    assert!(answered < 5_000, "{answered} of 5000 were still waiting, {held} hold the store");
}

#[tokio::test]
async fn a_server_that_leaves_asks_first_and_answers_what_it_was_asked() {
    let store = slow();
    let world = World::over(store.clone(), RULES, NOW);
    let (leaving, native) = Native::leaving(world.engine.clone()).await;
    let mut stream = Stream::open(&native).await;
    stream.ask(vec![item(1, check(&["three"]))]).await;
    until("it is asked", || store.asked.load(Relaxed) == 1).await;
    leaving.cancel();
    assert!(stream.answers.message().await.unwrap().unwrap().answers.is_empty(), "it says so");
    store.gate.add_permits(2);
    assert!(allowed(&stream.answers(1).await[&1]), "what was asked is answered");
    stream.ask(vec![item(2, check(&["three"]))]).await;
    assert!(allowed(&stream.answers(1).await[&2]), "also what was on its way");
    drop(stream.asks);
    assert!(stream.answers.message().await.unwrap().is_none());
}
