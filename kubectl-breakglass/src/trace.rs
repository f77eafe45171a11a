//! Trace: from an object to the commit that it comes from, link by link, each with how it is known. Pure.

use breakglass::api::{Target, Timestamp};
use breakglass::engine::Engine;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::origin::{Applied, Origin, Repository};
use crate::print::age;

/// The key, as an annotation or a label, by which Flux leaves an object alone (kustomize-controller docs/spec/v1, "Controlling
/// the apply behavior of resources").
const RECONCILE: &str = "kustomize.toolkit.fluxcd.io/reconcile";

/// The key by which Flux applies an object in another way than it applies all others.
const APPLY: &str = "kustomize.toolkit.fluxcd.io/ssa";

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// What it is to the one before it.
    pub link: &'static str,
    /// Its name.
    pub what: String,
    /// How it is known.
    pub known_by: String,
}

/// What is known of the Kustomization besides what it says itself to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whether its condition Ready is `True`; nothing where it has none yet.
    pub ready: Option<bool>,
    /// What that condition says.
    pub message: String,
    /// When it reconciled last.
    pub reconciled: Option<Timestamp>,
}

impl State {
    /// Reads the status of a Kustomization.
    pub fn of(kustomization: &Value) -> Self {
        let status = &kustomization["status"];
        let conditions = status["conditions"].as_array();
        let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
        let time = |value: &Value| value.as_str().and_then(|time| time.parse().ok());
        // The newest snapshot is the first (kustomize-controller api/v1 kustomization_types.go, status.history).
        let reconciled = time(&status["history"][0]["lastReconciled"]);
        Self {
            ready: ready.and_then(|ready| ready["status"].as_str()).map(|status| status == "True"),
            message: ready.and_then(|ready| ready["message"].as_str()).unwrap_or_default().to_owned(),
            reconciled: reconciled.or_else(|| ready.and_then(|ready| time(&ready["lastTransitionTime"]))),
        }
    }
}

/// All that was found out about where an object comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The object.
    pub target: Target,
    /// Who made it, one after the other: a pod's ReplicaSet, that one's Deployment.
    pub owners: Vec<Target>,
    /// The last of these, or the object itself, as it is.
    pub top: Value,
    /// Where that one comes from.
    pub origin: Origin,
    /// Whether Kustomizations could be asked.
    pub asked: Asked,
    /// How the Kustomization is.
    pub state: State,
    /// The repository behind it.
    pub repository: Option<Repository>,
    /// One sentence for each thing that could not be read.
    pub failures: Vec<String>,
}

/// Whom the origin is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The engine's inventory.
    Inventory,
    /// The object's own marks: the inventory could not be read.
    MarksAlone,
}

impl Trace {
    /// The chain, from the object on.
    pub fn links(&self, now: DateTime<Utc>) -> Vec<Link> {
        let mut links = vec![link("object", self.target.place(), "as named")];
        let mut below = &self.target;
        for owner in &self.owners {
            links.push(link("made by", owner.place(), &format!("ownerReferences of the {}", below.kind)));
            below = owner;
        }
        match (&self.origin.applied_by, &self.origin.claim) {
            (Some(applied), _) => links.extend(self.applied(applied, now)),
            (None, Some(claim)) if self.asked == Asked::MarksAlone || !is_kustomization(claim.engine, claim.kind) => {
                let marks = match claim.engine {
                    Engine::Flux => "labels",
                    Engine::ArgoCd => "tracking-id",
                };
                links.push(link("engine", claim.to_string(), &format!("{marks} of the {}: a claim", below.kind)));
            }
            (None, _) => {}
        }
        links
    }

    fn applied(&self, applied: &Applied, now: DateTime<Utc>) -> Vec<Link> {
        let marks = if self.origin.lie().is_none() { ", and the labels agree" } else { "; the labels say otherwise" };
        let mut links = vec![
            link("engine", applied.to_string(), &format!("its inventory{marks}")),
            link("source", applied.source.to_string(), "spec.sourceRef of the Kustomization"),
        ];
        let kind = &applied.source.kind;
        if let Some(repository) = &self.repository {
            links.push(link("repository", repository.url.clone(), &format!("spec.url of the {kind}")));
            links.push(link("follows", repository.follows.to_string(), &format!("spec.ref of the {kind}")));
        }
        let path = if applied.path.is_empty() { "." } else { &applied.path };
        links.push(link("path", path.to_owned(), "spec.path of the Kustomization"));
        if let Some(revision) = &applied.revision {
            let known = "status.lastAppliedRevision of the Kustomization";
            links.push(link("revision", revision.clone(), known));
        }
        if let Some(time) = self.state.reconciled {
            let what = format!("{time} ({} ago)", age::since(time.instant(), now));
            links.push(link("last applied", what, "status of the Kustomization"));
        }
        links
    }

    /// What a person should not overlook.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.failures.clone();
        let asked = self.asked == Asked::Inventory;
        warnings.extend(self.origin.lie().filter(|_| asked));
        warnings.extend(left_alone(&self.top));
        match (&self.origin.applied_by, &self.origin.claim) {
            (Some(applied), _) => warnings.extend(self.trouble(applied)),
            (None, Some(claim)) if !is_kustomization(claim.engine, claim.kind) => {
                warnings
                    .push(format!("that {claim} owns it is what the object says of itself: nothing here confirms it"));
            }
            (None, None) if asked => {
                let subject = self.owners.last().unwrap_or(&self.target).short();
                warnings
                    .push(format!("no engine owns {subject}: no inventory lists it, and it carries no engine's mark"));
            }
            (None, _) => {}
        }
        warnings
    }

    /// Why Git may not be what the cluster says.
    fn trouble(&self, applied: &Applied) -> Vec<String> {
        let mut trouble = Vec::new();
        if applied.suspended {
            trouble.push(format!("{applied} is suspended: it applies nothing until somebody resumes it"));
        }
        if self.state.ready == Some(false) {
            trouble.push(format!("{applied} is not ready: {}", self.state.message));
        }
        let fetched = self.repository.as_ref().and_then(|repository| repository.revision.as_ref());
        if let (Some(fetched), Some(revision)) = (fetched, &applied.revision)
            && fetched != revision
        {
            trouble.push(format!("{} has {fetched}, which {applied} has not applied yet", applied.source));
        }
        if self.repository.is_none() && self.failures.is_empty() {
            trouble.push(match applied.source.kind.as_str() {
                "GitRepository" => format!("there is no {}", applied.source),
                kind => format!(
                    "what is behind {} is not looked at: of sources of kind {kind} nothing says where in Git \
                                 they come from",
                    applied.source
                ),
            });
        }
        trouble
    }
}

/// Whether Flux was told, on the object itself, to leave it as it is.
fn left_alone(object: &Value) -> Option<String> {
    let key = |key: &str| {
        let marks = ["annotations", "labels"].map(|field| object["metadata"][field].get(key));
        marks.into_iter().flatten().find_map(Value::as_str)
    };
    if key(RECONCILE).is_some_and(|value| value.eq_ignore_ascii_case("disabled")) {
        return Some(format!("it is held: Flux leaves it alone, and a commit changes nothing ({RECONCILE}: disabled)"));
    }
    let apply = key(APPLY).filter(|value| ["ignore", "ifnotpresent"].contains(&value.to_lowercase().as_str()))?;
    Some(format!("Flux does not change it ({APPLY}: {apply})"))
}

fn is_kustomization(engine: Engine, kind: &str) -> bool {
    engine == Engine::Flux && kind == "Kustomization"
}

fn link(link: &'static str, what: String, known_by: &str) -> Link {
    Link { link, what, known_by: known_by.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(kind: &str, name: &str) -> Target {
        Target {
            api_version: "apps/v1".to_owned(),
            kind: kind.to_owned(),
            resource: format!("{}s", kind.to_lowercase()),
            namespace: Some("prod".to_owned()),
            name: name.to_owned(),
            uid: None,
        }
    }

    fn kustomization(inventory: &str) -> Value {
        json!({"metadata": {"namespace": "flux-system", "name": "prod"},
            "spec": {"path": "./prod", "sourceRef": {"kind": "GitRepository", "name": "fleet"}},
            "status": {"lastAppliedRevision": "main@sha1:abc", "inventory": {"entries": [{"id": inventory, "v": "v1"}]},
                "history": [{"lastReconciled": "2026-11-20T11:58:00Z"}],
                "conditions": [{"type": "Ready", "status": "True", "message": "Applied revision: main@sha1:abc"}]}})
    }

    fn labelled() -> Value {
        json!({"metadata": {"labels": {"kustomize.toolkit.fluxcd.io/name": "prod",
            "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}}})
    }

    fn trace(top: Value, kustomization: &Value) -> Trace {
        let target = target("Deployment", "api");
        let git = json!({"spec": {"url": "https://git.example.com/fleet.git", "ref": {"branch": "main"}},
            "status": {"artifact": {"revision": "main@sha1:abc"}}});
        Trace {
            origin: Origin::of(&target, Some(&top), std::slice::from_ref(kustomization)),
            state: State::of(kustomization),
            repository: Repository::of(&git),
            owners: Vec::new(),
            asked: Asked::Inventory,
            failures: Vec::new(),
            target,
            top,
        }
    }

    fn chain(trace: &Trace) -> Vec<String> {
        let now = "2026-11-20T12:00:00Z".parse().unwrap();
        trace.links(now).into_iter().map(|link| format!("{}: {} [{}]", link.link, link.what, link.known_by)).collect()
    }

    const LISTED: &str = "prod_api_apps_Deployment";

    #[test]
    fn the_chain_goes_from_the_object_to_the_commit_and_says_how_each_link_is_known() {
        let mut trace = trace(labelled(), &kustomization(LISTED));
        trace.target = target("Pod", "api-1-x");
        trace.owners = vec![target("ReplicaSet", "api-1"), target("Deployment", "api")];
        assert_eq!(
            chain(&trace),
            [
                "object: pod.apps/api-1-x in prod [as named]",
                "made by: replicaset.apps/api-1 in prod [ownerReferences of the Pod]",
                "made by: deployment.apps/api in prod [ownerReferences of the ReplicaSet]",
                "engine: Kustomization flux-system/prod [its inventory, and the labels agree]",
                "source: GitRepository flux-system/fleet [spec.sourceRef of the Kustomization]",
                "repository: https://git.example.com/fleet.git [spec.url of the GitRepository]",
                "follows: branch main [spec.ref of the GitRepository]",
                "path: prod [spec.path of the Kustomization]",
                "revision: main@sha1:abc [status.lastAppliedRevision of the Kustomization]",
                "last applied: 2026-11-20T11:58:00Z (2m ago) [status of the Kustomization]",
            ]
        );
        assert_eq!(trace.warnings(), Vec::<String>::new());
    }

    #[test]
    fn what_a_person_should_not_overlook_is_said() {
        let check = |top: Value, change: fn(&mut Value), expected: &[&str]| {
            let mut kustomization = kustomization(LISTED);
            change(&mut kustomization);
            let warnings = trace(top, &kustomization).warnings();
            assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
            warnings.iter().zip(expected).for_each(|(said, part)| assert!(said.contains(part), "{said}"));
        };
        let held = |key: &str, value: &str| {
            let mut object = labelled();
            object["metadata"]["annotations"] = json!({key: value});
            object
        };
        check(labelled(), |k| k["spec"]["suspend"] = json!(true), &["prod is suspended: it applies nothing"]);
        let not_ready = |k: &mut Value| {
            k["status"]["conditions"][0]["status"] = json!("False");
            k["status"]["conditions"][0]["message"] = json!("kustomize build failed");
        };
        check(labelled(), not_ready, &["prod is not ready: kustomize build failed"]);
        let behind = |k: &mut Value| k["status"]["lastAppliedRevision"] = json!("main@sha1:old");
        check(labelled(), behind, &["GitRepository flux-system/fleet has main@sha1:abc, which Kustomization"]);
        check(held(RECONCILE, "disabled"), |_| (), &["it is held: Flux leaves it alone"]);
        check(held(APPLY, "IfNotPresent"), |_| (), &["Flux does not change it"]);
        check(held(APPLY, "Merge"), |_| (), &[]);
        // A label that lies, either way; and nobody at all.
        let elsewhere =
            |k: &mut Value| k["status"]["inventory"]["entries"][0]["id"] = json!("prod_other_apps_Deployment");
        check(labelled(), elsewhere, &["no inventory of a Kustomization lists it"]);
        check(json!({}), |_| (), &["its labels do not name Kustomization flux-system/prod"]);
        check(json!({}), elsewhere, &["no engine owns deployment.apps/api"]);
    }

    #[test]
    fn a_claim_that_nothing_confirms_is_called_one() {
        let none = kustomization("prod_other_apps_Deployment");
        let argo =
            json!({"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:prod/api"}}});
        let traced = trace(argo, &none);
        assert_eq!(chain(&traced)[1], "engine: Application shop [tracking-id of the Deployment: a claim]");
        assert_eq!(
            traced.warnings(),
            ["that Application shop owns it is what the object says of itself: nothing here confirms it"]
        );
        let release = json!({"metadata": {"labels": {"helm.toolkit.fluxcd.io/name": "api", "helm.toolkit.fluxcd.io/namespace": "apps"}}});
        assert_eq!(
            chain(&trace(release, &none))[1],
            "engine: HelmRelease apps/api [labels of the Deployment: a claim]"
        );
        // Who may not read Kustomizations sees the claim; and it is not called a lie.
        let unread = Trace { asked: Asked::MarksAlone, failures: vec!["why".to_owned()], ..trace(labelled(), &none) };
        assert_eq!(chain(&unread)[1], "engine: Kustomization flux-system/prod [labels of the Deployment: a claim]");
        assert_eq!(unread.warnings(), ["why"]);
        // A label that lies is no link.
        assert_eq!(chain(&trace(labelled(), &none)).len(), 1);
    }

    #[test]
    fn a_source_that_is_no_repository_ends_the_chain() {
        let mut oci = kustomization(LISTED);
        oci["spec"]["sourceRef"]["kind"] = json!("OCIRepository");
        let traced = Trace { repository: None, ..trace(labelled(), &oci) };
        assert_eq!(chain(&traced)[2], "source: OCIRepository flux-system/fleet [spec.sourceRef of the Kustomization]");
        assert!(traced.warnings()[0].contains("nothing says where in Git they come from"));
        let gone = Trace { repository: None, ..trace(labelled(), &kustomization(LISTED)) };
        assert_eq!(gone.warnings(), ["there is no GitRepository flux-system/fleet"]);
    }
}
