//! Real Redis processes for tests: servers, clusters, sentinels, and the ways to hurt them.
//!
//! Every process is a child of the test, listens on 127.0.0.1, keeps its data in a temporary directory and dies
//! with its handle. Any number of test processes may do this at the same time. Needs `redis-server` 7 in the path,
//! Linux, and `cc` for clocks that are wrong.

#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod builder;
mod clock;
mod cluster;
mod inspect;
mod migration;
mod port;
mod process;
mod proxy;
mod sentinel;
mod server;
mod slots;
mod tls;
mod wait;

pub use builder::ServerBuilder;
pub use cluster::{Cluster, NODES, Promotion};
pub use inspect::{CommandCounts, keys, keys_without_ttl};
pub use migration::Migration;
pub use proxy::Proxy;
pub use sentinel::{MASTER_NAME, Sentinel};
pub use server::Server;
pub use tls::Certificates;
pub use wait::{eventually, within};
