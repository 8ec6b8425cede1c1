//! The script in Redis against the limits of `core`: the same verdicts, the same states, the same ends, bit for
//! bit; and what the script alone has to do. Needs `redis-server` 7 in the path.
//!
//! `TOLLGATE_LUA_STEPS` sets how many random steps are compared, `TOLLGATE_LUA_SEED` where they begin.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "lua/asking.rs"]
mod asking;
#[path = "lua/batches.rs"]
mod batches;
#[path = "lua/failures.rs"]
mod failures;
#[path = "lua/groups.rs"]
mod groups;
#[path = "lua/model.rs"]
mod model;
#[path = "lua/random.rs"]
mod random;
#[path = "lua/reference.rs"]
mod reference;
#[path = "lua/server.rs"]
mod server;
#[path = "lua/steps.rs"]
mod steps;
#[path = "lua/values.rs"]
mod values;
