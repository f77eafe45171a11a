//! The questions we ask of a GitOps engine, answered from an object alone; the only place that tells engines apart.

use std::collections::BTreeMap;
use std::fmt;

use crate::write::Resource;

// Flux: labels name the Kustomization or the HelmRelease.
mod flux;
// Argo CD: an annotation names the Application.
mod argocd;
// What a Kustomization says it applies.
pub mod inventory;

/// A GitOps engine that we know the marks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// fluxcd.io
    Flux,
    /// argo-cd.readthedocs.io
    ArgoCd,
}

impl Engine {
    /// The engine whose controllers write under this field manager. A name that any client may give: a claim.
    pub fn of_manager(manager: &str) -> Option<Self> {
        let names = [(Self::Flux, &flux::MANAGERS[..]), (Self::ArgoCd, &argocd::MANAGERS)];
        names.into_iter().find(|(_, names)| names.contains(&manager)).map(|(engine, _)| engine)
    }

    /// Its name, as people say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flux => "Flux",
            Self::ArgoCd => "Argo CD",
        }
    }
}

/// The annotation, and its value, with which an engine leaves one object as it is. Argo CD has none.
pub const HOLD: (&str, &str) = flux::HOLD;

/// The commit in a revision, as an engine says what it has applied; `None` where it names none.
pub fn commit(revision: &str) -> Option<&str> {
    flux::commit(revision)
}

/// The objects that tell an engine what to apply: a group, and the plurals in it; all of them where none is named.
///
/// Whoever writes one of these deploys, wherever it lives.
pub fn objects() -> Vec<(&'static str, &'static [&'static str])> {
    let mut objects: Vec<(&str, &[&str])> = flux::GROUPS.iter().map(|&group| (group, &[][..])).collect();
    objects.push((argocd::GROUP, &argocd::PLURALS));
    objects
}

/// Whether a write goes to an engine's own object, or to a subresource of one.
pub fn is_object(resource: &Resource) -> bool {
    objects().iter().any(|(group, plurals)| {
        *group == resource.group && (plurals.is_empty() || plurals.contains(&resource.plural.as_str()))
    })
}

/// Whether the engines' own controllers keep objects of this kind: what they apply from, and what they tell people by.
pub fn is_kept(resource: &Resource) -> bool {
    is_object(resource) || resource.group.ends_with(flux::TOOLKIT)
}

/// The same as [`is_kept`], for who cannot call it: the end of a group, and [`objects`] besides.
pub fn kept_suffix() -> &'static str {
    flux::TOOLKIT
}

/// The engine's object that says where in Git an object comes from. A claim of the object's labels, which anybody who may
/// write the object can set: good for a message, not for an exemption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Whose it is.
    pub engine: Engine,
    /// `Kustomization`, `HelmRelease` or `Application`.
    pub kind: &'static str,
    /// Its namespace, where the mark names it.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Owner {
    /// Reads the marks that an engine leaves on what it applies.
    pub fn of(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> Option<Self> {
        flux::owner(labels).or_else(|| argocd::owner(annotations))
    }

    /// Whether the engine can be kept from one object alone.
    pub fn can_be_held(&self) -> bool {
        match self.engine {
            Engine::Flux => self.kind == "Kustomization",
            Engine::ArgoCd => false,
        }
    }

    /// What the engine does to a direct write, for a warning. `interval` is how often it reconciles, where that is known.
    pub fn undoes(&self, interval: Option<&str>) -> String {
        match (self.engine, self.kind, interval) {
            (Engine::Flux, "HelmRelease", _) => "undoes it at the next release".to_owned(),
            (Engine::Flux, _, Some(interval)) => format!("undoes it within {interval}"),
            (Engine::Flux, _, None) => "undoes it at its next reconcile".to_owned(),
            (Engine::ArgoCd, _, _) => "undoes it within seconds if self-heal is on".to_owned(),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn what_tells_an_engine_what_to_apply_is_its_object() {
        let is = |group: &str, plural: &str| {
            is_object(&Resource { group: group.to_owned(), plural: plural.to_owned(), ..Default::default() })
        };
        assert!(is("kustomize.toolkit.fluxcd.io", "kustomizations") && is("source.toolkit.fluxcd.io", "buckets"));
        assert!(is("argoproj.io", "applications") && !is("argoproj.io", "rollouts"));
        assert!(!is("notification.toolkit.fluxcd.io", "alerts") && !is("", "configmaps") && !is("", "applications"));
    }

    #[test]
    fn an_engine_writes_under_the_names_of_its_controllers() {
        for (manager, expected) in [
            ("kustomize-controller", Some("Flux")),
            ("helm-controller", Some("Flux")),
            ("argocd-controller", Some("Argo CD")),
            ("kubectl", None),
            ("", None),
        ] {
            assert_eq!(Engine::of_manager(manager).map(Engine::as_str), expected, "{manager}");
        }
    }

    #[test]
    fn an_owner_is_read_from_the_marks_that_engines_leave() {
        let none = map(&[]);
        let kustomization = map(&[
            ("kustomize.toolkit.fluxcd.io/name", "prod"),
            ("kustomize.toolkit.fluxcd.io/namespace", "flux-system"),
        ]);
        let release = map(&[("helm.toolkit.fluxcd.io/name", "api"), ("helm.toolkit.fluxcd.io/namespace", "apps")]);
        let application = map(&[("argocd.argoproj.io/tracking-id", "shop:apps/Deployment:prod/api")]);
        let owner = |labels, annotations| Owner::of(labels, annotations).map(|owner| owner.to_string());
        assert_eq!(owner(&kustomization, &none).as_deref(), Some("Kustomization flux-system/prod"));
        assert_eq!(owner(&release, &none).as_deref(), Some("HelmRelease apps/api"));
        assert_eq!(owner(&none, &application).as_deref(), Some("Application shop"));
        assert_eq!(owner(&none, &none), None);
    }
}
