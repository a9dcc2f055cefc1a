//! Who is at the other end: a certificate made at the start of an endpoint, known by its hash. There are no names and no
//! authorities: whoever told the hash (signalling) is the authority. Whoever dials shows a token instead.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs::default_provider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme, version::TLS13};

use super::ALPN;

/// In every certificate; means nothing.
pub(super) const NAME: &str = "grove";

/// What a listener is known by.
pub(super) struct Identity {
    pub(super) server: QuicServerConfig,
    pub(super) sha256: [u8; 32],
}

impl Identity {
    pub(super) fn new() -> Result<Self, String> {
        let words = |error: &dyn std::fmt::Display| error.to_string();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| words(&e))?;
        let certificate = CertificateParams::new(vec![NAME.to_owned()])
            .and_then(|params| params.self_signed(&key))
            .map_err(|e| words(&e))?;
        let certificate = certificate.der().clone();
        let sha256 = fingerprint(&certificate);
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut server = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| words(&e))?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .map_err(|e| words(&e))?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        // Every link begins with its own handshake: nothing of a former one is kept.
        server.send_tls13_tickets = 0;
        let server = QuicServerConfig::try_from(server).map_err(|e| words(&e))?;
        Ok(Self { server, sha256 })
    }
}

/// For a connection to the one who has this certificate.
pub(super) fn client(sha256: [u8; 32]) -> Result<QuicClientConfig, String> {
    let provider = Arc::new(default_provider());
    let pinned = Arc::new(Pinned {
        sha256,
        provider: provider.clone(),
    });
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_no_client_auth();
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.resumption = Resumption::disabled();
    QuicClientConfig::try_from(client).map_err(|error| error.to_string())
}

fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let digest = digest(&SHA256, certificate);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Takes one certificate and no other, whatever it says.
#[derive(Debug)]
struct Pinned {
    sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if fingerprint(certificate) == self.sha256 {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("QUIC has TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
