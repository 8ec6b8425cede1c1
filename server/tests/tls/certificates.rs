//! Certificates made on the spot, and clients that use them.

use std::fs::write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;

pub const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Pair {
    pub cert: String,
    pub key: String,
}

/// An authority.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for names, of which those with `://` are URIs.
    pub fn signs(&self, names: &[&str]) -> Pair {
        let key = KeyPair::generate().unwrap();
        let (uris, hosts): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains("://"));
        let hosts: Vec<String> = hosts.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.subject_alt_names.extend(uris.into_iter().map(|uri| SanType::URI(uri.try_into().unwrap())));
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { cert, key: key.serialize_pem() }
    }
}

/// A folder with an authority's certificate and a server's pair.
pub struct Files {
    folder: TempDir,
    pub authority: Authority,
}

impl Files {
    pub fn new() -> Files {
        let files =
            Files { folder: tempfile::tempdir().unwrap(), authority: Authority::new("The test's authority") };
        write(files.path("ca.pem"), &files.authority.pem).unwrap();
        files.keep(&files.authority.signs(&["localhost"]));
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a server's pair in its place.
    pub fn keep(&self, pair: &Pair) {
        write(self.path("server.pem"), &pair.cert).unwrap();
        write(self.path("server.key"), &pair.key).unwrap();
    }

    /// The settings of a port with this pair.
    pub fn settings(&self, section: &str) -> Vec<(String, String)> {
        let set = |key: &str, file: &str| {
            (format!("TOLLGATE__{section}__TLS__{key}"), self.path(file).display().to_string())
        };
        vec![set("CERT", "server.pem"), set("KEY", "server.key")]
    }

    /// The same, with certificates of callers.
    pub fn mutual(&self, section: &str, client_auth: &str) -> Vec<(String, String)> {
        let mut settings = self.settings(section);
        let ca = self.path("ca.pem").display().to_string();
        settings.push((format!("TOLLGATE__{section}__TLS__CLIENT_CA"), ca));
        settings.push((format!("TOLLGATE__{section}__TLS__CLIENT_AUTH"), client_auth.to_owned()));
        settings
    }

    /// A client that trusts this authority and shows nothing.
    pub fn client(&self) -> Arc<ClientConfig> {
        client(&[&self.authority.pem], None, BOTH)
    }

    /// A client that shows a certificate of this authority for `names`.
    pub fn client_named(&self, names: &[&str]) -> Arc<ClientConfig> {
        client(&[&self.authority.pem], Some(&self.authority.signs(names)), BOTH)
    }
}

/// A client that trusts `authorities` and shows `pair`.
pub fn client(
    authorities: &[&str],
    pair: Option<&Pair>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match pair {
        None => builder.with_no_client_auth(),
        Some(Pair { cert, key }) => {
            let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                .unwrap()
        }
    })
}
