//! TLS to the other servers, with this server's own certificate as what it shows them.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How the other servers are called.
#[derive(Clone, Debug)]
pub struct PeerTls {
    cert: PathBuf,
    key: PathBuf,
    ca: PathBuf,
    /// What their certificates have to be for; empty: the host of the address.
    name: String,
}

impl PeerTls {
    /// TLS with the files of our certificate, its key, and the authorities of the others.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn new([cert, key, ca]: [PathBuf; 3], name: String) -> anyhow::Result<PeerTls> {
        let tls = PeerTls { cert, key, ca, name };
        tls.config()?;
        Ok(tls)
    }

    /// Connects to `address`. The files are read each time: connections are few, and certificates change.
    pub(super) async fn connect(self, address: String) -> anyhow::Result<TokioIo<TlsStream<TcpStream>>> {
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let name = if self.name.is_empty() { host.trim_matches(['[', ']']) } else { &self.name };
        let name = ServerName::try_from(name.to_owned()).with_context(|| format!("{name:?} is no name"))?;
        let stream = TcpStream::connect(&address).await?;
        stream.set_nodelay(true)?;
        let config = tokio::task::spawn_blocking(move || self.config()).await??;
        Ok(TokioIo::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
    }

    fn config(&self) -> anyhow::Result<ClientConfig> {
        let what = |path: &PathBuf| format!("peers.tls: cannot use {}", path.display());
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_file_iter(&self.ca).with_context(|| what(&self.ca))? {
            roots.add(authority.with_context(|| what(&self.ca))?)?;
        }
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(&self.cert).with_context(|| what(&self.cert))?.collect();
        let key = PrivateKeyDer::from_pem_file(&self.key).with_context(|| what(&self.key))?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.with_context(|| what(&self.cert))?, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}
