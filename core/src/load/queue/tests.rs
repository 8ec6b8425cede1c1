use super::*;

fn at(millis: u64) -> Time {
    Time::from_micros(millis * 1_000)
}

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

fn queue(capacity: u32) -> ShedQueue<u32> {
    ShedQueue::new(QueueConfig { capacity, ..QueueConfig::default() }, at(0)).unwrap()
}

fn push(queue: &mut ShedQueue<u32>, millis: u64, item: u32, class: Criticality) -> Option<(u32, Reason)> {
    let shed = queue.push(at(millis), item, class, Deadline::none(at(millis)))?;
    Some((shed.item, shed.reason))
}

/// What a pop gives: the item, and why it is shed.
fn pop(queue: &mut ShedQueue<u32>, millis: u64) -> Option<(u32, Option<Reason>)> {
    Some(match queue.pop(at(millis))? {
        Popped::Serve { item, .. } => (item, None),
        Popped::Shed(shed) => (shed.item, Some(shed.reason)),
    })
}

use Criticality::{Critical, CriticalPlus, Sheddable, SheddablePlus};

#[test]
fn the_oldest_is_first_while_the_queue_is_calm() {
    let mut queue = queue(10);
    for (item, class) in [(1, Sheddable), (2, CriticalPlus), (3, Critical)] {
        assert_eq!(push(&mut queue, 0, item, class), None);
    }
    let popped = [1, 2, 3, 4].map(|_| pop(&mut queue, 50));
    assert_eq!(popped, [Some((1, None)), Some((2, None)), Some((3, None)), None]);
}

#[test]
fn the_most_critical_and_newest_is_first_when_overloaded() {
    let mut queue = queue(10);
    assert_eq!(push(&mut queue, 0, 0, Critical), None);
    for (millis, item, class) in [(98, 1, Critical), (99, 2, Critical), (100, 3, SheddablePlus)] {
        assert_eq!(push(&mut queue, millis, item, class), None);
    }
    assert!(!queue.is_overloaded(at(100)) && queue.is_overloaded(at(101)));
    let popped = [1, 2, 3, 4].map(|_| pop(&mut queue, 101));
    assert_eq!(popped, [Some((0, Some(Reason::Waited))), Some((2, None)), Some((1, None)), Some((3, None))]);
    assert!(!queue.is_overloaded(at(101)), "it is empty");
}

#[test]
fn a_calm_queue_waits_for_an_interval_and_an_overloaded_one_for_the_target() {
    let mut queue = queue(10);
    assert_eq!(push(&mut queue, 0, 0, Critical), None);
    assert_eq!(push(&mut queue, 60, 1, Critical), None);
    assert_eq!(queue.expire(at(100)), None);
    assert_eq!(queue.next_expiry(), Some(at(100) + Span::MICRO));
    let first = queue.expire(at(100) + Span::MICRO).unwrap();
    assert_eq!((first.item, first.reason, first.waited), (0, Reason::Waited, ms(100) + Span::MICRO));
    let second = queue.expire(at(100) + Span::MICRO).unwrap();
    assert_eq!((second.item, second.waited), (1, ms(40) + Span::MICRO), "overloaded: more than 5 ms");
}

#[test]
fn a_full_queue_sheds_the_least_critical() {
    let mut queue = queue(2);
    assert_eq!(push(&mut queue, 0, 1, SheddablePlus), None);
    assert_eq!(push(&mut queue, 1, 2, Critical), None);
    assert_eq!(push(&mut queue, 2, 3, Sheddable), Some((3, Reason::Full)), "the new one is the least");
    assert_eq!(push(&mut queue, 3, 4, SheddablePlus), Some((4, Reason::Full)), "an equal one was first");
    assert_eq!(push(&mut queue, 4, 5, CriticalPlus), Some((1, Reason::Full)));
    assert_eq!(push(&mut queue, 5, 6, CriticalPlus), Some((2, Reason::Full)));
    assert_eq!(queue.len(), 2);
    assert_eq!(
        push(&mut queue, 106, 7, Sheddable),
        Some((5, Reason::Waited)),
        "who waits in vain goes first"
    );
}

#[test]
fn who_cannot_be_answered_in_time_is_shed() {
    let mut queue = queue(10);
    queue.set_service_time(ms(3));
    let mut offer = |item, timeout| queue.push(at(0), item, Critical, Deadline::after(at(0), ms(timeout)));
    assert_eq!(offer(1, 2).map(|shed| shed.reason), Some(Reason::Deadline));
    assert_eq!((offer(2, 50), offer(3, 10), offer(4, 20)), (None, None, None));
    let popped = [20, 20, 20].map(|millis| pop(&mut queue, millis));
    let late = Some(Reason::Deadline);
    assert_eq!(popped, [Some((2, None)), Some((3, late)), Some((4, late))]);
}

#[test]
fn a_closed_queue_gives_all_back() {
    let mut queue = queue(10);
    for (item, class) in [(1, Sheddable), (2, CriticalPlus)] {
        assert_eq!(push(&mut queue, 0, item, class), None);
    }
    let shed: Vec<_> =
        queue.close(at(7)).into_iter().map(|shed| (shed.item, shed.reason, shed.waited)).collect();
    assert_eq!(shed, [(1, Reason::Closed, ms(7)), (2, Reason::Closed, ms(7))]);
    assert!(queue.is_empty() && queue.pop(at(7)).is_none() && queue.next_expiry().is_none());
}

#[test]
fn its_settings_have_ranges() {
    let error = |config| ShedQueue::<u32>::new(config, at(0)).unwrap_err().to_string();
    let default = QueueConfig::default();
    let target = ms(101);
    assert_eq!(
        error(QueueConfig { target, ..default }),
        "queue.target 101ms is out of range: 100us to 100ms"
    );
    assert!(error(QueueConfig { capacity: 0, ..default }).starts_with("queue.capacity 0 "));
    assert!(error(QueueConfig { interval: Span::ZERO, ..default }).starts_with("queue.interval 0s "));
}
