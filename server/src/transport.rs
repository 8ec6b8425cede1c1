//! From a listening socket to an answered call: one runtime per core, each connection on one of them.

pub mod authority;
mod connection;
mod grpc;
mod listen;
mod workers;

pub use self::connection::{ConnectionLimits, Services, Warm};
pub use self::grpc::GrpcService;
pub use self::listen::{Bound, Listener, Protocol, accept};
pub use self::workers::Workers;
