//! What the API server serves, as it says itself: every version of every resource and subresource, and its verbs.

use std::collections::BTreeSet;
use std::fmt;

use http::Method;
use serde_json::Value;

use super::client::Caller;

/// A resource or a subresource in one version.
#[derive(Clone, Debug)]
pub struct Served {
    /// `apps/v1`, as in its path.
    pub group_version: String,
    /// `deployments` or `deployments/scale`.
    pub name: String,
    /// The kind of its bodies, and their `apiVersion`: a subresource may have those of another group.
    pub kind: String,
    pub api_version: String,
    pub namespaced: bool,
    /// Defined by a CustomResourceDefinition.
    pub custom: bool,
    pub verbs: Vec<String>,
}

/// One way in which a client changes something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Create,
    Update,
    JsonPatch,
    MergePatch,
    StrategicPatch,
    Apply,
    Delete,
    DeleteCollection,
    Connect(&'static str),
}

/// Everything that is served now.
pub async fn discover(admin: &Caller) -> Result<Vec<Served>, String> {
    let definitions = admin.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions").await?;
    let custom: BTreeSet<&str> = texts(&definitions["items"], "/spec/group").collect();
    let (core, groups) = (admin.get("/api").await?, admin.get("/apis").await?);
    let mut versions: Vec<&str> = core["versions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for group in groups["groups"].as_array().into_iter().flatten() {
        versions.extend(texts(&group["versions"], "/groupVersion"));
    }
    let mut all = Vec::new();
    for version in versions {
        let list = admin.get(&root(version)).await?;
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let resources = list["resources"].as_array().into_iter().flatten();
        all.extend(resources.map(|resource| served(version, custom.contains(group), resource)));
    }
    Ok(all)
}

fn served(group_version: &str, custom: bool, resource: &Value) -> Served {
    let text = |field: &str| resource[field].as_str().unwrap_or_default().to_owned();
    let api_version = match (text("group"), text("version")) {
        (_, version) if version.is_empty() => group_version.to_owned(),
        (group, version) if group.is_empty() => version,
        (group, version) => format!("{group}/{version}"),
    };
    let verbs = resource["verbs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Served {
        group_version: group_version.to_owned(),
        name: text("name"),
        kind: text("kind"),
        api_version,
        namespaced: resource["namespaced"] == true,
        custom,
        verbs: verbs.map(str::to_owned).collect(),
    }
}

/// Where the resources of a version are found.
pub fn root(group_version: &str) -> String {
    if group_version.contains('/') { format!("/apis/{group_version}") } else { format!("/api/{group_version}") }
}

fn texts<'v>(list: &'v Value, pointer: &'static str) -> impl Iterator<Item = &'v str> {
    list.as_array().into_iter().flatten().filter_map(move |item| item.pointer(pointer)?.as_str())
}

impl Served {
    /// What the tables know it by.
    pub fn key(&self) -> String {
        format!("{}/{}", self.group_version, self.name)
    }

    /// The key of the resource that it belongs to; its own, if it is no subresource.
    pub fn resource_key(&self) -> String {
        format!("{}/{}", self.group_version, self.name.split('/').next().unwrap_or_default())
    }

    pub fn subresource(&self) -> Option<&str> {
        self.name.split_once('/').map(|(_, subresource)| subresource)
    }

    /// One that can be read back, and so has to be there before it is changed.
    pub fn is_stored(&self) -> bool {
        self.may("create") && self.may("get")
    }

    pub fn may(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    /// A stream to something that runs: what is sent there is options, and even GET may change it.
    pub fn is_connect(&self) -> bool {
        self.kind.ends_with("Options")
    }

    /// Every way to change something that is offered here.
    pub fn ways(&self) -> Result<Vec<Way>, String> {
        use Way::{Apply, Connect, Create, Delete, DeleteCollection, JsonPatch, MergePatch, StrategicPatch, Update};
        let mut ways = Vec::new();
        for verb in &self.verbs {
            match (verb.as_str(), self.is_connect()) {
                ("get" | "list" | "watch", false) => {}
                ("create", false) => ways.push(Create),
                ("update", false) => ways.push(Update),
                ("patch", false) => ways.extend([JsonPatch, MergePatch, StrategicPatch, Apply]),
                ("delete", false) => ways.push(Delete),
                ("deletecollection", false) => ways.push(DeleteCollection),
                ("get", true) => ways.push(Connect("GET")),
                ("create", true) => ways.push(Connect("POST")),
                ("update", true) => ways.push(Connect("PUT")),
                ("patch", true) => ways.push(Connect("PATCH")),
                ("delete", true) => ways.push(Connect("DELETE")),
                (verb, _) => return Err(format!("{}: the verb {verb:?} is new in this Kubernetes", self.key())),
            }
        }
        ways.sort();
        Ok(ways)
    }
}

impl Way {
    /// The method of its request.
    pub fn method(&self) -> Method {
        match self {
            Self::Create => Method::POST,
            Self::Update => Method::PUT,
            Self::JsonPatch | Self::MergePatch | Self::StrategicPatch | Self::Apply => Method::PATCH,
            Self::Delete | Self::DeleteCollection => Method::DELETE,
            Self::Connect(method) => Method::from_bytes(method.as_bytes()).unwrap(),
        }
    }

    /// The media type of its body.
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::JsonPatch => "application/json-patch+json",
            Self::MergePatch | Self::Connect("PATCH") => "application/merge-patch+json",
            Self::StrategicPatch => "application/strategic-merge-patch+json",
            // YAML, which JSON is.
            Self::Apply => "application/apply-patch+yaml",
            Self::Create | Self::Update | Self::Delete | Self::DeleteCollection | Self::Connect(_) => {
                "application/json"
            }
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create => f.write_str("create"),
            Self::Update => f.write_str("update"),
            Self::JsonPatch => f.write_str("patch (json)"),
            Self::MergePatch => f.write_str("patch (merge)"),
            Self::StrategicPatch => f.write_str("patch (strategic)"),
            Self::Apply => f.write_str("patch (apply)"),
            Self::Delete => f.write_str("delete"),
            Self::DeleteCollection => f.write_str("deletecollection"),
            Self::Connect(method) => write!(f, "connect ({method})"),
        }
    }
}
