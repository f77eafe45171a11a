//! Origin: where an object comes from: who applies it, from which folder of which source, and how that is known.
//!
//! Labels are a claim: whoever may write the object can set them. The inventory is the engine's own word.

// What is asked of the cluster for it.
mod read;

use std::fmt;

use breakglass::api::Target;
use breakglass::engine::{Engine, Owner, inventory};
use serde_json::Value;

pub use read::{applied_from_git, origin, repository};

/// The branch of a GitRepository that names nothing (fluxcd/source-controller api/v1/gitrepository_types.go, spec.ref).
const DEFAULT_BRANCH: &str = "master";

/// Where an object comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// Who owns it, as its labels and annotations claim.
    pub claim: Option<Owner>,
    /// The Kustomization whose inventory lists it.
    pub applied_by: Option<Applied>,
}

/// A Kustomization of Flux that has applied an object, by its own inventory.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The folder in the source, as `prod/shop`; empty for the root.
    pub path: String,
    /// What it applied last, as `main@sha1:…`.
    pub revision: Option<String>,
    /// How often it applies.
    pub interval: Option<String>,
    /// Whether somebody has it paused.
    pub suspended: bool,
    /// What it applies from.
    pub source: SourceRef,
    /// All of its spec: how it builds what it applies.
    pub spec: Value,
}

/// The object that a Kustomization applies from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRef {
    /// `GitRepository`, `OCIRepository`, `Bucket`, …
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A repository that Flux follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// Where it is.
    pub url: String,
    /// What of it is followed.
    pub follows: Follows,
    /// What was fetched last, as `main@sha1:…`.
    pub revision: Option<String>,
}

/// What of a repository is followed. Only a branch goes on when somebody pushes to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follows {
    /// A branch.
    Branch(String),
    /// A tag.
    Tag(String),
    /// The newest tag in a range.
    SemVer(String),
    /// One commit.
    Commit(String),
    /// A reference by its full name.
    Reference(String),
}

impl Origin {
    /// Reads what is known: the object, and the Kustomizations that may have applied it.
    pub fn of(target: &Target, object: Option<&Value>, kustomizations: &[Value]) -> Self {
        let claim = object.and_then(claim);
        let listing = || kustomizations.iter().filter(|kustomization| inventory::lists(kustomization, target));
        // Two may list it; the one that the labels name has applied it last.
        let claimed = listing().find(|found| claim.as_ref().is_some_and(|claim| is_named(found, claim)));
        let applied_by = claimed.or_else(|| listing().next()).and_then(Applied::of);
        Self { claim, applied_by }
    }

    /// What its labels say that the inventory does not, as a sentence.
    pub fn lie(&self) -> Option<String> {
        let claim = self.claim.as_ref().filter(|claim| is_kustomization(claim));
        match (claim, &self.applied_by) {
            (None, None) => None,
            (Some(claim), Some(applied)) if applied.is(claim) => None,
            (Some(claim), Some(applied)) => {
                Some(format!("its labels name {claim} as its owner; the inventory that lists it is that of {applied}"))
            }
            (Some(claim), None) => {
                Some(format!("its labels name {claim} as its owner, and no inventory of a Kustomization lists it"))
            }
            (None, Some(applied)) => {
                Some(format!("its labels do not name {applied} as its owner, whose inventory lists it"))
            }
        }
    }
}

impl Applied {
    fn of(kustomization: &Value) -> Option<Self> {
        let text = |pointer: &str| kustomization.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let namespace = text("/metadata/namespace")?;
        let source = SourceRef {
            kind: text("/spec/sourceRef/kind")?,
            namespace: text("/spec/sourceRef/namespace").unwrap_or_else(|| namespace.clone()),
            name: text("/spec/sourceRef/name")?,
        };
        Some(Self {
            name: text("/metadata/name")?,
            path: folder(&text("/spec/path").unwrap_or_default()),
            revision: text("/status/lastAppliedRevision"),
            interval: text("/spec/interval"),
            suspended: kustomization.pointer("/spec/suspend") == Some(&Value::Bool(true)),
            spec: kustomization.get("spec").cloned().unwrap_or_default(),
            namespace,
            source,
        })
    }

    fn is(&self, claim: &Owner) -> bool {
        is_kustomization(claim)
            && claim.name == self.name
            && claim.namespace.as_ref().is_none_or(|namespace| *namespace == self.namespace)
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kustomization {}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for SourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl Repository {
    /// Reads a GitRepository; `None` for what is none.
    pub fn of(object: &Value) -> Option<Self> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            url: text("/spec/url")?,
            follows: Follows::of(object.pointer("/spec/ref")),
            revision: text("/status/artifact/revision"),
        })
    }
}

impl Follows {
    /// Reads `spec.ref`. A commit counts before a name, a name before a range, that before a tag, and a branch is what is left
    /// (fluxcd/source-controller api/v1/gitrepository_types.go, GitRepositoryRef).
    fn of(reference: Option<&Value>) -> Self {
        let field = |name: &str| {
            let value = reference?.get(name)?.as_str()?;
            (!value.is_empty()).then(|| value.to_owned())
        };
        let commit = field("commit").map(Self::Commit);
        let name = || {
            let name = field("name")?;
            Some(name.strip_prefix("refs/heads/").map_or(Self::Reference(name.clone()), |b| Self::Branch(b.to_owned())))
        };
        let tag = || field("semver").map(Self::SemVer).or_else(|| field("tag").map(Self::Tag));
        let branch = || Self::Branch(field("branch").unwrap_or_else(|| DEFAULT_BRANCH.to_owned()));
        commit.or_else(name).or_else(tag).unwrap_or_else(branch)
    }
}

impl fmt::Display for Follows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(name) => write!(f, "branch {name}"),
            Self::Tag(name) => write!(f, "tag {name}"),
            Self::SemVer(range) => write!(f, "the newest tag in {range}"),
            Self::Commit(hash) => write!(f, "commit {hash}"),
            Self::Reference(name) => write!(f, "{name}"),
        }
    }
}

/// Who owns an object, as its own labels and annotations say.
pub fn claim(object: &Value) -> Option<Owner> {
    let map = |pointer: &str| {
        let entries = object.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
        entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    };
    Owner::of(&map("/metadata/labels"), &map("/metadata/annotations"))
}

fn is_named(kustomization: &Value, claim: &Owner) -> bool {
    Applied::of(kustomization).is_some_and(|applied| applied.is(claim))
}

fn is_kustomization(owner: &Owner) -> bool {
    owner.engine == Engine::Flux && owner.kind == "Kustomization"
}

/// A folder as Git names it: `./prod/` is `prod`.
fn folder(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests;
