//! From flags and kubeconfig to a client, the way kubectl does it.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::cli::{GlobalFlags, RequestTimeout};
use crate::error::{CommandError, Result};
use crate::explain::root_cause;

/// How long a cluster may take to pick up the phone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one answer may take when nobody says: a hanging aggregated API must not hang an incident.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The cluster, as the kubeconfig names it.
#[derive(Clone)]
pub struct Connection {
    /// The client.
    pub client: Client,
    /// The context, or where else the settings come from.
    pub context: String,
    /// The namespace that the context names, if it names one.
    pub namespace: Option<String>,
    /// The address of the API server.
    pub server: String,
    /// How long one answer may take.
    pub timeout: RequestTimeout,
}

/// Reads the kubeconfig and makes a client. Nothing is sent yet.
///
/// # Errors
/// When there is no kubeconfig, or it does not lead to a cluster.
pub async fn connect(flags: &GlobalFlags) -> Result<Connection> {
    let (mut config, context, namespace) = match read_kubeconfig(flags)? {
        Some(kubeconfig) => from_kubeconfig(kubeconfig, flags).await?,
        None => {
            let config = Config::incluster().map_err(|_| no_kubeconfig())?;
            let namespace = config.default_namespace.clone();
            (config, "in the cluster".to_owned(), Some(namespace))
        }
    };
    if let Some(server) = &flags.server {
        config.cluster_url =
            server.parse().map_err(|error| CommandError::usage(format!("--server {server} is no address: {error}")))?;
    }
    if flags.as_user.is_some() {
        config.auth_info.impersonate = flags.as_user.clone();
        config.auth_info.impersonate_groups = Some(flags.as_groups.clone()).filter(|groups| !groups.is_empty());
    } else if !flags.as_groups.is_empty() {
        return Err(CommandError::usage("--as-group needs --as: say which user is in the group"));
    }
    // The library would wait for up to 1000 s on a busy server; a person at a terminal decides that themselves.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let client = Client::try_from(config)
        .map_err(|error| CommandError::failed(format!("context {context}: {}", root_cause(&error))))?;
    let timeout = flags.request_timeout.unwrap_or(RequestTimeout::AtMost(REQUEST_TIMEOUT));
    Ok(Connection { client, context, namespace, server, timeout })
}

async fn from_kubeconfig(kubeconfig: Kubeconfig, flags: &GlobalFlags) -> Result<(Config, String, Option<String>)> {
    let name = flags.context.clone().or_else(|| kubeconfig.current_context.clone());
    let Some(name) = name else {
        return Err(CommandError::failed("the kubeconfig names no current context")
            .hint("kubectl config get-contexts")
            .hint("kubectl config use-context <name>"));
    };
    let context = kubeconfig.contexts.iter().find(|context| context.name == name);
    let Some(context) = context.and_then(|context| context.context.as_ref()) else {
        return Err(
            CommandError::failed(format!("the kubeconfig has no context {name:?}")).hint("kubectl config get-contexts")
        );
    };
    let namespace = context.namespace.clone().filter(|namespace| !namespace.is_empty());
    let options = KubeConfigOptions { context: Some(name.clone()), cluster: flags.cluster.clone(), user: None };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| CommandError::failed(format!("context {name}: {}", sentence(&error))))?;
    Ok((config, name, namespace))
}

/// The kubeconfig as kubectl reads it: `--kubeconfig` alone, else the files of `$KUBECONFIG` that exist, merged, else
/// `~/.kube/config`. Nothing where none of them is there.
fn read_kubeconfig(flags: &GlobalFlags) -> Result<Option<Kubeconfig>> {
    if let Some(path) = &flags.kubeconfig {
        return read(path.clone()).map(Some);
    }
    let named: Vec<PathBuf> = std::env::var_os("KUBECONFIG")
        .map(|list| std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect())
        .unwrap_or_default();
    let paths = if named.is_empty() { home().into_iter().collect() } else { named };
    let mut merged: Option<Kubeconfig> = None;
    for path in paths.into_iter().filter(|path| path.exists()) {
        let next = read(path)?;
        merged = Some(match merged {
            Some(before) => before.merge(next).map_err(|error| CommandError::failed(sentence(&error)))?,
            None => next,
        });
    }
    // An empty file is no kubeconfig: kubectl looks for the cluster around it as well.
    Ok(merged.filter(|kubeconfig| !kubeconfig.contexts.is_empty() || !kubeconfig.clusters.is_empty()))
}

fn read(path: PathBuf) -> Result<Kubeconfig> {
    let mut kubeconfig = Kubeconfig::read_from(path).map_err(|error| CommandError::failed(sentence(&error)))?;
    kubeconfig.current_context = kubeconfig.current_context.filter(|name| !name.is_empty());
    Ok(kubeconfig)
}

fn home() -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join(".kube").join("config"))
}

fn no_kubeconfig() -> CommandError {
    let message = "there is no kubeconfig: neither $KUBECONFIG nor ~/.kube/config names a cluster";
    CommandError::failed(message).hint("export KUBECONFIG=<file>").hint("kubectl config get-contexts")
}

fn sentence(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(source, path) => {
            format!("could not read the kubeconfig {}: {source}", path.display())
        }
        KubeconfigError::LoadClusterOfContext(name) => format!("the kubeconfig has no cluster {name:?}"),
        other => other.to_string(),
    }
}

/// The names of the contexts that the kubeconfig has; none where it cannot be read.
pub fn contexts(flags: &GlobalFlags) -> Vec<String> {
    let kubeconfig = read_kubeconfig(flags).ok().flatten();
    kubeconfig.into_iter().flat_map(|kubeconfig| kubeconfig.contexts).map(|context| context.name).collect()
}
