//! Ports that no other test takes, also while their server is down.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// Below the range from which Linux takes the ports of outgoing connections (32768 and up): none of them may sit
/// on the port of a server that is to come back.
const FIRST: u16 = 11_000;
const COUNT: u16 = 10_000;

/// How far a node's bus port is from its port: Redis' own rule.
const BUS: u16 = 10_000;

/// A TCP port on 127.0.0.1. The UDP sockets of the same numbers, which Redis leaves alone, say to other tests that
/// it is taken.
pub struct Port {
    number: u16,
    _claims: [UdpSocket; 2],
}

impl Port {
    /// Claims a port that nobody listens on, nor on its bus port.
    pub fn claim() -> Port {
        let start = RandomState::new().build_hasher().finish() % u64::from(COUNT);
        let start = u16::try_from(start).unwrap();
        let port = (0..COUNT).find_map(|step| Port::try_claim(FIRST + (start + step) % COUNT));
        port.unwrap_or_else(|| panic!("no free port"))
    }

    fn try_claim(number: u16) -> Option<Port> {
        let claim = |number| UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok();
        let free = |number| TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok();
        let claims = [claim(number)?, claim(number + BUS)?];
        (free(number) && free(number + BUS)).then_some(Port { number, _claims: claims })
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}
