//! Answers for Flux.

use std::collections::BTreeMap;

use super::{Engine, Owner};

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
