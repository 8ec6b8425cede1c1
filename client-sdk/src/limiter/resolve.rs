//! Where the limiter's replicas are.

use std::fmt;
use std::io;

use futures_util::future::BoxFuture;

use super::error::ConfigError;

/// One replica.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// What is connected to: `host:port`, the host a name or an address (IPv6 in brackets).
    pub address: String,
    /// What the replica is called in requests: `host:port`.
    pub authority: String,
    /// Its share of the keys relative to the others, 1 or more.
    pub weight: u32,
}

impl Member {
    /// A replica of weight 1 that is called what it is connected to by.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Member {
        let address = address.into();
        Member { authority: address.clone(), address, weight: 1 }
    }
}

/// Finds the replicas. An empty answer and an error both keep the replicas that are known.
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// All replicas there are now.
    fn resolve(&self) -> BoxFuture<'_, io::Result<Vec<Member>>>;

    /// The replicas, if they never change.
    fn fixed(&self) -> Option<Vec<Member>> {
        None
    }
}

/// A list that does not change.
#[derive(Clone, Debug)]
pub struct StaticResolver(Vec<Member>);

impl StaticResolver {
    /// These replicas.
    #[must_use]
    pub fn new(members: Vec<Member>) -> StaticResolver {
        StaticResolver(members)
    }
}

impl Resolve for StaticResolver {
    fn resolve(&self) -> BoxFuture<'_, io::Result<Vec<Member>>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }

    fn fixed(&self) -> Option<Vec<Member>> {
        Some(self.0.clone())
    }
}

/// The addresses of a name, as the system's resolver gives them.
#[derive(Clone, Debug)]
pub struct DnsResolver {
    authority: String,
}

impl DnsResolver {
    /// Resolves `authority`: `host:port`.
    #[must_use]
    pub fn new(authority: impl Into<String>) -> DnsResolver {
        DnsResolver { authority: authority.into() }
    }
}

impl Resolve for DnsResolver {
    fn resolve(&self) -> BoxFuture<'_, io::Result<Vec<Member>>> {
        Box::pin(async {
            let found = tokio::net::lookup_host(&self.authority).await?;
            let member = |address: std::net::SocketAddr| Member {
                authority: self.authority.clone(),
                ..Member::new(address.to_string())
            };
            Ok(found.map(member).collect())
        })
    }
}

/// Reads a target: `dns:///host:port`, `http://host:port`, `https://host:port`, `static:host:port,host:port`.
pub(super) fn parse(target: &str) -> Result<Box<dyn Resolve>, ConfigError> {
    if let Some(list) = target.strip_prefix("static:") {
        let members: Result<Vec<Member>, ConfigError> =
            list.split(',').map(|one| authority(one.trim()).map(Member::new)).collect();
        return Ok(Box::new(StaticResolver::new(members?)));
    }
    if let Some(name) = target.strip_prefix("dns:///") {
        return Ok(Box::new(DnsResolver::new(authority(name)?)));
    }
    if let Some(name) = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) {
        return Ok(Box::new(DnsResolver::new(authority(name.trim_end_matches('/'))?)));
    }
    Err(problem(target))
}

fn authority(text: &str) -> Result<&str, ConfigError> {
    let parsed: http::uri::Authority = text.parse().map_err(|_| problem(text))?;
    let plain = parsed.port_u16().is_some_and(|port| port > 0) && !text.contains('@');
    if plain && !parsed.host().is_empty() { Ok(text) } else { Err(problem(text)) }
}

fn problem(target: &str) -> ConfigError {
    let forms = "dns:///host:port, http://host:port, https://host:port or static:host:port,host:port";
    ConfigError::new("target", format!("'{target}' is not one of {forms}, with a port of 1 to 65535"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_or_named() {
        let fixed = |target| parse(target).unwrap().fixed();
        let members = fixed("static:10.0.0.1:8081, [::1]:8082").unwrap();
        assert_eq!(members, [Member::new("10.0.0.1:8081"), Member::new("[::1]:8082")]);
        assert_eq!(fixed("dns:///limiter:8081"), None);
        assert_eq!(fixed("http://limiter:8081/"), None);
        for wrong in ["", "limiter:8081", "https://limiter", "static:", "static:a", "dns:///a", "http://a:0"]
        {
            assert_eq!(parse(wrong).unwrap_err().field, "target", "{wrong}");
        }
    }

    #[tokio::test]
    async fn names_become_addresses_and_keep_their_name() {
        let members = DnsResolver::new("localhost:8081").resolve().await.unwrap();
        assert!(members.iter().all(|member| member.authority == "localhost:8081"));
        assert!(members.iter().any(|member| member.address.ends_with(":8081")));
    }
}
