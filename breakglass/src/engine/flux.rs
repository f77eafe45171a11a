//! Answers for Flux.

use std::collections::BTreeMap;

use super::{Engine, Owner};

/// The end of the names of all groups of Flux' controllers.
pub(super) const TOOLKIT: &str = ".toolkit.fluxcd.io";

/// The groups whose objects say what Flux applies, and from where: Kustomizations, HelmReleases, their sources, and what
/// flux-operator makes them from. Alerts and image policies deploy nothing.
pub(super) const GROUPS: [&str; 4] =
    ["kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io", "source.toolkit.fluxcd.io", "fluxcd.controlplane.io"];

/// The field managers of the controllers that apply what is in Git (kustomize-controller main.go, ssa.Owner; helm-controller
/// main.go, kube.ManagedFieldsManager).
pub(super) const MANAGERS: [&str; 2] = ["kustomize-controller", "helm-controller"];

/// With this annotation Flux leaves an object as it is (fluxcd/kustomize-controller docs/spec/v1/kustomizations.md, "Controlling the
/// apply behavior of resources"; e2e `hold` would notice).
pub(super) const HOLD: (&str, &str) = ("kustomize.toolkit.fluxcd.io/reconcile", "disabled");

/// The commit in a revision, as `main@sha1:…` (fluxcd/source-controller docs/spec/v1/gitrepositories.md, "Artifact").
pub(super) fn commit(revision: &str) -> Option<&str> {
    revision.rsplit_once(':').map(|(_, commit)| commit)
}

/// Flux labels what it applies with the object it comes from (fluxcd/pkg ssa/manager.go SetOwnerLabels; helm-controller
/// internal/postrender/common_renderer.go).
pub(super) fn owner(labels: &BTreeMap<String, String>) -> Option<Owner> {
    let by = |prefix: &str, kind| {
        let name = labels.get(&format!("{prefix}/name"))?.clone();
        let namespace = labels.get(&format!("{prefix}/namespace")).cloned();
        Some(Owner { engine: Engine::Flux, kind, namespace, name })
    };
    by("kustomize.toolkit.fluxcd.io", "Kustomization").or_else(|| by("helm.toolkit.fluxcd.io", "HelmRelease"))
}
