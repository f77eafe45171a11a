//! The source of an object: a tree of files in Git, edited so that rendering it says what the cluster says, and proven.
//!
//! No cluster and no Git here: a tree of files and what is wanted come in, whole new texts of files go out.

// READ THIS FIRST: from what is asked for to an edit that is proven.
mod edit;
// What keeps an edit from being made.
mod ask;
// The files of a repository, and its limits.
pub mod tree;
// YAML as kubectl reads it.
pub mod yaml;
// The fields that are to say something else.
pub mod field;
// What the API server fills in.
mod defaults;
// Which lists have names in them.
mod merge_keys;
// One kustomization: a file, or what Flux makes where there is none.
pub mod kustomization;
// Everything that can be rendered, and what each may read.
pub mod graph;
// The document that defines an object.
mod find;
// The edits that may do, the likeliest first.
mod plan;
// Images, taken apart.
mod image;
// What the patches of a kustomization say.
mod patches;
// What can be added to a kustomization that shares the rest.
mod overlay;
// Whole objects that come and go.
mod whole;
// YAML that is new.
mod emit;
// A document, edited in place.
pub mod rewrite;
// What `kubectl kustomize` makes of a directory.
pub mod render;
// A copy of the tree, to be rendered.
mod scratch;
// Whether two renderings differ in what was to change.
pub mod compare;
// The proof.
mod prover;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

use crate::error::CommandError;

pub use edit::{edit, prove, says};

/// Which object, in the words of its manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectId {
    /// The group of its apiVersion, empty for the core.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace; none for what is in none.
    pub namespace: Option<String>,
    /// Its name, as the cluster knows it.
    pub name: String,
}

/// One object as Git should have it.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Which. Each object is wanted once: several changes of one are put together before.
    pub object: ObjectId,
    /// As it was before the change; none where the change made it.
    pub before: Option<Value>,
    /// As it is to be; none where it is to go. Only what differs from `before` is written.
    pub after: Option<Value>,
    /// Where the file of a new object goes, from the root of the tree; none: a name of its own, beside the entry's others.
    pub path: Option<PathBuf>,
}

/// Where the engine renders from.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The directory, from the root of the tree; as Flux takes it, too: `./apps`.
    pub path: PathBuf,
    /// The spec of the engine's own object, with all that it adds: targetNamespace, patches, images, postBuild; null for none.
    pub spec: Value,
}

/// A line that was edited, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, from the root of the tree.
    pub path: PathBuf,
    /// The line of the new text, counted from one; of the old one, where the file is gone.
    pub line: usize,
    /// The field of the object that it says, as a JSON pointer; empty for the whole.
    pub pointer: String,
}

/// What was edited, proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// Whole new texts by path from the root of the tree; none for a file that goes. Empty: Git says it already.
    pub files: BTreeMap<PathBuf, Option<String>>,
    /// The lines.
    pub places: Vec<Place>,
    /// What the proof looked at.
    pub proof: Proof,
}

/// What was rendered before and after to prove an edit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Directories that were rendered twice: those that may read an edited file.
    pub rendered: Vec<PathBuf>,
    /// How many directories read none of them, and so cannot say anything else than before.
    pub spared: usize,
}

/// Why nothing is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A sentence: lower case, no full stop.
    pub why: String,
    /// Where a person has to edit what, one line each: `apps/api.yaml:12: …`.
    pub places: Vec<String>,
}

/// Why there is no edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// No edit passes the proof, or nobody but a person can make it.
    Refused(Refusal),
    /// It could not be tried: there was no place for a copy of the files, say.
    Failed(CommandError),
}

impl Stop {
    /// A refusal with its places.
    pub fn refused(why: impl Into<String>, places: Vec<String>) -> Self {
        Self::Refused(Refusal { why: why.into(), places })
    }
}

impl From<CommandError> for Stop {
    fn from(error: CommandError) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        let kind = self.kind.to_lowercase();
        write!(f, "{kind}{dot}{}/{}", self.group, self.name)?;
        self.namespace.as_ref().map_or(Ok(()), |namespace| write!(f, " in {namespace}"))
    }
}
