//! What the store in Redis does when Redis fails: real servers that are killed, stopped, filled, moved, slowed
//! down and cut off. Figures are printed (`--nocapture`); what is asserted of times is generous.

#![expect(clippy::unwrap_used, unreachable_pub, reason = "a test may panic, and has no outside")]

mod redis_world;
mod store_world;

#[path = "faults/absent.rs"]
mod absent;
#[path = "faults/clocks.rs"]
mod clocks;
#[path = "faults/edges.rs"]
mod edges;
#[path = "faults/exact.rs"]
mod exact;
#[path = "faults/keys.rs"]
mod keys;
#[path = "faults/killed.rs"]
mod killed;
#[path = "faults/limiter.rs"]
mod limiter;
#[path = "faults/load.rs"]
mod load;
#[path = "faults/lost_replies.rs"]
mod lost_replies;
#[path = "faults/lost_tail.rs"]
mod lost_tail;
#[path = "faults/moving.rs"]
mod moving;
#[path = "faults/refusing.rs"]
mod refusing;
#[path = "faults/round_trips.rs"]
mod round_trips;
#[path = "faults/servers.rs"]
mod servers;
#[path = "faults/slow.rs"]
mod slow;
#[path = "faults/stored.rs"]
mod stored;
#[path = "faults/strangers.rs"]
mod strangers;
