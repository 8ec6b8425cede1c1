//! From a listening socket to an answered call: one runtime per core, each connection on one of them.

pub mod authority;
mod connection;
mod grpc;
mod listen;
pub mod tls;
mod watch;
mod web;
mod workers;

pub use self::connection::{ConnectionLimits, Guard, Services, Warm};
pub use self::grpc::GrpcService;
pub use self::listen::{Bound, Listener, Protocol, accept};
pub use self::web::{Web, serve_web};
pub use self::workers::{Refusals, Workers};
