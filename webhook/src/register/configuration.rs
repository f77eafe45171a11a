//! What is asked of either kind of webhook configuration.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::Resource;

/// A webhook configuration.
pub(super) trait Configuration:
    Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
    + Clone
    + std::fmt::Debug
    + serde::de::DeserializeOwned
    + serde::Serialize
{
    /// The kind, as a metric has it.
    const KIND: &'static str;

    /// Whether both have the same webhooks.
    fn calls_as(&self, other: &Self) -> bool;

    /// How the API server calls, one for each webhook.
    fn calls(&mut self) -> Vec<&mut WebhookClientConfig>;

    /// The certificates that every call trusts.
    fn trusted(&self) -> BTreeSet<String> {
        let mut this = self.clone();
        let bundles = this.calls().into_iter().map(|call| certificates(call.ca_bundle.as_ref()));
        bundles.reduce(|common, bundle| &common & &bundle).unwrap_or_default()
    }

    /// Trusts what is trusted in `other`, where that is anything.
    fn trust_as(&mut self, other: &Self) {
        let mut other = other.clone();
        let bundle =
            other.calls().into_iter().find_map(|call| call.ca_bundle.clone().filter(|bundle| !bundle.0.is_empty()));
        if let Some(bundle) = bundle {
            self.calls().into_iter().for_each(|call| call.ca_bundle = Some(bundle.clone()));
        }
    }
}

/// The certificates in a bundle, each as the PEM that we write.
pub(super) fn certificates(bundle: Option<&ByteString>) -> BTreeSet<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = bundle.map(|bundle| String::from_utf8_lossy(&bundle.0).into_owned()).unwrap_or_default();
    let parts = text.split_inclusive(END).map(str::trim).filter(|part| part.ends_with(END));
    parts.map(|part| part.replace("\r\n", "\n")).collect()
}

impl Configuration for MutatingWebhookConfiguration {
    const KIND: &'static str = "mutating";

    fn calls_as(&self, other: &Self) -> bool {
        self.webhooks == other.webhooks
    }

    fn calls(&mut self) -> Vec<&mut WebhookClientConfig> {
        self.webhooks.iter_mut().flatten().map(|webhook| &mut webhook.client_config).collect()
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    const KIND: &'static str = "validating";

    fn calls_as(&self, other: &Self) -> bool {
        self.webhooks == other.webhooks
    }

    fn calls(&mut self) -> Vec<&mut WebhookClientConfig> {
        self.webhooks.iter_mut().flatten().map(|webhook| &mut webhook.client_config).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_its_certificates_whatever_stands_between() {
        let one = "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----";
        let two = "-----BEGIN CERTIFICATE-----\nYg==\n-----END CERTIFICATE-----";
        let read = |text: String| certificates(Some(&ByteString(text.into_bytes())));
        assert_eq!(read(format!("{one}\n\n{two}\n")), [one.to_owned(), two.to_owned()].into());
        assert_eq!(read(one.replace('\n', "\r\n")), [one.to_owned()].into());
        assert_eq!(read("nothing".to_owned()), BTreeSet::new());
        assert_eq!(certificates(None), BTreeSet::new());
    }
}
