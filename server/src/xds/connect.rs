//! The connection, with TLS or without.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::XdsOptions;

/// Time to connect, handshake included.
const CONNECT: Duration = Duration::from_secs(10);
/// Time for the answer to a PING.
const PONG: Duration = Duration::from_secs(20);

/// TLS to the server. The files are read at each connect, for certificates change.
#[derive(Clone, Debug)]
pub struct XdsTls {
    /// PEM file of its authorities; the system's if there is none.
    pub ca: Option<PathBuf>,
    /// PEM files of our certificate and its key.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// Name in its certificate; empty: the host of the address.
    pub server_name: String,
}

/// Connects to the server.
pub(super) async fn connect(options: &XdsOptions) -> anyhow::Result<Channel> {
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let origin: Uri = format!("{scheme}://{}", options.server).parse()?;
    let mut endpoint = Endpoint::from_shared(format!("http://{}", options.server))?.origin(origin);
    if let Some(interval) = options.keepalive_interval {
        endpoint = endpoint.http2_keep_alive_interval(interval).keep_alive_timeout(PONG);
    }
    let (address, tls) = (options.server.clone(), options.tls.clone());
    let once = endpoint.connect_with_connector(tower::service_fn(move |_: Uri| {
        let (address, tls) = (address.clone(), tls.clone());
        async move {
            match tls {
                Some(tls) => tls.connect(&address).await.map(socket),
                None => plain(&address).await.map(socket),
            }
        }
    }));
    Ok(tokio::time::timeout(CONNECT, once).await.context("no connection within ten seconds")??)
}

/// A connection of either kind.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

fn socket(stream: impl Duplex + 'static) -> TokioIo<Box<dyn Duplex>> {
    TokioIo::new(Box::new(stream))
}

async fn plain(address: &str) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl XdsTls {
    async fn connect(self, address: &str) -> anyhow::Result<TlsStream<TcpStream>> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let name =
            if self.server_name.is_empty() { host.trim_matches(['[', ']']) } else { &self.server_name };
        let name = ServerName::try_from(name.to_owned()).with_context(|| format!("{name:?} is no name"))?;
        let stream = plain(address).await?;
        let config = tokio::task::spawn_blocking(move || self.config()).await??;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.context("TLS handshake")
    }

    fn config(&self) -> anyhow::Result<ClientConfig> {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_root_certificates(self.roots()?);
        let mut config = match &self.pair {
            None => config.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = certificates(cert)?;
                let secret = PrivateKeyDer::from_pem_file(key).with_context(|| unusable(key))?;
                config.with_client_auth_cert(chain, secret).with_context(|| unusable(cert))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    fn roots(&self) -> anyhow::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let authorities = match &self.ca {
            Some(path) => certificates(path)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        roots.add_parsable_certificates(authorities);
        anyhow::ensure!(
            !roots.is_empty(),
            "xds.tls_ca: there are no authorities to check the server against"
        );
        Ok(roots)
    }
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).with_context(|| unusable(path))?;
    read.collect::<Result<_, _>>().with_context(|| unusable(path))
}

fn unusable(path: &Path) -> String {
    format!("xds: cannot use {}", path.display())
}
