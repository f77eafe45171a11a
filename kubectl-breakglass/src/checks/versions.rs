//! Whether plugin, replicas and API server are of versions that work together.

use std::collections::BTreeMap;

use super::{Finding, Level, Mend};

const CHECK: &str = "versions";

/// The plugin's own.
pub const OURS: &str = env!("CARGO_PKG_VERSION");

/// The oldest minor version of Kubernetes that has all we rely on.
const OLDEST: u32 = 33;
/// The newest that we were tested with.
const NEWEST: u32 = 36;

/// The versions, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// Of each replica that reports, by its name.
    pub replicas: BTreeMap<String, String>,
    /// Of the webhook that wrote the configurations.
    pub registered: Option<String>,
    /// The image that the Deployment runs.
    pub image: Option<String>,
    /// The API server's, such as `v1.36.3`.
    pub server: Option<String>,
}

impl Versions {
    /// Whether the webhook in the cluster is of the plugin's version, as far as it is known.
    pub fn are_ours(&self) -> bool {
        self.registered.iter().chain(self.replicas.values()).all(|version| version == OURS)
    }
}

/// What is found.
pub fn versions(versions: &Versions, mend: &Mend) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(server) = &versions.server {
        findings.extend(kubernetes(server));
    }
    let mut by_version: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (replica, version) in &versions.replicas {
        by_version.entry(version).or_default().push(replica);
    }
    if by_version.len() > 1 {
        let each = by_version.iter().map(|(version, replicas)| format!("{} v{version}", replicas.join(" and ")));
        let message = format!("the replicas are of different versions: {}", each.collect::<Vec<_>>().join(", "));
        findings.push(Finding::new(Level::Problem, CHECK, message).hint(
            "if no upgrade is under way: kubectl -n breakglass-system rollout status deployment breakglass-webhook",
        ));
    }
    let webhook =
        by_version.keys().next_back().map(|&version| version.to_owned()).or_else(|| versions.registered.clone());
    let of_image = versions.image.as_deref().and_then(tag);
    if let (Some(image), Some(webhook)) = (of_image, &webhook)
        && image != webhook
        && is_number(image)
    {
        let message = format!(
            "the Deployment runs the image of v{image}, and v{webhook} answers: an upgrade is under way, or stuck"
        );
        let hint = "kubectl -n breakglass-system rollout status deployment breakglass-webhook";
        findings.push(Finding::new(Level::Note, CHECK, message).hint(hint));
    }
    match &webhook {
        Some(webhook) if webhook != OURS => {
            let message = format!(
                "the webhook is v{webhook}, and this plugin is v{OURS}: what is installed is not compared with what should be"
            );
            let hint = if is_older(webhook, OURS) { mend.upgrade() } else { format!("use the plugin of v{webhook}") };
            findings.push(Finding::new(Level::Note, CHECK, message).hint(hint));
        }
        Some(webhook) if findings.is_empty() => {
            let server = versions.server.as_deref().unwrap_or("of unknown version");
            let message = format!("plugin and webhook are v{webhook}, Kubernetes is {server}");
            findings.push(Finding::new(Level::Ok, CHECK, message));
        }
        None if findings.is_empty() => {
            let message = format!("this plugin is v{OURS}, and nobody says of which version the webhook is");
            findings.push(Finding::new(Level::Note, CHECK, message));
        }
        _ => {}
    }
    findings
}

fn kubernetes(server: &str) -> Option<Finding> {
    let numbers: Vec<&str> = server.trim_start_matches('v').split(['.', '-', '+']).collect();
    let minor: u32 = numbers.get(1)?.parse().ok()?;
    if minor < OLDEST {
        let message = format!("Kubernetes is {server}, and 1.{OLDEST} is the oldest that the webhook works with");
        let hint = "upgrade the cluster, or take breakglass off: kubectl breakglass uninstall";
        return Some(Finding::new(Level::Problem, CHECK, message).hint(hint));
    }
    (minor > NEWEST).then(|| {
        let message = format!("Kubernetes is {server}, and 1.{NEWEST} is the newest that this version was tested with");
        Finding::new(Level::Note, CHECK, message)
    })
}

/// The tag of an image; none where it is named by its digest alone.
fn tag(image: &str) -> Option<&str> {
    let name = image.split('@').next()?;
    let last = name.rsplit('/').next()?;
    Some(last.split_once(':')?.1.trim_start_matches('v'))
}

fn is_number(tag: &str) -> bool {
    tag.split('.').count() == 3 && tag.split('.').all(|part| part.parse::<u32>().is_ok())
}

fn is_older(one: &str, other: &str) -> bool {
    let numbers = |version: &str| version.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
    numbers(one) < numbers(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(replicas: &[&str], image: &str, server: &str, expected: &[(Level, &str)]) {
        let replicas =
            replicas.iter().enumerate().map(|(index, version)| (format!("pod-{index}"), (*version).to_owned()));
        let given = Versions {
            replicas: replicas.collect(),
            registered: None,
            image: Some(image.to_owned()),
            server: Some(server.to_owned()),
        };
        let found = versions(&given, &Mend::default());
        let found: Vec<_> = found.iter().map(|finding| (finding.level, finding.message.as_str())).collect();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for ((level, message), (wanted, part)) in found.iter().zip(expected) {
            assert!(level == wanted && message.contains(part), "{found:#?}");
        }
    }

    #[test]
    fn versions_that_do_not_fit_are_named() {
        let image = format!("registry.example.com:5000/breakglass:v{OURS}");
        check(&[OURS, OURS], &image, "v1.36.3", &[(Level::Ok, "Kubernetes is v1.36.3")]);
        check(&[OURS, OURS], "x@sha256:00", "v1.33.0-eks", &[(Level::Ok, "plugin and webhook")]);
        check(&[OURS, OURS], "x:stable", "v1.36.3", &[(Level::Ok, "plugin and webhook")]);
        check(&[OURS], &image, "v1.32.9", &[(Level::Problem, "1.33 is the oldest")]);
        check(&[OURS], &image, "v1.99.0", &[(Level::Note, "the newest that this version was tested with")]);
        check(&[OURS, "0.0.9"], &image, "v1.36.3", &[(Level::Problem, "pod-1 v0.0.9, pod-0 v")]);
        check(&["0.0.9"], "x:0.0.9", "v1.36.3", &[(Level::Note, "the webhook is v0.0.9")]);
        check(&[OURS], "x:99.0.0", "v1.36.3", &[(Level::Note, "the image of v99.0.0")]);
        check(&[], &image, "v1.36.3", &[(Level::Note, "nobody says of which version")]);
    }
}
