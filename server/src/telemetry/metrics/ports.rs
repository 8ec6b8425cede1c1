//! What happens on the ports before a request is read.

/// Counts of one port.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PortFigures {
    /// `grpc`, `http` or `admin`.
    pub port: &'static str,
    /// Connections closed at once because there were as many as there may be.
    pub refused: u64,
    /// Whether there are handshakes at all.
    pub speaks_tls: bool,
    /// Handshakes that ended in a connection.
    pub done: u64,
    /// Handshakes that failed.
    pub failed: u64,
    /// Handshakes that took too long.
    pub timed_out: u64,
    /// Changed certificates that were taken over.
    pub reloaded: u64,
    /// Changed certificates that could not be taken over.
    pub not_reloaded: u64,
}
