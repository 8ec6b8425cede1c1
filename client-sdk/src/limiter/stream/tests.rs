use super::*;
use futures_util::{FutureExt as _, StreamExt as _};

const COALESCE: Coalesce = Coalesce { batch: 4, in_flight: 6 };

fn check() -> CheckRequest {
    CheckRequest { domain: "shop".into(), ..CheckRequest::default() }
}

fn answer(id: u64) -> CheckStreamResponse {
    let decision = CheckResponse { allowed: true, ..CheckResponse::default() };
    let answer = CheckAnswer { id, answer: Some(check_answer::Answer::Decision(decision)) };
    CheckStreamResponse { answers: vec![answer] }
}

#[tokio::test]
async fn checks_that_wait_together_share_a_message() {
    let (lane, mut outbound) = Lane::new(COALESCE);
    let mut asked: Vec<_> = (0..6).map(|_| Box::pin(lane.ask(check()))).collect();
    assert!(asked.iter_mut().all(|ask| ask.now_or_never().is_none()));
    assert_eq!(ids(outbound.next().await.unwrap()), [0, 1, 2, 3]);
    assert_eq!(ids(outbound.next().await.unwrap()), [4, 5]);
    lane.deliver(answer(4));
    assert!(asked.swap_remove(4).now_or_never().unwrap().unwrap().allowed);
    assert!(asked.iter_mut().all(|ask| ask.now_or_never().is_none()));
}

#[tokio::test]
async fn large_checks_share_no_message() {
    let (lane, mut outbound) = Lane::new(COALESCE);
    let large = || CheckRequest { domain: "x".repeat(LARGEST / 3), ..CheckRequest::default() };
    let mut asked: Vec<_> = (0..4).map(|_| Box::pin(lane.ask(large()))).collect();
    assert!(asked.iter_mut().all(|ask| ask.now_or_never().is_none()));
    assert_eq!(outbound.next().await.unwrap().items.len(), 2);
    assert_eq!(outbound.next().await.unwrap().items.len(), 2);
    assert!(outbound.next().now_or_never().is_none());
}

#[tokio::test]
async fn more_than_the_bound_are_refused_at_once() {
    let (lane, _outbound) = Lane::new(COALESCE);
    let mut asked: Vec<_> = (0..6).map(|_| Box::pin(lane.ask(check()))).collect();
    assert!(asked.iter_mut().all(|ask| ask.now_or_never().is_none()));
    let refused = lane.ask(check()).now_or_never().unwrap();
    assert!(matches!(refused, Err(Fault::Overloaded { limit: 6 })));
    drop(asked);
    assert_eq!(lane.in_flight(), 0);
}

#[tokio::test]
async fn a_withdrawn_check_is_not_sent() {
    let (lane, mut outbound) = Lane::new(COALESCE);
    let mut gone = Box::pin(lane.ask(check()));
    assert!((&mut gone).now_or_never().is_none());
    drop(gone);
    assert!(outbound.next().now_or_never().is_none());
    assert_eq!(lane.in_flight(), 0);
}

#[tokio::test]
async fn who_was_sent_is_lost_with_the_stream_and_who_was_not_may_go_elsewhere() {
    let (lane, mut outbound) = Lane::new(Coalesce { batch: 1, in_flight: 6 });
    let (mut sent, mut unsent) = (Box::pin(lane.ask(check())), Box::pin(lane.ask(check())));
    assert!((&mut sent).now_or_never().is_none() && (&mut unsent).now_or_never().is_none());
    assert_eq!(outbound.next().await.unwrap().items.len(), 1);
    lane.end(&"gone".into());
    drop(outbound);
    assert!(matches!(sent.now_or_never(), Some(Err(Fault::Lost(_)))));
    assert!(matches!(unsent.now_or_never(), Some(Err(Fault::NotSent(_)))));
    assert!(matches!(lane.ask(check()).now_or_never(), Some(Err(Fault::NotSent(_)))));
    assert_eq!(lane.in_flight(), 0);
}

#[tokio::test]
async fn nothing_is_left_of_ten_thousand_cancelled_checks() {
    let (lane, mut outbound) = Lane::new(COALESCE);
    for turn in 0..10_000 {
        let mut gone = Box::pin(lane.ask(check()));
        assert!((&mut gone).now_or_never().is_none());
        let sent = turn % 2 == 0 && outbound.next().now_or_never().flatten().is_some();
        assert_eq!(sent, turn % 2 == 0);
        drop(gone);
        // what is withdrawn leaves the queue when the writer looks next
        assert!(outbound.next().now_or_never().is_none());
        // the runtime lets a task do only so much without a pause
        tokio::task::yield_now().await;
    }
    assert_eq!(lane.in_flight(), 0);
    assert!(lane.shared.waiting().callers.is_empty());
    assert_eq!(lane.queue.capacity(), 6);
}

fn ids(message: CheckStreamRequest) -> Vec<u64> {
    message.items.into_iter().map(|item| item.id).collect()
}

#[tokio::test]
async fn checks_gather_while_a_message_is_under_way() {
    let (lane, mut outbound) = Lane::new(Coalesce { batch: 3, in_flight: 9 });
    let mut asked = Vec::new();
    let mut ask = || {
        let mut ask = Box::pin(lane.ask(check()));
        assert!((&mut ask).now_or_never().is_none());
        asked.push(ask);
    };
    ask();
    assert_eq!(outbound.next().now_or_never().flatten().map(ids), Some(vec![0]), "nothing is under way");
    ask();
    ask();
    assert!(outbound.next().now_or_never().is_none());
    lane.deliver(answer(0));
    assert_eq!(outbound.next().await.map(ids), Some(vec![1, 2]));
    (0..3).for_each(|_| ask());
    assert_eq!(
        outbound.next().now_or_never().flatten().map(ids),
        Some(vec![3, 4, 5]),
        "enough for a message"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_holds_nobody_for_long() {
    let (lane, mut outbound) = Lane::new(COALESCE);
    let mut asked: Vec<_> = (0..2).map(|_| Box::pin(lane.ask(check()))).collect();
    assert!((&mut asked[0]).now_or_never().is_none());
    assert_eq!(outbound.next().await.map(ids), Some(vec![0]));
    assert!((&mut asked[1]).now_or_never().is_none());
    let began = Instant::now();
    assert_eq!(outbound.next().await.map(ids), Some(vec![1]));
    assert!(began.elapsed() <= Duration::from_millis(2), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nothing_gathers_for_a_server_that_is_far_away() {
    let (lane, mut outbound) = Lane::new(COALESCE);
    for round in 0..4 {
        let mut ask = Box::pin(lane.ask(check()));
        assert!((&mut ask).now_or_never().is_none());
        assert_eq!(outbound.next().await.map(ids), Some(vec![round]));
        tokio::time::advance(Duration::from_millis(5)).await;
        lane.deliver(answer(round));
        assert!(ask.await.is_ok());
    }
    let mut asked: Vec<_> = (0..2).map(|_| Box::pin(lane.ask(check()))).collect();
    assert!((&mut asked[0]).now_or_never().is_none());
    assert_eq!(outbound.next().await.map(ids), Some(vec![4]));
    assert!((&mut asked[1]).now_or_never().is_none());
    let began = Instant::now();
    assert_eq!(outbound.next().await.map(ids), Some(vec![5]));
    assert!(began.elapsed().is_zero(), "{:?}", began.elapsed());
}

#[tokio::test]
async fn who_gathers_is_told_that_the_stream_has_ended() {
    let (lane, mut outbound) = Lane::new(COALESCE);
    let (mut sent, mut unsent) = (Box::pin(lane.ask(check())), Box::pin(lane.ask(check())));
    assert!((&mut sent).now_or_never().is_none());
    assert_eq!(outbound.next().await.map(ids), Some(vec![0]));
    assert!((&mut unsent).now_or_never().is_none());
    assert!(outbound.next().now_or_never().is_none());
    lane.end(&"gone".into());
    // once to let others run, and once to take what is queued
    (0..2).for_each(|_| assert!(outbound.next().now_or_never().is_none(), "nothing more is sent"));
    assert!(matches!(unsent.now_or_never(), Some(Err(Fault::NotSent(_)))));
}
