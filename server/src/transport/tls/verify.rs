//! Who a certificate says that a caller is.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use webpki::EndEntityCert;

use crate::access::NamePattern;

/// The DNS names and URIs among the subject alternative names of a certificate.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<Box<str>> {
    let Ok(parsed) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    parsed.valid_dns_names().chain(parsed.valid_uri_names()).map(Box::from).collect()
}

/// A verifier that also wants one of some names. The common name is no name: it has not been one for long
/// (RFC 6125 §6.4.4).
#[derive(Debug)]
pub(super) struct Named {
    chain: Arc<dyn ClientCertVerifier>,
    allowed: Arc<[NamePattern]>,
}

impl Named {
    pub(super) fn new(chain: Arc<dyn ClientCertVerifier>, allowed: Arc<[NamePattern]>) -> Named {
        Named { chain, allowed }
    }

    fn has_name(&self, certificate: &CertificateDer<'_>) -> bool {
        let names = names(certificate);
        self.allowed.iter().any(|allowed| names.iter().any(|name| allowed.matches(name)))
            || self.allowed.iter().any(|allowed| stands_for(certificate, allowed))
    }
}

/// Whether a name of the certificate that has a wildcard stands for an allowed host, as the reference has it.
fn stands_for(certificate: &CertificateDer<'_>, allowed: &NamePattern) -> bool {
    let host = allowed.exact().and_then(|name| ServerName::try_from(name).ok());
    let parsed = EndEntityCert::try_from(certificate).ok();
    host.zip(parsed).is_some_and(|(host, parsed)| parsed.verify_is_valid_for_subject_name(&host).is_ok())
}

impl ClientCertVerifier for Named {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(certificate, intermediates, now)?;
        if self.has_name(certificate) {
            return Ok(verified);
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
