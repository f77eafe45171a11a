//! The certificates that are gone by now; swapped without a restart.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;

use plan::{FAREWELL, Stored};

// Make a CA, make a leaf, say when one is due or unsound.
pub mod ca;
// What to do next about them.
pub mod plan;
// CA and leaf in one Secret that all replicas share.
pub mod secret;
// Takes the steps while the webhook runs.
pub mod rotate;
// Who may call, where callers have to show a certificate.
pub mod callers;

use callers::Callers;

/// The certificates that this replica goes by.
#[derive(Debug)]
pub struct Certificates {
    provider: Arc<CryptoProvider>,
    key: ArcSwap<CertifiedKey>,
    shown: ArcSwap<Stored>,
    stored: ArcSwap<Stored>,
    /// The CA of what was shown before, and until when.
    before: ArcSwapOption<(String, Instant)>,
    /// Told whenever the API server has to trust something else.
    pub changed: Notify,
}

impl Certificates {
    /// Shows what is stored.
    ///
    /// # Errors
    /// Where the texts are no certificate and key, or do not belong together.
    pub fn new(stored: Stored) -> Result<Arc<Self>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = ArcSwap::from_pointee(certified(&stored.leaf, &provider)?);
        let stored = Arc::new(stored);
        let (shown, stored) = (ArcSwap::new(stored.clone()), ArcSwap::new(stored));
        let before = ArcSwapOption::empty();
        Ok(Arc::new(Self { provider, key, shown, stored, before, changed: Notify::new() }))
    }

    /// What is shown to callers.
    pub fn shown(&self) -> Arc<Stored> {
        self.shown.load_full()
    }

    /// What the Secret held when it was last good.
    pub fn stored(&self) -> Arc<Stored> {
        self.stored.load_full()
    }

    /// The certificates that the API server has to trust, without repeats: that of what is shown, all that is stored, and for a
    /// while that of what was shown before.
    pub fn bundle(&self) -> Vec<String> {
        let mut bundle = vec![self.shown().ca.certificate.clone()];
        let before = self.before.load_full().filter(|before| before.1.elapsed() < FAREWELL);
        for certificate in self.stored().bundle().into_iter().chain(before.map(|before| before.0.clone())) {
            if !bundle.contains(&certificate) {
                bundle.push(certificate);
            }
        }
        bundle
    }

    /// Goes by this from now on; its leaf is shown from the next handshake on if `show` says so.
    ///
    /// # Errors
    /// As for [`Certificates::new`]; what was shown stays.
    pub fn go_by(&self, stored: Stored, show: bool) -> Result<()> {
        let stored = Arc::new(stored);
        if show && **self.shown.load() != *stored {
            self.key.store(Arc::new(certified(&stored.leaf, &self.provider)?));
            let before = self.shown.swap(stored.clone()).ca.certificate.clone();
            if before != stored.ca.certificate {
                self.before.store(Some(Arc::new((before, Instant::now()))));
            }
        }
        if **self.stored.load() != *stored {
            self.stored.store(stored);
        }
        self.changed.notify_one();
        Ok(())
    }

    /// How to serve with it: TLS 1.2 and later; callers show a certificate where `callers` asks for one.
    ///
    /// # Errors
    /// Where the provider lacks a protocol version, which ring does not.
    pub fn server_config(self: &Arc<Self>, callers: Option<Arc<Callers>>) -> Result<rustls::ServerConfig> {
        let builder = rustls::ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .context("choosing the versions of TLS")?;
        let builder = match callers {
            Some(callers) => builder.with_client_cert_verifier(callers),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for Certificates {
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
