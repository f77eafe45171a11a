//! Write: one request that would change the cluster, as the API server put it to us.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::api::Operation;
use crate::writer;

/// What the request asks of the object. PATCH and server-side apply arrive as one of these, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// The object does not exist yet.
    Create,
    /// It exists.
    Update,
    /// It is to go.
    Delete,
    /// A connection to it: exec, attach, portforward, proxy.
    Connect,
}

/// Who asked, as the API server authenticated them (after impersonation: who it was before is only in the audit log).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requester {
    /// The user name.
    pub user: String,
    /// The uid of the credential's owner; empty for people with certificates and for whoever is impersonated.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// What else the authenticator said.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Requester {
    /// Whether a credential stands behind the name. An impersonated user has none, unless whoever impersonates may also
    /// impersonate `userextras`.
    pub fn has_credential(&self) -> bool {
        self.extra.values().flatten().any(|value| !value.is_empty())
    }

    /// Whether a service account wrote with a token of its own: it has a uid, and the token an id. Whoever impersonates it
    /// by name has neither.
    pub fn is_itself(&self) -> bool {
        !self.uid.is_empty() && self.credential().is_some()
    }

    /// The pod that the credential is bound to. An impersonated user has none: the API server drops what was not asked
    /// for, and only `impersonate` on `userextras` could ask for it (apiserver pkg/endpoints/filters/impersonation).
    pub fn pod(&self) -> Option<&str> {
        self.one(writer::POD_NAME)
    }

    /// The credential that was used, where the API server names it.
    pub fn credential(&self) -> Option<&str> {
        self.one(writer::CREDENTIAL_ID)
    }

    /// Whether they are in this group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|name| name == group)
    }

    fn one(&self, key: &str) -> Option<&str> {
        self.extra.get(key)?.first().map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// What kind of object, and where in the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version that `object` is written in.
    pub version: String,
    /// The plural name in URLs.
    pub plural: String,
    /// The kind, as in the object.
    pub kind: String,
    /// The subresource, if the write goes to one.
    pub subresource: Option<String>,
}

impl Resource {
    /// `deployments.apps`, or `configmaps` in the core group.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `apps/v1`, or `v1` in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Whether this is a definition of a kind.
    pub fn is_definition(&self) -> bool {
        self.group == "apiextensions.k8s.io" && self.plural == "customresourcedefinitions"
    }

    /// Whether this grants rights in the whole cluster.
    pub fn is_cluster_role(&self) -> bool {
        self.group == "rbac.authorization.k8s.io"
            && ["clusterroles", "clusterrolebindings"].contains(&self.plural.as_str())
    }

    /// Whether this is a request for a token of a service account, which changes nothing in the cluster.
    pub fn is_credential(&self) -> bool {
        self.group.is_empty() && self.plural == "serviceaccounts" && self.subresource.as_deref() == Some("token")
    }

    /// Whether this is the Namespace object itself, or a subresource of it.
    pub fn is_namespace(&self) -> bool {
        self.group.is_empty() && self.plural == "namespaces"
    }
}

/// An object as it came: its bytes, and the part of its metadata that decides.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    /// The JSON, as the API server encoded it.
    pub raw: &'a RawValue,
    /// What of it is read.
    pub metadata: Metadata,
    /// Its fields as bytes, found on the same way through it; `None` where it cannot be read as an object.
    fields: Option<Vec<(Cow<'a, str>, &'a RawValue)>>,
}

/// The part of an object's metadata that decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// The name; empty while generateName has not been acted on.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// The prefix of a name that the API server is to make.
    #[serde(deserialize_with = "or_default")]
    pub generate_name: String,
    /// The uid; empty in the mutating call of a create.
    #[serde(deserialize_with = "or_default")]
    pub uid: String,
    /// The version in etcd; empty in a create.
    #[serde(deserialize_with = "or_default")]
    pub resource_version: String,
    /// The labels; `None` where the object has no such field, which a patch has to make first.
    #[serde(deserialize_with = "strings")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The annotations; `None` as for labels.
    #[serde(deserialize_with = "strings")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl<'a> Object<'a> {
    /// Reads the metadata and skips the rest without looking into it, so that no depth of nesting can stop us.
    ///
    /// What is not an object with metadata (options of a CONNECT, say) has empty metadata.
    pub fn new(raw: &'a RawValue) -> Self {
        let fields = serde_json::from_str(raw.get()).ok().map(|Fields(fields)| fields);
        let mut object = Self { raw, metadata: Metadata::default(), fields };
        let metadata = object.raw_metadata().map(|raw| serde_json::from_str::<Option<Metadata>>(raw.get()));
        object.metadata = metadata.and_then(Result::ok).flatten().unwrap_or_default();
        object
    }

    /// Its metadata as bytes. Two fields of that name say two things: neither is believed.
    fn raw_metadata(&self) -> Option<&'a RawValue> {
        let mut metadata = self.fields.iter().flatten().filter(|(key, _)| key == "metadata").map(|(_, value)| *value);
        metadata.next().filter(|_| metadata.next().is_none())
    }

    /// Its fields as bytes, by name; `None` where it cannot be read as an object, which says nothing about what is in it.
    pub(crate) fn fields(&self) -> Option<BTreeMap<&str, &'a RawValue>> {
        Some(self.fields.as_ref()?.iter().map(|(key, value)| (key.as_ref(), *value)).collect())
    }
}

impl Metadata {
    /// The labels, none where there is no such field.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.labels.as_ref().unwrap_or(&NONE)
    }

    /// The annotations, none where there is no such field.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.annotations.as_ref().unwrap_or(&NONE)
    }
}

impl Object<'_> {
    /// The field manager that the API server took the client for: the one whose entry in managedFields this write made.
    ///
    /// The API server makes that entry before it calls us and, where the client named no manager, names it after the
    /// client's User-Agent, which is not in the review (apiserver endpoints/handlers/create.go). Times are whole seconds, so
    /// of the entries that differ from those `before`, one that gained fields counts before one that lost some. Who applies
    /// on the server's side names a manager always; and who wrote another subresource did not write this.
    pub fn writing_manager(&self, before: Option<&Object<'_>>, subresource: Option<&str>) -> Option<String> {
        let old = before.map(Object::managed_fields).unwrap_or_default();
        // By key: an object may have thousands of managers, and looking for each of them in all of the others would take
        // longer than the API server waits.
        let mut earlier: HashMap<_, Vec<&ManagedFields<'_>>> = HashMap::new();
        for entry in &old {
            earlier.entry(entry.key()).or_default().push(entry);
        }
        let rank = |entry: &ManagedFields<'_>| {
            let same = earlier.get(&entry.key()).map(Vec::as_slice).unwrap_or_default();
            let gained = same.first().is_none_or(|earlier| earlier.fields() < entry.fields());
            (entry.time.to_string(), !same.contains(&entry), gained)
        };
        let mine = |entry: &ManagedFields<'_>| {
            entry.operation == "Update" && entry.subresource == subresource.unwrap_or_default()
        };
        self.managed_fields().into_iter().filter(mine).max_by_key(rank).map(|entry| entry.manager.into_owned())
    }

    fn managed_fields(&self) -> Vec<ManagedFields<'_>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Entries<'a> {
            #[serde(borrow, default)]
            managed_fields: Vec<ManagedFields<'a>>,
        }
        let entries = self.raw_metadata().and_then(|raw| serde_json::from_str::<Entries<'_>>(raw.get()).ok());
        entries.map(|entries| entries.managed_fields).unwrap_or_default()
    }
}

/// The fields of an object, in the order in which they stand there.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((Name(key), value)) = map.next_entry()? {
                    fields.push((key, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// The name of a field, borrowed where it stands there without escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// One entry of managedFields; the fields stay bytes.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManagedFields<'a> {
    #[serde(borrow)]
    manager: Cow<'a, str>,
    #[serde(borrow, default)]
    operation: Cow<'a, str>,
    #[serde(borrow, default)]
    subresource: Cow<'a, str>,
    #[serde(borrow, default)]
    time: Cow<'a, str>,
    #[serde(borrow, default)]
    fields_v1: Option<&'a RawValue>,
}

impl ManagedFields<'_> {
    /// What tells entries apart.
    fn key(&self) -> (&str, &str, &str) {
        (&self.manager, &self.operation, &self.subresource)
    }

    /// How much it owns, as far as that decides.
    fn fields(&self) -> usize {
        self.raw_fields().map_or(0, str::len)
    }

    fn raw_fields(&self) -> Option<&str> {
        self.fields_v1.map(RawValue::get)
    }
}

impl PartialEq for ManagedFields<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key() && self.time == other.time && self.raw_fields() == other.raw_fields()
    }
}

/// Go writes empty fields as null in some places and leaves them out in others.
fn or_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Values that are no strings cannot be ours and cannot select anything: they are passed over, not fatal.
fn strings<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Value {
        Text(String),
        Other(IgnoredAny),
    }
    let map: Option<BTreeMap<String, Value>> = Option::deserialize(deserializer)?;
    Ok(map.map(|map| {
        map.into_iter()
            .filter_map(|(key, value)| match value {
                Value::Text(text) => Some((key, text)),
                Value::Other(_) => None,
            })
            .collect()
    }))
}

/// One request that would change the cluster.
#[derive(Clone, Debug)]
pub struct Write<'a> {
    /// What it asks.
    pub verb: Verb,
    /// Of what kind of object.
    pub resource: Resource,
    /// In which namespace; `None` for objects that live in none. A Namespace object's is its own name.
    pub namespace: Option<String>,
    /// The object's name; empty where the API server is still to make one.
    pub name: String,
    /// Who asks.
    pub requester: Requester,
    /// The object as it is (update, delete).
    pub before: Option<Object<'a>>,
    /// The object as it would be (create, update; the options of a connect).
    pub after: Option<Object<'a>>,
    /// Whether nothing will be kept.
    pub dry_run: bool,
    /// The field manager that the client named; empty where there is none (deletes).
    pub manager: String,
}

impl Write<'_> {
    /// What is done, in the words of stamps and records.
    pub fn operation(&self) -> Operation {
        match (self.verb, self.resource.subresource.as_deref()) {
            (Verb::Connect, _) => Operation::Exec,
            (Verb::Create, Some("eviction")) => Operation::Evict,
            (Verb::Update, Some("scale")) => Operation::Scale,
            (Verb::Create, None | Some("token")) => Operation::Create,
            (Verb::Create | Verb::Update, _) => Operation::Update,
            (Verb::Delete, _) => Operation::Delete,
        }
    }

    /// The object's name; in a deletecollection the request names none, and the object before does.
    pub fn object_name(&self) -> &str {
        if !self.name.is_empty() {
            return &self.name;
        }
        let object = self.after.as_ref().filter(|object| !object.metadata.name.is_empty()).or(self.before.as_ref());
        object.map_or("", |object| object.metadata.name.as_str())
    }

    /// The name for people: `"api"`, or `"api-*"` where the API server is still to make one.
    pub fn display_name(&self) -> String {
        match (self.object_name(), &self.after) {
            ("", Some(after)) => format!("{}*", after.metadata.generate_name),
            (name, _) => name.to_owned(),
        }
    }

    /// Whether a stamp can be put on the object of this write.
    ///
    /// A delete leaves no object, and the object of a subresource is another one (Scale) or resets its metadata.
    pub fn can_carry_stamp(&self) -> bool {
        matches!(self.verb, Verb::Create | Verb::Update) && self.resource.subresource.is_none() && self.after.is_some()
    }
}

#[cfg(test)]
mod tests;
