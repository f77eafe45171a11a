//! What is installed: the files of manifests/, compiled in, with what the flags change in them. Pure.

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, TypeMeta};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use breakglass::api::{BreakglassPolicy, GROUP, HOME_NAMESPACE, POLICY_NAME};
use breakglass::cover::OUR_ROLES;
use breakglass::rules::Rules;
use kube::Resource;

/// The files that `manifests/kustomization.yaml` names, in its order.
const FILES: [&str; 13] = [
    include_str!("../../manifests/crds/breakglasspolicies.yaml"),
    include_str!("../../manifests/crds/breakglasstokens.yaml"),
    include_str!("../../manifests/crds/breakglasschanges.yaml"),
    include_str!("../../manifests/webhook/namespace.yaml"),
    include_str!("../../manifests/webhook/rbac.yaml"),
    include_str!("../../manifests/webhook/service.yaml"),
    include_str!("../../manifests/webhook/disruption.yaml"),
    include_str!("../../manifests/webhook/network.yaml"),
    include_str!("../../manifests/webhook/deployment.yaml"),
    include_str!("../../manifests/roles/opener.yaml"),
    include_str!("../../manifests/roles/approver.yaml"),
    include_str!("../../manifests/roles/decide.yaml"),
    include_str!("../../manifests/roles/viewer.yaml"),
];

/// The name of the Deployment, the Service and what else there is one of.
pub const NAME: &str = "breakglass-webhook";

/// The label by which the Deployment knows its pods.
pub const POD_SELECTOR: &str = "app.kubernetes.io/name=breakglass";

/// The steps of an install, in their order: each needs those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Where the rest lives.
    Namespace,
    /// The three kinds.
    Definitions,
    /// Who the webhook is, and what it and people may do.
    Rights,
    /// What the API server calls.
    Service,
    /// How many replicas have to stay.
    Disruption,
    /// Who may connect.
    Network,
    /// What is guarded.
    Policy,
    /// The webhook. Last: it registers itself as soon as it runs.
    Deployment,
}

impl Step {
    /// In a line of progress.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Definitions => "definitions",
            Self::Rights => "roles and bindings",
            Self::Service => "service",
            Self::Disruption => "disruption budget",
            Self::Network => "network policy",
            Self::Policy => "policy",
            Self::Deployment => "deployment",
        }
    }

    fn of(kind: &str) -> Self {
        match kind {
            "Namespace" => Self::Namespace,
            "CustomResourceDefinition" => Self::Definitions,
            "Service" => Self::Service,
            "PodDisruptionBudget" => Self::Disruption,
            "NetworkPolicy" => Self::Network,
            "BreakglassPolicy" => Self::Policy,
            "Deployment" => Self::Deployment,
            // ServiceAccount, Role, RoleBinding, ClusterRole, ClusterRoleBinding.
            _ => Self::Rights,
        }
    }
}

/// One object to be applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// When its turn is.
    pub step: Step,
    /// Its kind.
    pub resource: ApiResource,
    /// Its namespace, if it lives in one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// All of it.
    pub object: Value,
}

impl Part {
    /// Takes an object apart. Nothing where it has no kind or no name.
    pub fn new(object: Value) -> Option<Self> {
        let kind: TypeMeta = serde_json::from_value(object.clone()).ok()?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&kind).ok()?);
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let (name, namespace) = (text("/metadata/name")?, text("/metadata/namespace"));
        Some(Self { step: Step::of(&kind.kind), resource, namespace, name, object })
    }

    /// Its kind, in its namespace.
    pub fn api(&self, client: &Client) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.resource),
            None => Api::all_with(client.clone(), &self.resource),
        }
    }

    /// `deployment.apps/breakglass-webhook`, as kubectl prints it.
    pub fn full_name(&self) -> String {
        let kind = crate::discover::dotted(&self.resource.kind.to_lowercase(), &self.resource.group);
        format!("{kind}/{}", self.name)
    }

    /// The environment that a write to it belongs to: [`breakglass::cover::environment_of_write`], for what we write.
    pub fn environment<'r>(&self, rules: &'r Rules) -> &'r str {
        let none = std::collections::BTreeMap::new();
        let ours = (self.step == Step::Definitions && self.name.ends_with(&format!(".{GROUP}")))
            || (self.resource.group == "rbac.authorization.k8s.io" && self.name.starts_with(OUR_ROLES));
        let environment = match (&self.namespace, self.step) {
            (Some(namespace), _) => rules.environment_of(namespace, &none),
            (None, Step::Namespace) => rules.environment_of(&self.name, &none),
            (None, _) if ours => rules.environment_of(HOME_NAMESPACE, &none),
            (None, _) => rules.cluster_scoped(),
        };
        &environment.name
    }
}

/// What the flags change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// The image of the webhook.
    pub image: Option<String>,
    /// How many of it.
    pub replicas: Option<u32>,
    /// The spec of the policy, as it was written.
    pub policy: Option<Value>,
}

/// Everything that is to be in the cluster, in the order in which it is applied.
pub fn render(wanted: &Wanted) -> Vec<Part> {
    let documents = FILES.iter().flat_map(|file| documents(file));
    let policy = wanted.policy.iter().map(|spec| {
        json!({
            "apiVersion": BreakglassPolicy::api_version(&()),
            "kind": BreakglassPolicy::kind(&()),
            "metadata": {"name": POLICY_NAME},
            "spec": spec,
        })
    });
    let mut parts: Vec<Part> = documents.chain(policy).filter_map(Part::new).collect();
    for part in &mut parts {
        match part.step {
            Step::Deployment => deployment(&mut part.object, wanted),
            Step::Disruption if wanted.replicas == Some(1) => one_may_go(&mut part.object),
            _ => {}
        }
    }
    parts.sort_by_key(|part| part.step);
    parts
}

/// A file that is ours is YAML: a test holds it.
fn documents(file: &str) -> Vec<Value> {
    serde_saphyr::from_multiple::<Value>(file).unwrap_or_default()
}

fn deployment(object: &mut Value, wanted: &Wanted) {
    if let Some(replicas) = wanted.replicas {
        object["spec"]["replicas"] = replicas.into();
    }
    if let Some(image) = &wanted.image {
        object["spec"]["template"]["spec"]["containers"][0]["image"] = image.as_str().into();
    }
}

/// With one replica, one that has to stay would keep its node from ever being drained. The eviction is let through, and
/// prod is shut until the pod runs elsewhere. The object stays, so that more replicas later change it and leave none behind.
fn one_may_go(object: &mut Value) {
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.remove("minAvailable");
        spec.insert("maxUnavailable".to_owned(), 1.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one<'p>(parts: &'p [Part], kind: &str) -> &'p Value {
        let found: Vec<_> = parts.iter().filter(|part| part.resource.kind == kind).collect();
        assert_eq!(found.len(), 1, "{kind}");
        &found[0].object
    }

    #[test]
    fn every_file_is_read_and_every_object_in_it_carries_our_label() {
        let parts = render(&Wanted::default());
        let documents: usize = FILES.iter().map(|file| 1 + file.matches("\n---\n").count()).sum();
        assert_eq!(parts.len(), documents);
        for part in parts {
            assert_eq!(part.object["metadata"]["labels"]["app.kubernetes.io/part-of"], "breakglass", "{part:?}");
        }
    }

    #[test]
    fn what_is_needed_comes_before_what_needs_it() {
        let wanted = Wanted { policy: Some(json!({"mode": "Warn"})), ..Wanted::default() };
        let mut steps: Vec<&str> = render(&wanted).iter().map(|part| part.step.as_str()).collect();
        steps.dedup();
        assert_eq!(
            steps,
            [
                "namespace",
                "definitions",
                "roles and bindings",
                "service",
                "disruption budget",
                "network policy",
                "policy",
                "deployment"
            ]
        );
    }

    #[test]
    fn the_image_is_of_this_version_unless_another_is_named() {
        let image = |wanted: &Wanted| {
            one(&render(wanted), "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"].clone()
        };
        assert_eq!(image(&Wanted::default()), concat!("breakglass-webhook:", env!("CARGO_PKG_VERSION")));
        let other = Wanted { image: Some("registry.example.com/b:1".to_owned()), ..Wanted::default() };
        assert_eq!(image(&other), "registry.example.com/b:1");
    }

    /// one replica is replaced before it goes, and does not keep its node from being drained.
    #[test]
    fn one_replica_may_be_evicted_and_is_never_rolled_to_none() {
        let with = |replicas| render(&Wanted { replicas: Some(replicas), ..Wanted::default() });
        for (replicas, budget) in [(1, json!({"maxUnavailable": 1})), (2, json!({"minAvailable": 1}))] {
            let parts = with(replicas);
            let deployment = one(&parts, "Deployment");
            assert_eq!(deployment["spec"]["replicas"], replicas);
            assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"], json!({"maxSurge": 1, "maxUnavailable": 0}));
            let mut spec = one(&parts, "PodDisruptionBudget")["spec"].clone();
            spec.as_object_mut().unwrap().remove("selector");
            assert_eq!(spec, budget, "{replicas}");
        }
        let by_default = render(&Wanted::default());
        assert_eq!(by_default, with(2));
    }

    #[test]
    fn a_policy_is_named_default_and_says_what_it_was_given() {
        let parts = render(&Wanted { policy: Some(json!({"mode": "Audit"})), ..Wanted::default() });
        let policy = one(&parts, "BreakglassPolicy");
        assert_eq!((&policy["metadata"]["name"], &policy["spec"]), (&json!("default"), &json!({"mode": "Audit"})));
    }

    #[test]
    fn names_are_as_kubectl_has_them_and_environments_as_the_webhook_has_them() {
        let rules = Rules::new(serde_json::from_value(json!({"clusterScoped": "RequireToken"})).unwrap()).unwrap();
        let found: Vec<(String, String)> = render(&Wanted::default())
            .iter()
            .map(|part| (part.full_name(), part.environment(&rules).to_owned()))
            .collect();
        for (name, environment) in [
            ("namespace/breakglass-system", "platform"),
            ("customresourcedefinition.apiextensions.k8s.io/breakglasstokens.breakglass.dev", "platform"),
            ("clusterrole.rbac.authorization.k8s.io/breakglass-webhook-objects", "platform"),
            ("clusterrole.rbac.authorization.k8s.io/breakglass-opener", "cluster"),
            ("networkpolicy.networking.k8s.io/breakglass-webhook", "platform"),
            ("poddisruptionbudget.policy/breakglass-webhook", "platform"),
            ("role.rbac.authorization.k8s.io/breakglass-webhook-events", "dev"),
        ] {
            assert!(found.contains(&(name.to_owned(), environment.to_owned())), "{name} in {environment}: {found:#?}");
        }
    }
}
