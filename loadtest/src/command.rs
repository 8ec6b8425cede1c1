//! What each command does.

pub(crate) mod compare;
pub(crate) mod fleet;
pub(crate) mod run;

use std::net::{SocketAddr, ToSocketAddrs as _};

use anyhow::{Context as _, Result, bail};
use tollgate_loadtest::load::drive::Watched;

/// The first address of a name.
fn resolve(server: &str) -> Result<SocketAddr> {
    let mut addresses = server.to_socket_addrs().with_context(|| format!("server {server}"))?;
    addresses.next().with_context(|| format!("server {server} has no address"))
}

/// `name=pid`
fn watched(text: &str) -> Result<Watched> {
    let Some((name, pid)) = text.split_once('=') else { bail!("{text:?} is not name=pid") };
    let pid = pid.parse().with_context(|| format!("{text:?} is not name=pid"))?;
    Ok(Watched { name: name.to_owned(), pid })
}
