//! TLS for the limiter and the fleet client: which servers are trusted, and how this process proves who it is.
//!
//! rustls with ring, TLS 1.2 and 1.3, HTTP/2 by ALPN. Files are read when the [`Tls`] is built: build a new client
//! when certificates change.
//!
//! ```no_run
//! use tollgate_client::limiter::RateLimiterClient;
//! use tollgate_client::tls::Tls;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tls = Tls::builder()
//!     .ca_file("/etc/tollgate/ca.pem") // without it: the roots that the system trusts
//!     .client_files("/etc/tollgate/client.pem", "/etc/tollgate/client.key") // if the server asks for one
//!     .build()?;
//! let limiter = RateLimiterClient::builder("https://tollgate.internal:8081")
//!     .tls(tls)
//!     .bearer_token(std::env::var("TOLLGATE_TOKEN")?)
//!     .domain("shop")
//!     .connect_lazy()?;
//! # drop(limiter);
//! # Ok(())
//! # }
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use crate::config::ConfigError;

/// What HTTP/2 is called in the handshake (RFC 7540, section 3.1).
const H2: &[u8] = b"h2";

/// How connections are encrypted. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

/// Sets up a [`Tls`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until build()"]
pub struct TlsBuilder {
    roots: Vec<Pem>,
    identity: Option<(Pem, Pem)>,
    name: Option<String>,
}

/// Where a text in PEM comes from.
#[derive(Clone)]
enum Pem {
    Text(Vec<u8>),
    File(PathBuf),
}

impl std::fmt::Debug for Pem {
    /// Never the text: it may be a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Pem::Text(_) => f.write_str("PEM"),
            Pem::File(path) => path.fmt(f),
        }
    }
}

impl Pem {
    fn read(&self, field: &'static str) -> Result<Vec<u8>, ConfigError> {
        match self {
            Pem::Text(text) => Ok(text.clone()),
            Pem::File(path) => std::fs::read(path).map_err(|error| {
                ConfigError::range(field, "a file that can be read", &format!("{}: {error}", path.display()))
            }),
        }
    }

    fn certificates(&self, field: &'static str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let wrong = |why: &str| ConfigError::range(field, "certificates in PEM", &format!("{self:?}: {why}"));
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.read(field)?).collect();
        let certificates = read.map_err(|error| wrong(&error.to_string()))?;
        if certificates.is_empty() { Err(wrong("there is none")) } else { Ok(certificates) }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, ConfigError> {
        const FIELD: &str = "tls.client: key";
        PrivateKeyDer::from_pem_slice(&self.read(FIELD)?)
            .map_err(|error| ConfigError::range(FIELD, "a key in PEM", &format!("{self:?}: {error}")))
    }
}

impl Tls {
    /// Sets up TLS: trusts the system's roots, and shows no certificate, unless told otherwise.
    pub fn builder() -> TlsBuilder {
        TlsBuilder::default()
    }

    /// A handshake over `io` with the server that `authority` (`host:port`) names.
    pub(crate) async fn connect(&self, authority: &str, io: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => host(authority)?,
        };
        let stream = TlsConnector::from(self.config.clone()).connect(name, io).await?;
        if stream.get_ref().1.alpn_protocol() == Some(H2) {
            return Ok(stream);
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the server does not speak HTTP/2 (ALPN h2)"))
    }
}

/// The host of `host:port`, an IPv6 address without its brackets.
fn host(authority: &str) -> io::Result<ServerName<'static>> {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

impl TlsBuilder {
    /// Trusts the certificates of this PEM text, and not the system's any more. May be called again.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots.push(Pem::Text(pem.into()));
        self
    }

    /// Trusts the certificates of this PEM file, and not the system's any more. May be called again.
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Self {
        self.roots.push(Pem::File(path.as_ref().to_owned()));
        self
    }

    /// Shows this certificate, with its chain, to servers that ask for one (mutual TLS); both in PEM.
    pub fn client_pem(mut self, certificates: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((Pem::Text(certificates.into()), Pem::Text(key.into())));
        self
    }

    /// The same from two files.
    pub fn client_files(mut self, certificates: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        let file = |path: &Path| Pem::File(path.to_owned());
        self.identity = Some((file(certificates.as_ref()), file(key.as_ref())));
        self
    }

    /// The name in the server's certificate, if it is not the one that is connected to.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// TLS as set up.
    ///
    /// # Errors
    /// [`ConfigError`] names what cannot be read or makes no sense.
    pub fn build(self) -> Result<Tls, ConfigError> {
        let named = |name: String| {
            let range = "a host name or an IP address";
            let wrong = |_| ConfigError::range("tls.server_name", range, &name);
            ServerName::try_from(name.clone()).map_err(wrong)
        };
        let name = self.name.clone().map(named).transpose()?;
        let trusting = versions()?.with_root_certificates(self.roots()?);
        let mut config = match &self.identity {
            None => trusting.with_no_client_auth(),
            Some((certificates, key)) => trusting
                .with_client_auth_cert(certificates.certificates("tls.client: certificate")?, key.key()?)
                .map_err(|error| ConfigError::range("tls.client", "a certificate and its key", &error))?,
        };
        config.alpn_protocols = vec![H2.to_vec()];
        Ok(Tls { config: Arc::new(config), name })
    }

    fn roots(&self) -> Result<RootCertStore, ConfigError> {
        let mut roots = RootCertStore::empty();
        if self.roots.is_empty() {
            let system = rustls_native_certs::load_native_certs();
            if roots.add_parsable_certificates(system.certs).0 == 0 {
                let why = system.errors.first().map_or_else(|| "none".to_owned(), ToString::to_string);
                return Err(ConfigError::range("tls", "given a CA, or the system must have roots", &why));
            }
        }
        for pem in &self.roots {
            for certificate in pem.certificates("tls.ca")? {
                roots
                    .add(certificate)
                    .map_err(|error| ConfigError::range("tls.ca", "certificates of a CA", &error))?;
            }
        }
        Ok(roots)
    }
}

/// The versions and ciphers that rustls calls safe, by ring whatever else is in the process.
fn versions() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, ConfigError> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::range("tls", "supported by this build", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named() {
        let why = |builder: TlsBuilder| builder.build().unwrap_err().to_string();
        let missing = why(Tls::builder().ca_file("/no/such/ca.pem"));
        assert!(
            missing.starts_with("tls.ca must be a file that can be read, not /no/such/ca.pem:"),
            "{missing}"
        );
        let empty = why(Tls::builder().ca_pem("no PEM"));
        assert_eq!(empty, "tls.ca must be certificates in PEM, not PEM: there is none");
        let name = why(Tls::builder().server_name("no name"));
        assert_eq!(name, "tls.server_name must be a host name or an IP address, not no name");
    }

    #[test]
    fn a_key_is_never_shown() {
        let shown = format!("{:?}", Tls::builder().client_pem("a certificate", "a secret"));
        assert!(!shown.contains("secret") && shown.contains("PEM"), "{shown}");
    }

    #[test]
    fn names_are_hosts_without_ports() {
        assert_eq!(host("limiter.internal:8081").unwrap().to_str(), "limiter.internal");
        assert_eq!(host("10.0.0.1:8081").unwrap().to_str(), "10.0.0.1");
        assert_eq!(host("[::1]:8081").unwrap().to_str(), "::1");
        assert!(host("a b:1").is_err());
    }
}
