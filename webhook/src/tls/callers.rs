//! Who may call, where callers have to show a certificate: whoever has one that a CA in a Secret signed, under a name of ours to
//! choose. The CA is read again while the webhook runs.
//!
//! A caller without a certificate gets as far as a sentence that says so: probes show none, and an API server that was not
//! told to show one should not have to guess. One with a certificate of somebody else's gets no connection.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::secret;

/// How often the Secret with the CA is read.
const EVERY: Duration = Duration::from_secs(5);

/// Who may call.
#[derive(Debug)]
pub struct Callers {
    provider: Arc<CryptoProvider>,
    trusted: ArcSwap<Trusted>,
}

#[derive(Debug)]
struct Trusted {
    ca: String,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Callers {
    /// Those whom the CA in the Secret `name` has signed.
    ///
    /// # Errors
    /// Where it holds none.
    pub async fn new(secrets: &Api<Secret>, name: &str) -> Result<Arc<Self>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trusted = trust(secret::client_ca(secrets, name).await?, &provider)?;
        Ok(Arc::new(Self { provider, trusted: ArcSwap::from_pointee(trusted) }))
    }

    /// Reads the Secret again for ever. One that is no good changes nothing.
    pub async fn keep(self: Arc<Self>, secrets: Api<Secret>, name: String) {
        loop {
            tokio::time::sleep(EVERY).await;
            if let Err(error) = self.look(&secrets, &name).await {
                tracing::error!("keeping the CA of callers: {error:#}");
            }
        }
    }

    async fn look(&self, secrets: &Api<Secret>, name: &str) -> Result<()> {
        let ca = secret::client_ca(secrets, name).await?;
        if self.trusted.load().ca != ca {
            self.trusted.store(Arc::new(trust(ca, &self.provider)?));
            tracing::info!("callers are known by another CA from now on");
        }
        Ok(())
    }
}

/// Everything in the bundle: while the CA of callers is rotated there are two.
fn trust(ca: String, provider: &Arc<CryptoProvider>) -> Result<Trusted> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.context("reading the CA of callers")?).context("trusting the CA of callers")?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .context("trusting the CA of callers")?;
    Ok(Trusted { ca, verifier })
}

/// The name in a caller's certificate.
pub fn name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some(name)
}

impl ClientCertVerifier for Callers {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// Not said: the CA may change, and who has a certificate for us knows which.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trusted.load().verifier.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trusted.load().verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trusted.load().verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
