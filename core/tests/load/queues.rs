//! The queue and the admission in front of it.

use proptest::collection::vec;
use proptest::prelude::*;
use tollgate_core::load::criticality::Criticality;
use tollgate_core::load::deadline::Deadline;
use tollgate_core::load::queue::{Popped, QueueConfig, Reason, Shed, ShedQueue};
use tollgate_core::load::shed::{Admission, Level, ShedConfig};
use tollgate_core::time::{Span, Time};

#[derive(Clone, Debug)]
enum Move {
    Push(Criticality, Option<u64>),
    Pop,
    Expire,
    Service(u64),
    Close,
}

fn moves() -> impl Strategy<Value = Vec<(u64, Move)>> {
    let classes = prop::sample::select(Criticality::ALL.to_vec());
    let push =
        (classes, proptest::option::of(0..200_000_u64)).prop_map(|(class, left)| Move::Push(class, left));
    let one = prop_oneof![
        10 => push,
        8 => Just(Move::Pop),
        1 => Just(Move::Expire),
        1 => (0..20_000_u64).prop_map(Move::Service),
        1 => Just(Move::Close).prop_filter("seldom", |_| true),
    ];
    vec((prop_oneof![Just(0), 0..2_000_u64, 0..60_000_u64], one), 0..200)
}

/// What is known of each item, by its number.
struct Items {
    since: Vec<Time>,
    deadline: Vec<Deadline>,
    out: Vec<bool>,
}

impl Items {
    fn take(&mut self, item: usize) {
        assert!(!self.out[item], "{item} came out twice");
        self.out[item] = true;
    }

    fn shed(&mut self, shed: Shed<usize>, now: Time, config: QueueConfig, service: Span) {
        self.take(shed.item);
        assert_eq!(shed.waited, now - self.since[shed.item]);
        match shed.reason {
            Reason::Waited => assert!(shed.waited > config.target),
            Reason::Deadline => assert!(!self.deadline[shed.item].allows(now, service)),
            Reason::Full | Reason::Closed => {}
        }
    }

    fn waiting(&self) -> usize {
        self.out.iter().filter(|out| !**out).count()
    }
}

proptest! {
    #[test]
    fn a_queue_loses_nothing_and_gives_nothing_twice(capacity in 1..12_u32, moves in moves()) {
        let config = QueueConfig { capacity, ..QueueConfig::default() };
        let mut now = Time::from_micros(7_000_000);
        let mut queue = ShedQueue::new(config, now).unwrap();
        let mut items = Items { since: Vec::new(), deadline: Vec::new(), out: Vec::new() };
        let mut service = Span::ZERO;
        for (gap, step) in moves {
            now = now + Span::from_micros(gap);
            match step {
                Move::Push(class, left) => {
                    let deadline = left
                        .map_or(Deadline::none(now), |left| Deadline::after(now, Span::from_micros(left)));
                    let item = items.out.len();
                    items.since.push(now);
                    items.deadline.push(deadline);
                    items.out.push(false);
                    if let Some(shed) = queue.push(now, item, class, deadline) {
                        items.shed(shed, now, config, service);
                    }
                }
                Move::Pop => match queue.pop(now) {
                    Some(Popped::Serve { item, waited }) => {
                        items.take(item);
                        prop_assert!(waited <= config.interval);
                        prop_assert!(items.deadline[item].allows(now, service));
                    }
                    Some(Popped::Shed(shed)) => items.shed(shed, now, config, service),
                    None => prop_assert_eq!(items.waiting(), 0),
                },
                Move::Expire => {
                    if let Some(shed) = queue.expire(now) {
                        items.shed(shed, now, config, service);
                    }
                }
                Move::Service(micros) => {
                    service = Span::from_micros(micros);
                    queue.set_service_time(service);
                }
                Move::Close => {
                    for shed in queue.close(now) {
                        items.shed(shed, now, config, service);
                    }
                }
            }
            prop_assert_eq!(queue.len(), items.waiting());
            prop_assert!(queue.len() <= usize::try_from(capacity).unwrap());
        }
    }

    #[test]
    fn the_next_expiry_is_the_first_instant_at_which_one_has_waited_too_long(
        gaps in vec(0..30_000_u64, 1..40),
    ) {
        let start = Time::from_micros(7_000_000);
        let mut now = start;
        let mut queue = ShedQueue::new(QueueConfig::default(), now).unwrap();
        for (item, gap) in gaps.into_iter().enumerate() {
            now = now + Span::from_micros(gap);
            while queue.expire(now).is_some() {}
            prop_assert!(queue.push(now, item, Criticality::Critical, Deadline::none(now)).is_none());
            let next = queue.next_expiry().unwrap();
            prop_assert!(next > now);
            prop_assert!(queue.clone().expire(next - Span::MICRO).is_none());
            prop_assert_eq!(queue.clone().expire(next).map(|shed| shed.reason), Some(Reason::Waited));
        }
    }

    #[test]
    fn an_admission_keeps_its_bounds_and_its_order(
        moves in vec((0..512_u16, 0..5_000_u64, 0..60_000_u64), 0..3_000),
        tenant in any::<u64>(),
    ) {
        let mut now = Time::from_micros(7_000_000);
        let config = ShedConfig { requests: 100, ..ShedConfig::default() };
        let admission = Admission::new(config, now).unwrap();
        for (number, gap, queued) in moves {
            now = now + Span::from_micros(gap);
            let class = Criticality::ALL[usize::from(number % 4)];
            let level = Level::new(class, tenant.wrapping_add(u64::from(number)), now);
            let taken = admission.admit(now, level);
            prop_assert!((1..=512).contains(&admission.admitted()));
            prop_assert_eq!(taken, u32::from(level.as_u16()) < admission.admitted());
            if taken {
                admission.queued(Span::from_micros(queued));
            }
        }
    }
}
