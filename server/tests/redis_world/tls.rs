//! Certificates made on the spot.

use std::fs::{read, write};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use redis::{ClientTlsConfig, TlsCertificates};
use tempfile::TempDir;

/// An authority, a server certificate for `localhost` and 127.0.0.1, a client certificate of the same authority,
/// and an authority that signed none of them. All are PEM files.
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    pub fn new() -> Arc<Certificates> {
        let certificates = Certificates { directory: tempfile::tempdir().unwrap() };
        let issuer = certificates.authority("ca", "The test's authority");
        certificates.signed("server", &["localhost", "127.0.0.1"], &issuer);
        certificates.signed("client", &["client"], &issuer);
        certificates.authority("unknown_ca", "Nobody's authority");
        Arc::new(certificates)
    }

    fn authority(&self, file: &str, name: &str) -> Issuer<'static, KeyPair> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        self.keep(&format!("{file}.pem"), &params.self_signed(&key).unwrap().pem());
        Issuer::new(params, key)
    }

    fn signed(&self, file: &str, names: &[&str], issuer: &Issuer<'_, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, issuer).unwrap();
        self.keep(&format!("{file}.pem"), &certificate.pem());
        self.keep(&format!("{file}.key"), &key.serialize_pem());
    }

    fn keep(&self, file: &str, text: &str) {
        write(self.path(file), text).unwrap();
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// An authority that signed nothing here: who trusts only this must refuse the server.
    pub fn unknown_ca(&self) -> PathBuf {
        self.path("unknown_ca.pem")
    }

    pub fn server_certificate(&self) -> PathBuf {
        self.path("server.pem")
    }

    pub fn server_key(&self) -> PathBuf {
        self.path("server.key")
    }

    pub fn client_certificate(&self) -> PathBuf {
        self.path("client.pem")
    }

    pub fn client_key(&self) -> PathBuf {
        self.path("client.key")
    }

    /// What a client needs to trust the server and to be trusted by it.
    pub fn trusted(&self) -> TlsCertificates {
        let client_cert = read(self.client_certificate()).unwrap();
        let client_key = read(self.client_key()).unwrap();
        let client_tls = Some(ClientTlsConfig { client_cert, client_key });
        TlsCertificates { client_tls, root_cert: Some(read(self.ca()).unwrap()) }
    }

    /// Trusts the server, and shows it no certificate.
    pub fn without_client(&self) -> TlsCertificates {
        TlsCertificates { client_tls: None, ..self.trusted() }
    }

    /// Trusts only the authority that signed nothing.
    pub fn untrusting(&self) -> TlsCertificates {
        TlsCertificates { root_cert: Some(read(self.unknown_ca()).unwrap()), ..self.trusted() }
    }
}
