//! CA, leaf and the cluster's key in Secrets that all replicas share; whoever writes replaces what it has read, or nothing.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use breakglass::seal::Key;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};

use super::ca::Pair;
use super::plan::{Stored, Wish};
use crate::said::said;

/// The Secret with the CA and the leaf.
pub const TLS_SECRET: &str = "breakglass-webhook-tls";
/// The Secret with the cluster's key. Apart from the certificates: those are renewed, this is not.
pub const KEY_SECRET: &str = "breakglass-webhook-key";

/// The annotation on the Secret by which somebody asks for a new CA or leaf now, after a key has leaked: `ca` or `leaf`.
pub const ROTATE: &str = "breakglass.dev/rotate";

/// How often to try again when another replica wrote first. Each try reads what the other wrote, so a second one is
/// already rare.
pub(super) const TRIES: usize = 5;

/// The Secret as it was read, to be replaced by whoever read it last.
#[derive(Clone, Debug, Default)]
pub struct Read {
    secret: Option<Secret>,
}

impl Read {
    /// What it holds; `None` where it does not hold all of it.
    pub fn stored(&self) -> Option<Stored> {
        let data = self.secret.as_ref()?.data.as_ref()?;
        Some(Stored {
            ca: pair(data, "ca.crt", "ca.key")?,
            leaf: pair(data, "tls.crt", "tls.key")?,
            next: pair(data, "ca-next.crt", "ca-next.key"),
            previous: text(data, "ca-previous.crt"),
        })
    }

    /// What cert-manager put into it: no key of the CA, and nothing for us to rotate.
    pub fn made_by_others(&self) -> Option<Stored> {
        let data = self.secret.as_ref()?.data.as_ref()?;
        let ca = Pair { certificate: text(data, "ca.crt")?, key: String::new() };
        Some(Stored { ca, leaf: pair(data, "tls.crt", "tls.key")?, next: None, previous: None })
    }

    /// What somebody asks for.
    pub fn wish(&self) -> Wish {
        let annotations = self.secret.as_ref().and_then(|secret| secret.metadata.annotations.as_ref());
        match annotations.and_then(|annotations| annotations.get(ROTATE)).map(String::as_str) {
            Some("ca") => Wish::Ca,
            Some("leaf") => Wish::Leaf,
            _ => Wish::None,
        }
    }
}

/// Reads the Secret with CA and leaf.
///
/// # Errors
/// Where the API server cannot be asked.
pub async fn read(secrets: &Api<Secret>) -> Result<Read> {
    let secret = secrets.get_opt(TLS_SECRET).await.map_err(said).context("reading the Secret with the CA")?;
    Ok(Read { secret })
}

/// Puts this into the place of what was read, and takes the wish off that it grants. Whether it is there now; not, where
/// somebody else wrote first.
///
/// # Errors
/// Where the API server cannot be asked, or refuses.
pub async fn write(secrets: &Api<Secret>, read: &Read, stored: &Stored, granted: Wish) -> Result<bool> {
    let mut data = BTreeMap::from([
        ("ca.crt", &stored.ca.certificate),
        ("ca.key", &stored.ca.key),
        ("tls.crt", &stored.leaf.certificate),
        ("tls.key", &stored.leaf.key),
    ]);
    if let Some(next) = &stored.next {
        data.extend([("ca-next.crt", &next.certificate), ("ca-next.key", &next.key)]);
    }
    data.extend(stored.previous.iter().map(|previous| ("ca-previous.crt", previous)));
    let data = data.into_iter().map(|(key, value)| (key.to_owned(), value.clone().into_bytes())).collect();
    let mut secret = read.secret.clone();
    if let Some(annotations) = secret.as_mut().and_then(|secret| secret.metadata.annotations.as_mut())
        && granted != Wish::None
    {
        annotations.remove(ROTATE);
    }
    store(secrets, TLS_SECRET, secret, data).await
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

/// The certificate by whose CA callers are known, from the Secret `name`.
///
/// # Errors
/// Where the API server cannot be asked, or the Secret holds none.
pub async fn client_ca(secrets: &Api<Secret>, name: &str) -> Result<String> {
    let secret = secrets.get_opt(name).await.map_err(said).with_context(|| format!("reading the Secret {name}"))?;
    let data = secret.and_then(|secret| secret.data).unwrap_or_default();
    text(&data, "ca.crt").with_context(|| format!("the Secret {name} holds no ca.crt"))
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
        Err(kube::Error::Api(status))
            if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
        {
            Ok(false)
        }
        Err(error) => Err(said(error)).with_context(|| format!("writing the Secret {name}")),
    }
}

fn text(data: &BTreeMap<String, ByteString>, key: &str) -> Option<String> {
    String::from_utf8(data.get(key)?.0.clone()).ok().filter(|text| !text.is_empty())
}

fn pair(data: &BTreeMap<String, ByteString>, certificate: &str, key: &str) -> Option<Pair> {
    Some(Pair { certificate: text(data, certificate)?, key: text(data, key)? })
}
