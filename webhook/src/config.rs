//! Flags → Config, checked once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::USER_AGENT;
use clap::{Parser, ValueEnum};

/// Who makes the certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// The webhook makes its own CA and leaf, and renews them
    Own,
    /// cert-manager does, into the same Secret, and puts its CA into the webhook configurations
    CertManager,
}

/// Stamp direct writes, refuse prod writes without a break-glass token, record what is let in
#[derive(Clone, Debug, Parser)]
#[command(name = "breakglass-webhook", version, max_term_width = 80)]
pub struct Config {
    /// Address to serve HTTPS on
    #[arg(long, default_value = "0.0.0.0:8443", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Address to serve /metrics, /livez and /readyz on, without TLS
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub metrics_listen: SocketAddr,
    /// Namespace of the Service, the Secrets and the Lease
    #[arg(long, default_value = "breakglass-system", value_name = "NAME")]
    pub namespace: String,
    /// Service that the API server calls
    #[arg(long, default_value = "breakglass-webhook", value_name = "NAME")]
    pub service: String,
    /// Port of that Service
    #[arg(long, default_value_t = 443, value_name = "PORT")]
    pub service_port: u16,
    /// Kubeconfig to use instead of the pod's service account
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// This replica's name in the Lease
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: Option<String>,
    /// The uid of this replica's pod: what the replica says of itself goes when the pod goes
    #[arg(long, env = "POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,
    /// Who makes the certificates
    #[arg(long, value_enum, default_value_t = Source::Own, value_name = "WHO")]
    pub certificates: Source,
    /// Secret whose ca.crt signs the certificate that the API server shows: calls without such a certificate are refused
    #[arg(long, value_name = "NAME")]
    pub client_ca_secret: Option<String>,
    /// The common name in that certificate: needed where that CA signs for others, too
    #[arg(long, value_name = "NAME", requires = "client_ca_secret")]
    pub client_name: Option<String>,
    /// How long to go on answering after SIGTERM before the connections are drained, in seconds: as long as the cluster
    /// needs to stop sending calls here
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    pub lameduck: u64,
}

impl Config {
    /// The name that the API server expects in the certificate.
    pub fn server_name(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// How long to go on answering after SIGTERM.
    pub fn lameduck(&self) -> Duration {
        Duration::from_secs(self.lameduck)
    }

    /// The client of the API server.
    ///
    /// # Errors
    /// Where there is neither a kubeconfig nor a service account.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        use anyhow::Context as _;
        // Never Config::infer(): it honours environment variables that impersonate.
        let mut config = match &self.kubeconfig {
            Some(path) => {
                let kubeconfig = kube::config::Kubeconfig::read_from(path)
                    .with_context(|| format!("reading the kubeconfig {}", path.display()))?;
                kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
                    .await
                    .with_context(|| format!("using the kubeconfig {}", path.display()))?
            }
            None => kube::Config::incluster()
                .context("not in a pod, and no kubeconfig is given. Run it in a cluster, or pass --kubeconfig")?,
        };
        // By default kube retries for minutes. In the path of a write, a late answer is no answer.
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(2));
        // By this the audit log, and managedFields where nothing else is said, know the program.
        config
            .headers
            .push((USER_AGENT, HeaderValue::from_static(concat!("breakglass-webhook/", env!("CARGO_PKG_VERSION")))));
        kube::Client::try_from(config).context("making a client of the API server")
    }
}
