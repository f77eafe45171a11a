//! Renews the leaf while the webhook runs, and shows what another replica has renewed.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;

use super::Shown;
use super::secret::{self, Shared};

/// How often the Secret is looked at. A leaf is due a month before its end.
const EVERY: Duration = Duration::from_secs(3_600);

/// Looks for ever. A leaf of another CA is not shown: the API server does not trust it yet.
pub async fn run(
    secrets: Api<Secret>,
    server_name: String,
    mut shared: Shared,
    shown: Arc<Shown>,
    clock: fn() -> DateTime<Utc>,
) {
    loop {
        tokio::time::sleep(EVERY).await;
        let result = match secret::certificates(&secrets, &server_name, clock()).await {
            Ok(stored) if stored.ca == shared.ca && stored.leaf != shared.leaf => {
                shown.swap(&stored.leaf).map(|()| shared = stored)
            }
            Ok(stored) if stored.ca != shared.ca => {
                Err(anyhow::anyhow!("the Secret holds another CA; restart the webhook to use it"))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::error!("renewing the certificate: {error:#}");
        }
    }
}
