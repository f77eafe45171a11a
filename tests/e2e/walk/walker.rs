//! Sends every request: makes the object that it is about, and a body that Kubernetes itself has nothing against.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use tests::Cluster;

use super::NAMESPACE;
use super::client::{Answer, Caller, Request};
use super::discovery::{Served, Way, discover, root};

/// By group, version and resource, the fields that an object needs besides its name; by subresource, the body that is
/// created there, or what is changed of what is there.
const STUBS: &str = include_str!("stubs.json");

/// Requests at once. More would not be faster: one user's refused writes share what is looked up about them.
const LANES: usize = 16;

/// How often a write is tried again that lost against one of a controller.
const CONFLICTS: usize = 5;

/// What became of one request.
pub struct Step {
    pub served: Served,
    pub way: Way,
    pub answer: Result<Answer, String>,
}

/// Who walks, and over what.
pub struct Walker {
    admin: Caller,
    scene: Caller,
    stubs: BTreeMap<String, Value>,
    served: BTreeMap<String, Served>,
}

impl Walker {
    pub async fn new(cluster: &Cluster) -> Self {
        let (admin, scene) = (Caller::admin(cluster).await, Caller::scene(cluster).await);
        let stubs = serde_json::from_str(STUBS).unwrap();
        let served = discover(&admin).await.unwrap();
        Self { admin, scene, stubs, served: served.into_iter().map(|served| (served.key(), served)).collect() }
    }

    pub fn served(&self) -> &BTreeMap<String, Served> {
        &self.served
    }

    pub fn stubs(&self) -> impl Iterator<Item = &str> {
        self.stubs.keys().map(String::as_str)
    }

    /// Everything that is offered of what `which` wants, one request each.
    pub async fn walk(self: &Arc<Self>, which: fn(&Served) -> bool) -> Vec<Step> {
        let mut lanes = tokio::task::JoinSet::new();
        for lane in 0..LANES {
            let walker = Arc::clone(self);
            lanes.spawn(async move {
                let mut steps = Vec::new();
                // A resource and its subresources are walked by one: they share an object, which may be deleted on the way.
                let resources = walker.served.values().filter(|served| served.subresource().is_none());
                for resource in resources.skip(lane).step_by(LANES) {
                    let parts = walker.served.values().filter(|served| served.resource_key() == resource.key());
                    for served in parts.filter(|served| which(served)) {
                        for way in served.ways().unwrap_or_default() {
                            let answer = walker.step(served, &way).await;
                            steps.push(Step { served: served.clone(), way, answer });
                        }
                    }
                }
                steps
            });
        }
        lanes.join_all().await.into_iter().flatten().collect()
    }

    async fn step(&self, served: &Served, way: &Way) -> Result<Answer, String> {
        let mut tries = 0;
        loop {
            let answer = self.admin.send(&self.request(served, way).await?).await?;
            tries += 1;
            let conflict = answer.code == 409 && *way != Way::Create;
            if !conflict || tries > CONFLICTS {
                return Ok(answer);
            }
        }
    }

    async fn request(&self, served: &Served, way: &Way) -> Result<Request, String> {
        let object = self.object(&served.resource_key()).await?;
        let (collection, name) = (self.collection(served), self.name(served));
        let path = match served.subresource() {
            None => format!("{collection}/{name}"),
            Some(subresource) => format!("{collection}/{name}/{subresource}"),
        };
        let edit = self.edit(served, way)?;
        let (path, body) = match way {
            Way::Create => match served.subresource() {
                None => (collection, Some(self.stub(served)?)),
                Some(_) => (path, Some(self.stub(served)?)),
            },
            Way::Update => {
                let mut after = if served.may("get") { self.scene.get(&path).await? } else { object };
                json_patch::merge(&mut after, &edit);
                (path, Some(after))
            }
            Way::JsonPatch => {
                let before = self.scene.get(&path).await?;
                let mut after = before.clone();
                json_patch::merge(&mut after, &edit);
                (path, Some(json!(json_patch::diff(&before, &after))))
            }
            Way::MergePatch | Way::StrategicPatch => (path, Some(edit)),
            Way::Apply => {
                let metadata = json!({"name": name});
                let mut body = json!({"apiVersion": served.api_version, "kind": served.kind, "metadata": metadata});
                json_patch::merge(&mut body, &edit);
                (format!("{path}?fieldManager=walk&force=true"), Some(body))
            }
            Way::Delete | Way::Connect(_) => (path, None),
            Way::DeleteCollection => (format!("{collection}?labelSelector=walk%3D{}", mark(served)), None),
        };
        Ok(Request { method: way.method(), path, content_type: way.content_type(), body })
    }

    /// The object of a resource as it is, made by the scene if it is not there. Null for what is not stored.
    pub async fn object(&self, key: &str) -> Result<Value, String> {
        let served = self.served.get(key).ok_or_else(|| format!("{key} is not served"))?;
        if !served.is_stored() {
            return Ok(Value::Null);
        }
        let path = format!("{}/{}", self.collection(served), self.name(served));
        let found = self.scene.send(&Request::new(Method::GET, &path)).await?;
        if found.code != 404 {
            return Ok(found.object);
        }
        let create = Request::new(Method::POST, self.collection(served)).with(self.stub(served)?);
        let made = self.scene.send(&create).await?;
        match made.code {
            201 => Ok(made.object),
            // Another lane was faster.
            409 => self.scene.get(&path).await,
            code => Err(format!("the stub for {key} is not taken: {code} {}", made.message())),
        }
    }

    /// What is created: the table's fields, with a name and a label to find it by.
    fn stub(&self, served: &Served) -> Result<Value, String> {
        let mut body = json!({"apiVersion": served.api_version, "kind": served.kind});
        body["metadata"] = json!({"name": self.name(served)});
        if served.subresource().is_none() {
            body["metadata"]["labels"] = json!({"walk": mark(served)});
        }
        json_patch::merge(&mut body, self.known(served)?);
        Ok(body)
    }

    /// What is changed, as a merge patch: something that is another for each way, so that none of them changes nothing.
    fn edit(&self, served: &Served, way: &Way) -> Result<Value, String> {
        match (served.subresource(), way) {
            (None | Some("status"), _) => {
                Ok(json!({"metadata": {"labels": {"edited": format!("{way:?}").replace(['(', ')', '"'], "")}}}))
            }
            (Some("scale"), _) => Ok(json!({"spec": {"replicas": 1}})),
            (_, Way::Create | Way::Connect(_)) => Ok(Value::Null),
            (Some(_), _) => self.known(served).cloned(),
        }
    }

    fn known(&self, served: &Served) -> Result<&Value, String> {
        let key = served.key();
        self.stubs
            .get(&key)
            .ok_or_else(|| format!("no stub for {key}: it is new in this Kubernetes; add it to stubs.json"))
    }

    fn name(&self, served: &Served) -> String {
        let given = self.stubs.get(&served.resource_key()).and_then(|stub| stub["metadata"]["name"].as_str());
        given.map_or_else(|| mark(served), str::to_owned)
    }

    fn collection(&self, served: &Served) -> String {
        let place = if served.namespaced { format!("/namespaces/{NAMESPACE}") } else { String::new() };
        let resource = served.name.split('/').next().unwrap_or_default();
        format!("{}{place}/{resource}", root(&served.group_version))
    }
}

/// Tells the objects of one version from those of another: both may be the same in etcd.
fn mark(served: &Served) -> String {
    format!("walk-{}", served.group_version.replace(['/', '.'], "-"))
}
