//! Leases as clients see them: grants, returns, refusals, over the embedded store and over Redis.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod redis_world;
mod rls_world;
mod store_world;

#[path = "leases/grants.rs"]
mod grants;
#[path = "leases/lessor.rs"]
mod lessor;
#[path = "leases/returns.rs"]
mod returns;
#[path = "leases/stores.rs"]
mod stores;
