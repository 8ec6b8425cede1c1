//! A target that is well again is called again, wherever the circuit was.

use proptest::collection::vec;
use proptest::prelude::*;
use tollgate_core::breaker::fleet::{Counts, FleetState, OutcomeKind};

use crate::world::{World, enforced, good};

/// Longest wait with its jitter, a round of probes, the ramp from its lowest share, and a window at full.
const HEALTHY_MILLIS: u64 = 3_600 + 1_000 + 10_500 + 10_000 + 2_000;

/// Everything that instances do with a healthy target, in one instant.
fn healthy(world: &mut World, now: u64) {
    if world.state() == FleetState::HalfOpen {
        world.all(now, Counts { not_permitted: 5, ..Counts::default() });
        world.probes_if_half_open(now, OutcomeKind::Success);
    } else {
        world.all(now, good(5));
    }
    world.tick(now);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_healthy_target_closes_the_circuit(
        reporters in 1..12_usize,
        outage in vec((10..3_000_u64, 0..60_u64, 0..60_u64, any::<bool>()), 0..120),
    ) {
        let mut world = World::new(enforced(), reporters);
        let mut now = 0;
        for (wait, success, failure, probes_fail) in outage {
            now += wait;
            world.all(now, Counts { success, failure, ..Counts::default() });
            let kind = if probes_fail { OutcomeKind::Failure } else { OutcomeKind::Success };
            world.probes_if_half_open(now, kind);
        }
        for healthy_for in (0..=HEALTHY_MILLIS).step_by(200) {
            healthy(&mut world, now + healthy_for);
        }
        prop_assert_eq!(world.state(), FleetState::Closed);
    }
}
