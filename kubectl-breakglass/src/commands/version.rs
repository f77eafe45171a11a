//! `version`: of the plugin and of the webhook.

use clap::Args;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::Api;
use serde_json::json;

use crate::Exit;
use crate::cli::{GlobalFlags, Output};
use crate::connect::connect;
use crate::error::{CommandError, Result};
use crate::explain::Doing;
use crate::print::{Printer, object};

/// The webhook configuration that says which version of the webhook wrote it.
const CONFIGURATION: &str = "breakglass";

/// The label that says it.
const LABEL: &str = "app.kubernetes.io/version";

/// Print the versions of the plugin and of the webhook
///
/// Examples:
///   kubectl breakglass version
///   kubectl breakglass version --client
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct VersionArgs {
    /// Only the plugin's; the cluster is not asked
    #[arg(long)]
    pub client: bool,
}

/// Prints the versions.
///
/// # Errors
/// When stdout is closed or full. A cluster that does not say is no error here.
pub async fn version(args: &VersionArgs, flags: &GlobalFlags, printer: &mut Printer) -> Result<Exit> {
    let client = concat!("v", env!("CARGO_PKG_VERSION"));
    let webhook = match args.client {
        true => None,
        false => Some(webhook_version(flags).await),
    };
    let mut document = json!({"clientVersion": client});
    if let Some(Ok(version)) = &webhook {
        document["webhookVersion"] = version.as_str().into();
    }
    match flags.output() {
        Output::Json => object::json(printer, &document)?,
        Output::Yaml => object::yaml(printer, &document)?,
        Output::Table | Output::Wide | Output::Name => {
            printer.data(&format!("Client Version: {client}"))?;
            if let Some(Ok(version)) = &webhook {
                printer.data(&format!("Webhook Version: {version}"))?;
            }
        }
    }
    if let Some(Err(error)) = webhook {
        printer.say(&format!("Webhook Version: unknown: {}", error.message));
    }
    Ok(Exit::Done)
}

async fn webhook_version(flags: &GlobalFlags) -> Result<String> {
    let cluster = connect(flags).await?;
    let api = Api::<ValidatingWebhookConfiguration>::all(cluster.client.clone());
    let found = cluster.ask(Doing::Asking("for the webhook configuration"), api.get_opt(CONFIGURATION)).await?;
    let found = found
        .ok_or_else(|| CommandError::failed(format!("there is no ValidatingWebhookConfiguration {CONFIGURATION:?}")))?;
    let label = found.metadata.labels.and_then(|labels| labels.get(LABEL).cloned());
    let version = label
        .ok_or_else(|| CommandError::failed(format!("the ValidatingWebhookConfiguration has no label {LABEL}")))?;
    // The label has the bare number, as Kubernetes recommends.
    Ok(if version.starts_with('v') { version } else { format!("v{version}") })
}
