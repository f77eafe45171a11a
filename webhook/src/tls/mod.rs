//! The certificate that is shown now; swapped without a restart.

use std::sync::Arc;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

// Make a CA, make a leaf, say when one is due.
pub mod ca;
// CA and leaf in one Secret that all replicas share.
pub mod secret;
// Renews the leaf while the webhook runs.
pub mod renew;

/// The certificate that is shown now.
#[derive(Debug)]
pub struct Shown {
    provider: Arc<CryptoProvider>,
    key: ArcSwap<CertifiedKey>,
}

impl Shown {
    /// Shows this pair.
    ///
    /// # Errors
    /// Where the texts are no certificate and key, or do not belong together.
    pub fn new(pair: &ca::Pair) -> Result<Arc<Self>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = certified(pair, &provider)?;
        Ok(Arc::new(Self { provider, key: ArcSwap::from_pointee(key) }))
    }

    /// Shows another pair from the next handshake on.
    ///
    /// # Errors
    /// As for [`Shown::new`]; the pair that was shown stays.
    pub fn swap(&self, pair: &ca::Pair) -> Result<()> {
        self.key.store(Arc::new(certified(pair, &self.provider)?));
        Ok(())
    }

    /// How to serve with it: TLS 1.2 and later, no client certificates.
    ///
    /// # Errors
    /// Where the provider lacks a protocol version, which ring does not.
    pub fn server_config(self: &Arc<Self>) -> Result<rustls::ServerConfig> {
        let mut config = rustls::ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .context("choosing the versions of TLS")?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.load_full())
    }
}

fn certified(pair: &ca::Pair, provider: &CryptoProvider) -> Result<CertifiedKey> {
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .context("reading the certificate")?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).context("reading the private key")?;
    CertifiedKey::from_der(chain, key, provider).context("matching the certificate with its key")
}
