//! AdmissionReview bytes → Write; answer → AdmissionReview bytes; every malformed case.
//!
//! Types of our own and not kube's: kube's read objects into trees, which fails above 128 levels of nesting and costs
//! several times as much, write the patch as an array of numbers, and leave the uid out of some refusals.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use breakglass::patch::Step;
use breakglass::write::{Object, Requester, Resource, Verb, Write};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use fields::Fields;

// A struct from an object, and from nothing else.
mod fields;

/// The one version of the API that is spoken.
const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// The longest uid. The API server sends 36 characters; more is no review of its.
const UID_LIMIT: usize = 256;

/// A client shows a warning of at most this many characters whole (apiserver pkg/warning); what is wrong with a review needs
/// no more, either.
const TEXT_LIMIT: usize = 256;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    request: Option<Fields<Request<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: String,
    kind: Fields<Kind>,
    resource: Fields<Plural>,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(borrow)]
    operation: Cow<'a, str>,
    user_info: Fields<UserInfo>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_object: Option<&'a RawValue>,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(borrow, default)]
    options: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
}

#[derive(Deserialize)]
struct Plural {
    #[serde(default)]
    group: String,
    version: String,
    resource: String,
}

#[derive(Deserialize)]
struct UserInfo {
    #[serde(default)]
    username: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
}

/// Why bytes are no review. Answered with 400: the API server then goes by the failure policy.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// No JSON of that shape.
    #[error("this is no AdmissionReview: {0}")]
    Shape(serde_json::Error),
    /// Another kind or version.
    #[error("this is {api_version} {kind}, and only {API_VERSION} {KIND} is spoken here")]
    Version {
        /// What was sent.
        api_version: String,
        /// What was sent.
        kind: String,
    },
    /// No request in it.
    #[error("this AdmissionReview has no request")]
    NoRequest,
    /// No uid to answer to.
    #[error("this AdmissionReview has no uid of 1 to {UID_LIMIT} bytes")]
    Uid,
    /// An operation that admission does not have.
    #[error("this AdmissionReview has the operation {0:?}")]
    Operation(String),
}

/// One review: the uid to answer to, and the write that it is about.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Echoed in the answer.
    pub uid: String,
    /// The write.
    pub write: Write<'a>,
}

/// Reads a review. Objects are kept as bytes, so nothing in them can stop us.
///
/// # Errors
/// Every way in which the bytes are no review.
pub fn read(bytes: &[u8]) -> Result<Asked<'_>, Malformed> {
    let Fields(review): Fields<Review<'_>> = serde_json::from_slice(bytes).map_err(Malformed::Shape)?;
    if review.api_version != API_VERSION || review.kind != KIND {
        let (api_version, kind) = (clip(&review.api_version), clip(&review.kind));
        return Err(Malformed::Version { api_version, kind });
    }
    let Fields(request) = review.request.ok_or(Malformed::NoRequest)?;
    if request.uid.is_empty() || request.uid.len() > UID_LIMIT {
        return Err(Malformed::Uid);
    }
    let verb = match request.operation.as_ref() {
        "CREATE" => Verb::Create,
        "UPDATE" => Verb::Update,
        "DELETE" => Verb::Delete,
        "CONNECT" => Verb::Connect,
        other => return Err(Malformed::Operation(clip(other))),
    };
    let after = request.object.filter(|_| verb != Verb::Delete).map(Object::new);
    let before = request.old_object.map(Object::new);
    let manager = manager(request.options)
        .or_else(|| {
            let after = after.as_ref().filter(|_| verb != Verb::Connect)?;
            after.writing_manager(before.as_ref(), Some(request.sub_resource.as_str()))
        })
        .unwrap_or_default();
    let eviction = verb == Verb::Create && request.sub_resource == "eviction";
    let dry_run = request.dry_run.unwrap_or(false) || (eviction && after.as_ref().is_some_and(is_rehearsed));
    let (Fields(resource), Fields(kind)) = (request.resource, request.kind);
    let Fields(UserInfo { username, uid, groups, extra }) = request.user_info;
    let write = Write {
        verb,
        resource: Resource {
            group: resource.group,
            version: resource.version,
            plural: resource.resource,
            kind: kind.kind,
            subresource: Some(request.sub_resource).filter(|name| !name.is_empty()),
        },
        namespace: Some(request.namespace).filter(|name| !name.is_empty()),
        name: request.name,
        requester: Requester { user: username, uid, groups, extra },
        before,
        after,
        dry_run,
        manager,
    };
    Ok(Asked { uid: request.uid, write: namespace_of_itself(write) })
}

/// An eviction can say itself that it is a dry run; the review does not (registry/core/pod/storage/eviction.go
/// propagateDryRun).
fn is_rehearsed(eviction: &Object<'_>) -> bool {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Eviction {
        delete_options: Option<Options>,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Options {
        dry_run: Option<Vec<String>>,
    }
    let eviction: Eviction = serde_json::from_str(eviction.raw.get()).unwrap_or_default();
    let options = eviction.delete_options.unwrap_or_default();
    options.dry_run.is_some_and(|values| !values.is_empty())
}

/// A Namespace is in the environment that its own name and labels say, also where the API server names none: with
/// generateName, and for `kubectl create namespace` before 1.15.
fn namespace_of_itself(mut write: Write<'_>) -> Write<'_> {
    if write.resource.is_namespace() && write.namespace.is_none() {
        write.namespace = Some(write.object_name().to_owned());
    }
    write
}

fn manager(options: Option<&RawValue>) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Options {
        field_manager: String,
    }
    let Options { field_manager } = serde_json::from_str(options?.get()).ok()?;
    Some(field_manager).filter(|manager| !manager.is_empty())
}

/// What is answered to a review.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Why the write is not let in; `None` lets it in.
    pub refusal: Option<String>,
    /// What to change on the object (mutating call only).
    pub patch: Vec<Patch>,
    /// What the client is told, a line each.
    pub warnings: Vec<String>,
    /// What the audit log keeps.
    pub audit: BTreeMap<&'static str, String>,
}

/// A step of a patch: on our keys, or on the fields of our own kinds that the webhook fills in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Patch {
    /// On our keys.
    Stamp(Step),
    /// On a token or a change.
    Own(OwnStep),
}

/// Sets one field of a token or a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnStep {
    op: &'static str,
    path: &'static str,
    value: String,
}

impl OwnStep {
    /// Sets the field at `path`.
    pub fn set(path: &'static str, value: impl ToString) -> Patch {
        Patch::Own(Self { op: "add", path, value: value.to_string() })
    }
}

impl Answer {
    /// Lets the write in as it is.
    pub fn allow() -> Self {
        Self::default()
    }

    /// Does not let it in.
    pub fn refuse(text: impl Into<String>) -> Self {
        Self { refusal: Some(text.into()), ..Self::default() }
    }

    /// The AdmissionReview to send back.
    ///
    /// # Errors
    /// None in practice: everything in it is text.
    pub fn write(&self, uid: &str) -> serde_json::Result<Vec<u8>> {
        let status = self.refusal.as_deref().map(|message| Status { code: 403, reason: "Forbidden", message });
        let patch = match self.patch.is_empty() {
            true => None,
            false => Some(base64::engine::general_purpose::STANDARD.encode(serde_json::to_vec(&self.patch)?)),
        };
        serde_json::to_vec(&Reply {
            api_version: API_VERSION,
            kind: KIND,
            response: Response {
                uid,
                allowed: status.is_none(),
                status,
                patch_type: patch.is_some().then_some("JSONPatch"),
                patch,
                warnings: self.warnings.iter().map(|warning| clip(warning)).collect(),
                audit_annotations: &self.audit,
            },
        })
    }
}

fn clip(text: &str) -> String {
    if text.chars().count() <= TEXT_LIMIT {
        return text.to_owned();
    }
    text.chars().take(TEXT_LIMIT - 1).chain(['…']).collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reply<'a> {
    api_version: &'a str,
    kind: &'a str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: &'a BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    reason: &'a str,
    message: &'a str,
}

#[cfg(test)]
mod tests;
