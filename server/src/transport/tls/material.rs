//! What is in the files, and the configuration that follows from it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

use super::verify::Named;
use super::{ClientAuth, TlsError, TlsOptions};

/// The bytes of the files.
#[derive(Eq, PartialEq)]
pub(super) struct Material {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Vec<u8>,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Material(***)")
    }
}

impl Material {
    pub(super) fn read(options: &TlsOptions) -> Result<Material, TlsError> {
        let read = |path: &Path| {
            let section = options.section;
            fs::read(path).map_err(|error| TlsError::File { section, path: path.to_owned(), error })
        };
        let client_ca = options.client_ca.as_deref().map(read).transpose()?.unwrap_or_default();
        Ok(Material { cert: read(&options.cert)?, key: read(&options.key)?, client_ca })
    }

    pub(super) fn config(&self, options: &TlsOptions) -> Result<Arc<ServerConfig>, TlsError> {
        let wrong = |why: String| TlsError::Content { section: options.section, why };
        let chain = certificates(&self.cert).map_err(|why| wrong(format!("cert: {why}")))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|why| wrong(format!("key: {why}")))?;
        let versions: &[_] = if options.with_tls12 { &[&TLS13, &TLS12] } else { &[&TLS13] };
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .map_err(|why| wrong(why.to_string()))?;
        let builder = match self.verifier(options).map_err(|why| wrong(format!("client_ca: {why}")))? {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        // refuses a key that is not the certificate's
        let built = builder.with_single_cert(chain, key);
        let mut config = built.map_err(|why| wrong(format!("cert and key do not belong together: {why}")))?;
        config.alpn_protocols = options.alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }

    fn verifier(&self, options: &TlsOptions) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
        if options.client_auth == ClientAuth::Off {
            return Ok(None);
        }
        let mut roots = RootCertStore::empty();
        for authority in certificates(&self.client_ca)? {
            roots.add(authority).map_err(|why| why.to_string())?;
        }
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()));
        let builder = match options.client_auth {
            ClientAuth::Optional => builder.allow_unauthenticated(),
            ClientAuth::Off | ClientAuth::Required => builder,
        };
        let verifier = builder.build().map_err(|why| why.to_string())?;
        if options.allowed_names.is_empty() {
            return Ok(Some(verifier));
        }
        Ok(Some(Arc::new(Named::new(verifier, options.allowed_names.clone()))))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(found) if found.is_empty() => Err("there is no certificate in the file".to_owned()),
        Ok(found) => Ok(found),
        Err(why) => Err(why.to_string()),
    }
}
