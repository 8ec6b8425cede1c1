use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_stream::wrappers::ReceiverStream;
use tollgate_proto::tollgate::v1 as wire;
use tollgate_proto::tollgate::v1::Criticality;
use tollgate_proto::tollgate::v1::check_answer::Answer;
use tollgate_server::overload::Overload;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::check::{NOW, RULES};
use crate::native_world::{Native, check};
use crate::rls_world::World;

const CLASSES: [Criticality; 2] = [Criticality::Sheddable, Criticality::CriticalPlus];

/// Of each class, how many checks were decided and how many were shed.
type Counts = [(u32, u32); 2];

fn of(class: Criticality) -> wire::CheckRequest {
    wire::CheckRequest { criticality: class.into(), ..check(&["free"]) }
}

/// A server on this thread that sheds when it is later than a millisecond on average.
async fn served() -> (World, Arc<Overload>, Native) {
    let world = World::new(RULES, NOW);
    let overload = Arc::new(Overload::new(Duration::from_millis(1), 1).unwrap());
    let gate = overload.gate();
    tokio::spawn(gate.clone().watch());
    let native = Native::behind(world.engine.clone(), gate).await;
    (world, overload, native)
}

/// Everything on this thread has to wait, the server too: that is what too much work looks like.
#[expect(clippy::disallowed_methods, reason = "the thread itself has to be late, not a clock")]
fn be_busy() {
    std::thread::sleep(Duration::from_millis(10));
}

async fn unary(native: &Native, counts: &mut Counts) -> Option<Status> {
    let mut shed = None;
    for (class, counts) in CLASSES.into_iter().zip(counts) {
        let calls = (0..30).map(|_| {
            let mut limiter = native.limiter.clone();
            async move { limiter.check(of(class)).await }
        });
        for answer in join_all(calls).await {
            counts.0 += u32::from(answer.is_ok());
            counts.1 += u32::from(answer.is_err());
            shed = answer.err().or(shed);
        }
    }
    shed
}

#[tokio::test]
async fn a_worker_that_is_late_sheds_the_least_critical_checks_and_says_when_to_come_again() {
    let (_world, overload, native) = served().await;
    let (mut counts, mut told) = (Counts::default(), None);
    for _ in 0..2_000 {
        be_busy();
        told = unary(&native, &mut counts).await.or(told);
        if counts[0].1 >= 50 {
            break;
        }
    }
    let [(_, shed), (served, never)] = counts;
    assert!(shed >= 50 && served > 0 && never == 0, "{counts:?}");
    assert_eq!(overload.figures().shed, [u64::from(shed), 0, 0, 0]);
    let status = told.unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let pause = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), &*pause.as_millis().to_string());
}

#[tokio::test]
async fn a_stream_is_told_check_by_check() {
    let (_world, overload, native) = served().await;
    let (asks, asked) = tokio::sync::mpsc::channel(4);
    let mut answers =
        native.limiter.clone().check_stream(ReceiverStream::new(asked)).await.unwrap().into_inner();
    let items = CLASSES.into_iter().cycle().zip(0..60).map(|(class, id)| (id, of(class)));
    let items: Vec<_> = items.map(|(id, check)| wire::CheckItem { id, check: Some(check) }).collect();
    let mut shed = Vec::new();
    for _ in 0..2_000 {
        be_busy();
        asks.send(wire::CheckStreamRequest { items: items.clone() }).await.unwrap();
        let mut open = items.len();
        while open > 0 {
            let told = answers.message().await.unwrap().unwrap().answers;
            open -= told.len();
            shed.extend(told.into_iter().filter(|told| matches!(told.answer, Some(Answer::Error(_)))));
        }
        if shed.len() >= 50 {
            break;
        }
    }
    assert!(shed.len() >= 50 && shed.iter().all(|told| told.id % 2 == 0), "only sheddable ones: {shed:?}");
    let Some(Answer::Error(error)) = &shed[0].answer else { panic!("{shed:?}") };
    assert_eq!(error.code, Code::ResourceExhausted as i32);
    assert!(error.retry_after.is_some(), "{error:?}");
    assert_eq!(overload.figures().shed[0], shed.len() as u64);
}

#[tokio::test]
async fn a_server_that_keeps_up_sheds_nothing() {
    let world = World::new(RULES, NOW);
    let overload = Overload::new(Duration::from_secs(10), 1).unwrap();
    let gate = overload.gate();
    tokio::spawn(gate.clone().watch());
    let native = Native::behind(world.engine.clone(), gate).await;
    let mut counts = Counts::default();
    for _ in 0..20 {
        unary(&native, &mut counts).await;
    }
    assert_eq!((counts, overload.figures().shed), ([(600, 0); 2], [0; 4]));
}
