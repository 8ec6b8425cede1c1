//! One connection: a socket that never blocks, and its wire.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::load::wire::{Sink, Wire};

/// A server on the same network answers a connect within this, or is not there.
const CONNECT: Duration = Duration::from_millis(200);

/// A connection.
pub(super) struct Link {
    pub(super) socket: TcpStream,
    pub(super) wire: Box<dyn Wire>,
    written: usize,
    /// The socket took less than there was.
    pub(super) is_full: bool,
}

impl Link {
    pub(super) fn connect(address: SocketAddr, wire: Box<dyn Wire>) -> Result<Link> {
        let connected = TcpStream::connect_timeout(&address, CONNECT);
        let socket = connected.with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Link { socket, wire, written: 0, is_full: false })
    }

    /// Writes what there is, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> Result<()> {
        let out = self.wire.outgoing();
        self.is_full = false;
        while self.written < out.len() {
            match self.socket.write(&out[self.written..]) {
                Ok(0) => bail!("the connection takes no more"),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_full = true;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        out.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads what has come.
    pub(super) fn read(&mut self, buffer: &mut [u8], answers: &mut Sink<'_>) -> Result<()> {
        loop {
            match self.socket.read(buffer) {
                Ok(0) => bail!("the server has closed the connection"),
                // a buffer that was not filled has emptied the socket
                Ok(count) if count < buffer.len() => return self.wire.read(&buffer[..count], answers),
                Ok(count) => self.wire.read(&buffer[..count], answers)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
