//! CA, leaf and the cluster's key in Secrets that all replicas share; the first replica makes them, the others read them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use breakglass::seal::Key;
use chrono::{DateTime, Utc};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};

use super::ca::{self, Pair};
use crate::said::said;

/// The Secret with the CA and the leaf.
pub const TLS_SECRET: &str = "breakglass-webhook-tls";
/// The Secret with the cluster's key. Apart from the certificates: those are renewed, this is not.
pub const KEY_SECRET: &str = "breakglass-webhook-key";

/// How often to try again when another replica wrote first. Each try reads what the other wrote, so a second one is
/// already rare.
const TRIES: usize = 5;

/// What the replicas share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The CA's certificate, for the API server.
    pub ca: String,
    /// What the webhook shows.
    pub leaf: Pair,
}

/// Reads the certificates; makes those that are not there or are due.
///
/// # Errors
/// Where the API server cannot be asked, or the replicas keep getting in each other's way.
pub async fn certificates(secrets: &Api<Secret>, server_name: &str, now: DateTime<Utc>) -> Result<Shared> {
    for _ in 0..TRIES {
        let stored = secrets.get_opt(TLS_SECRET).await.map_err(said).context("reading the Secret with the CA")?;
        let data = stored.as_ref().map(|secret| secret.data.clone().unwrap_or_default()).unwrap_or_default();
        let ca = match pair(&data, "ca.crt", "ca.key") {
            Some(ca) if !ca::is_due(&ca.certificate, now) => ca,
            _ => ca::make_ca(now)?,
        };
        let same_ca = text(&data, "ca.crt").as_deref() == Some(ca.certificate.as_str());
        let leaf = match pair(&data, "tls.crt", "tls.key") {
            Some(leaf) if same_ca && !ca::is_due(&leaf.certificate, now) => {
                return Ok(Shared { ca: ca.certificate, leaf });
            }
            _ => ca::make_leaf(&ca, server_name, now)?,
        };
        let data = BTreeMap::from([
            ("ca.crt", &ca.certificate),
            ("ca.key", &ca.key),
            ("tls.crt", &leaf.certificate),
            ("tls.key", &leaf.key),
        ])
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.clone().into_bytes()));
        if store(secrets, TLS_SECRET, stored, data.collect()).await? {
            return Ok(Shared { ca: ca.certificate, leaf });
        }
    }
    bail!("other replicas kept writing the Secret {TLS_SECRET}; starting again will read what they wrote")
}

/// Reads the cluster's key; makes it where it is not there.
///
/// # Errors
/// Where the API server cannot be asked, or the Secret holds something else.
pub async fn key(secrets: &Api<Secret>, random: impl Fn() -> Result<[u8; Key::BYTES]>) -> Result<Key> {
    for _ in 0..TRIES {
        if let Some(secret) =
            secrets.get_opt(KEY_SECRET).await.map_err(said).context("reading the Secret with the key")?
        {
            let bytes = secret.data.and_then(|mut data| data.remove("key")).map(|bytes| bytes.0).unwrap_or_default();
            let Ok(bytes) = bytes.try_into() else {
                bail!(
                    "the Secret {KEY_SECRET} does not hold {} bytes under `key`. Delete it, and a new one is made; \
                     hashes in older records will not equal newer ones",
                    Key::BYTES
                )
            };
            return Ok(Key::new(bytes));
        }
        let bytes = random()?;
        if store(secrets, KEY_SECRET, None, BTreeMap::from([("key".to_owned(), bytes.to_vec())])).await? {
            return Ok(Key::new(bytes));
        }
    }
    bail!("other replicas kept writing the Secret {KEY_SECRET}; starting again will read what they wrote")
}

/// Whether it was stored; not, where somebody else wrote first.
async fn store(
    secrets: &Api<Secret>,
    name: &str,
    stored: Option<Secret>,
    data: BTreeMap<String, Vec<u8>>,
) -> Result<bool> {
    let data = data.into_iter().map(|(key, value)| (key, ByteString(value))).collect();
    let result = match stored {
        Some(secret) => secrets.replace(name, &PostParams::default(), &Secret { data: Some(data), ..secret }).await,
        None => {
            let metadata = ObjectMeta { name: Some(name.to_owned()), ..Default::default() };
            let secret = Secret { metadata, data: Some(data), ..Default::default() };
            secrets.create(&PostParams::default(), &secret).await
        }
    };
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(said(error)).with_context(|| format!("writing the Secret {name}")),
    }
}

fn text(data: &BTreeMap<String, ByteString>, key: &str) -> Option<String> {
    String::from_utf8(data.get(key)?.0.clone()).ok()
}

fn pair(data: &BTreeMap<String, ByteString>, certificate: &str, key: &str) -> Option<Pair> {
    Some(Pair { certificate: text(data, certificate)?, key: text(data, key)? })
}
