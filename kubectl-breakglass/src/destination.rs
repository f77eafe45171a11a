//! Destination: where in Git an accepted change is written to, or why nobody but a person can do it.

use std::path::PathBuf;

use breakglass::engine::{Engine, Owner};

use crate::connect::Connection;
use crate::error::{CommandError, Result};
use crate::origin::{Applied, Follows, Origin, Repository, repository};
use crate::source::Entry;

/// Where in Git something is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// The repository.
    pub url: String,
    /// The branch that the engine follows.
    pub branch: String,
    /// From where the engine renders.
    pub entry: Entry,
}

/// Where an object is written that comes from `origin`; nothing where no engine applies it.
///
/// # Errors
/// When what it comes from cannot be written to, with what a person can do.
pub async fn destination(cluster: &Connection, origin: &Origin) -> Result<Option<Destination>> {
    match (&origin.applied_by, &origin.claim) {
        (Some(applied), _) => {
            let found = repository(cluster, &applied.source).await?;
            of_kustomization(applied, found).map(Some)
        }
        (None, Some(claim)) => of_claim(claim).map_or(Ok(None), Err),
        (None, None) => Ok(None),
    }
}

/// Where what a Kustomization applies is written.
///
/// # Errors
/// When its source is none that can be written to.
pub fn of_kustomization(applied: &Applied, found: Option<Repository>) -> Result<Destination> {
    let source = &applied.source;
    if source.kind != "GitRepository" {
        let message = format!(
            "{applied} applies it from {source}, which something else builds: only a Git repository can be written to here"
        );
        return Err(CommandError::failed(message).hint("change it where that is built from"));
    }
    let Some(Repository { url, follows, .. }) = found else {
        return Err(CommandError::failed(format!("{applied} applies it from {source}, which is not there"))
            .hint(format!("kubectl -n {} get gitrepositories", source.namespace)));
    };
    let Follows::Branch(branch) = follows else {
        let message = format!("{source} follows {follows} of {url}: only to a branch can something be added");
        return Err(CommandError::failed(message).hint("change it on the branch that the next one is made from"));
    };
    if applied.spec.pointer("/kubeConfig").is_some_and(|config| !config.is_null()) {
        let message = format!("{applied} applies to another cluster than this one, so it is not what applied this");
        return Err(CommandError::failed(message)
            .hint(format!("kubectl -n {} get kustomization {} -o yaml", applied.namespace, applied.name)));
    }
    let entry = Entry { path: PathBuf::from(&applied.path), spec: applied.spec.clone() };
    Ok(Destination { url, branch, entry })
}

/// What is made by an engine that writes no manifest of the object to Git. A Kustomization is none of these: its inventory
/// has been looked at, and does not list the object.
fn of_claim(claim: &Owner) -> Option<CommandError> {
    match (claim.engine, claim.kind) {
        (Engine::Flux, "Kustomization") => None,
        (Engine::Flux, _) => Some(
            CommandError::failed(format!("{claim} makes it from a chart, in which no line says what it is"))
                .hint("set it in the values of the HelmRelease, where that stands in Git"),
        ),
        (Engine::ArgoCd, _) => Some(
            CommandError::failed(format!("{claim} of Argo CD owns it, and only what Flux applies is written here"))
                .hint("change it in the repository of the Application"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::origin::SourceRef;

    fn applied(kind: &str) -> Applied {
        Applied {
            namespace: "flux-system".to_owned(),
            name: "prod".to_owned(),
            path: "prod".to_owned(),
            revision: None,
            interval: None,
            suspended: false,
            source: SourceRef { kind: kind.to_owned(), namespace: "flux-system".to_owned(), name: "fleet".to_owned() },
            spec: json!({"path": "./prod"}),
        }
    }

    fn repository(follows: Follows) -> Option<Repository> {
        Some(Repository { url: "https://git.example.com/fleet".to_owned(), follows, revision: None })
    }

    #[test]
    fn only_a_branch_of_a_git_repository_is_written_to() {
        let branch = || repository(Follows::Branch("main".to_owned()));
        let found = of_kustomization(&applied("GitRepository"), branch()).unwrap();
        assert_eq!((found.branch.as_str(), found.entry.path), ("main", PathBuf::from("prod")));
        for (kind, repository, words) in [
            ("OCIRepository", None, "from OCIRepository flux-system/fleet, which something else builds"),
            ("GitRepository", None, "which is not there"),
            (
                "GitRepository",
                repository(Follows::Tag("v1".to_owned())),
                "GitRepository flux-system/fleet follows tag v1 of",
            ),
            ("GitRepository", repository(Follows::Commit("abc".to_owned())), "follows commit abc of"),
        ] {
            let refused = of_kustomization(&applied(kind), repository).unwrap_err();
            assert!(refused.message.contains(words), "{refused}");
        }
        let mut elsewhere = applied("GitRepository");
        elsewhere.spec["kubeConfig"] = json!({"secretRef": {"name": "other"}});
        let refused = of_kustomization(&elsewhere, branch()).unwrap_err();
        assert!(refused.message.contains("another cluster than this one"), "{refused}");
    }

    #[test]
    fn what_no_manifest_says_is_a_persons_to_change() {
        let of = |engine, kind| of_claim(&Owner { engine, kind, namespace: None, name: "api".to_owned() });
        assert_eq!(of(Engine::Flux, "Kustomization"), None);
        let words = |engine, kind| of(engine, kind).map(|error| error.message).unwrap_or_default();
        assert!(words(Engine::Flux, "HelmRelease").starts_with("HelmRelease api makes it from a chart"));
        assert!(words(Engine::ArgoCd, "Application").starts_with("Application api of Argo CD owns it"));
    }
}
