//! Orphans: objects that somebody made and no engine owns. Pure.
//!
//! What Kubernetes makes for itself is none: it is told by who made it, and not by a list of names. Made for another object, as a
//! pod for its ReplicaSet; written by the programs of Kubernetes alone, as `kube-root-ca.crt` and the Service `kubernetes`; labelled
//! as a part of its start. Events and Leases are what programs note down about their work, as are the Secrets in which Helm keeps
//! its releases.

use breakglass::api::{Operation, Target, Timestamp};
use breakglass::stamp;
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::area::Area;
use crate::discover::{Kind, dotted};
use crate::inventory::Inventory;
use crate::ledger::Record;
use crate::metadata::Metadata;
use crate::print::age;
use crate::scan::Look;

/// What Kubernetes starts with carries this label (plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go).
const BOOTSTRAPPING: &str = "kubernetes.io/bootstrapping";

/// The names of the Secrets in which Helm keeps its releases (helm pkg/storage/storage.go), which it labels as its own.
const RELEASES: &str = "sh.helm.release.v1.";

/// The columns of the table.
pub const COLUMNS: [&str; 6] = ["NAMESPACE", "KIND", "NAME", "AGE", "WHO", "THROUGH"];

/// The columns that `-o wide` adds.
pub const WIDE_COLUMNS: [&str; 3] = ["INCIDENT", "CHANGE", "CLAIMS"];

/// An object that no engine owns.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Orphan {
    /// The object.
    pub target: Target,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// Who made it: by the record, or by the stamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// Through what: the first field manager, by the name that the client gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    /// The incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// The change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// The engine's object that its marks name, and that does not list it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<String>,
}

/// Looks for orphans.
#[derive(Clone, Copy, Debug)]
pub struct Orphans<'o> {
    /// Where.
    pub area: &'o Area,
    /// What engines own.
    pub inventory: &'o Inventory,
    /// The labels that the server narrows by.
    pub selector: &'o str,
}

impl Look for Orphans<'_> {
    type Metadata = Metadata;
    type Found = Orphan;

    fn selector(&self) -> &str {
        self.selector
    }

    fn look(&self, kind: &Kind, metadata: Metadata) -> Option<Orphan> {
        if !self.area.has(metadata.namespace()) || is_kubernetes_own(kind, &metadata) {
            return None;
        }
        let (target, claim) = (metadata.target(kind)?, metadata.claim());
        if self.inventory.owner(&target, claim.as_ref()).is_some() {
            return None;
        }
        // The stamp is of the last write; only of a create does it say who made the object.
        let made = metadata.annotation(stamp::OPERATION) == Some(Operation::Create.as_str());
        let stamped = |key: &str| metadata.annotation(key).filter(|_| made).map(str::to_owned);
        let first = metadata.entries().iter().filter(|entry| entry.time.is_some()).min_by_key(|entry| entry.time);
        Some(Orphan {
            created: metadata.created(),
            who: stamped(stamp::USER),
            manager: first.map(|entry| entry.manager.clone()).filter(|manager| !manager.is_empty()),
            incident: stamped(stamp::INCIDENT),
            change: stamped(stamp::CHANGE),
            claims: claim.map(|claim| claim.to_string()),
            target,
        })
    }

    fn uid(found: &Orphan) -> &str {
        found.target.uid.as_deref().unwrap_or_default()
    }
}

fn is_kubernetes_own(kind: &Kind, metadata: &Metadata) -> bool {
    let entries = metadata.entries();
    let notes = match (kind.resource.group.as_str(), kind.resource.plural.as_str()) {
        ("coordination.k8s.io", "leases") | ("" | "events.k8s.io", "events") => true,
        ("", "secrets" | "configmaps") => {
            metadata.label("owner") == Some("helm") && metadata.name().is_some_and(|name| name.starts_with(RELEASES))
        }
        // Every namespace is given one, without a field that somebody could own.
        ("", "serviceaccounts") => entries.is_empty() && metadata.name() == Some("default"),
        _ => false,
    };
    notes
        || metadata.is_child()
        || metadata.label(BOOTSTRAPPING).is_some()
        || (!entries.is_empty() && entries.iter().all(|entry| entry.is_control_plane()))
}

/// Fills in who made an object, where a record says it, and puts the rows in order.
pub fn made_by(mut orphans: Vec<Orphan>, records: &[Record]) -> Vec<Orphan> {
    let creates = records.iter().filter(|record| record.change.spec.operation == Operation::Create);
    let by_uid: std::collections::BTreeMap<&str, &Record> =
        creates.filter_map(|record| Some((record.change.spec.target.uid.as_deref()?, record))).collect();
    for orphan in &mut orphans {
        let Some(record) = orphan.target.uid.as_deref().and_then(|uid| by_uid.get(uid)) else { continue };
        orphan.who = Some(record.change.spec.user.clone());
        orphan.incident = Some(record.change.spec.incident.clone());
        orphan.change = Some(record.name.clone());
    }
    let key = |orphan: &Orphan| {
        let target = &orphan.target;
        (target.namespace.clone(), target.kind.clone(), target.group().to_owned(), target.name.clone())
    };
    orphans.sort_by_cached_key(key);
    orphans
}

impl Orphan {
    /// The cells of the table, those of `-o wide` included.
    pub fn cells(&self, now: DateTime<Utc>) -> Vec<String> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let target = &self.target;
        vec![
            text(&target.namespace),
            dotted(&target.kind.to_lowercase(), target.group()),
            target.name.clone(),
            self.created.map(|time| age::since(time.instant(), now)).unwrap_or_default(),
            text(&self.who),
            text(&self.manager),
            text(&self.incident),
            text(&self.change),
            text(&self.claims),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ledger::{Keep, read_record};

    fn kind(group: &str, plural: &str) -> Kind {
        let mut kind = Kind::in_apps("Deployment");
        kind.resource.group = group.to_owned();
        kind.resource.plural = plural.to_owned();
        kind
    }

    fn check(kind: &Kind, more: Value, expected: bool) {
        let mut metadata = json!({"name": "api", "namespace": "prod", "uid": "u",
            "managedFields": [{"manager": "kubectl-create", "operation": "Update", "time": "2026-11-20T10:00:00Z"}]});
        more.as_object().unwrap().iter().for_each(|(field, value)| metadata[field] = value.clone());
        let area = Area::everywhere();
        let look = Orphans { area: &area, inventory: &Inventory::default(), selector: "" };
        let found = look.look(kind, serde_json::from_value(metadata.clone()).unwrap());
        assert_eq!(found.is_some(), expected, "{} {metadata}", kind.name());
    }

    #[test]
    fn what_kubernetes_makes_for_itself_is_no_orphan() {
        let (deployment, config_map) = (kind("apps", "deployments"), kind("", "configmaps"));
        let by = |managers: &[&str]| {
            let entries = managers.iter().map(|manager| json!({"manager": manager, "time": "2026-11-20T10:00:00Z"}));
            json!({"managedFields": entries.collect::<Vec<_>>()})
        };
        check(&deployment, json!({}), true);
        check(&config_map, by(&["kube-controller-manager"]), false);
        check(&config_map, by(&["kube-controller-manager", "kubectl-edit"]), true);
        check(&config_map, by(&[]), true);
        let owner = json!({"ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x"}]});
        check(&deployment, owner, false);
        check(&deployment, json!({"labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}), false);
        check(&kind("coordination.k8s.io", "leases"), json!({}), false);
        check(&kind("", "events"), json!({}), false);
        check(&kind("events.k8s.io", "events"), json!({}), false);
        check(&kind("example.com", "events"), json!({}), true);
        let release = json!({"name": "sh.helm.release.v1.api.v1", "labels": {"owner": "helm"}});
        check(&kind("", "secrets"), release.clone(), false);
        check(&deployment, release, true);
        check(&kind("", "secrets"), json!({"labels": {"owner": "helm"}}), true);
        let account = |name: &str, managers: &[&str]| {
            let mut metadata = by(managers);
            metadata["name"] = json!(name);
            metadata
        };
        check(&kind("", "serviceaccounts"), account("default", &[]), false);
        check(&kind("", "serviceaccounts"), account("default", &["kubectl-patch"]), true);
        check(&kind("", "serviceaccounts"), account("robot", &[]), true);
        check(&deployment, json!({"namespace": "kube-system"}), false);
        check(&deployment, json!({"uid": null}), false);
    }

    #[test]
    fn who_made_it_is_told_by_the_record_or_the_stamp_of_a_create() {
        let look = |annotations: Value| {
            let metadata = json!({"name": "api", "namespace": "prod", "uid": "u", "annotations": annotations,
                "creationTimestamp": "2026-11-20T10:00:00Z", "labels": {"helm.toolkit.fluxcd.io/name": "api"},
                "managedFields": [{"manager": "later", "time": "2026-11-20T11:00:00Z"},
                    {"manager": "first", "time": "2026-11-20T10:00:00Z"}, {"manager": "untimed"}]});
            let area = Area::everywhere();
            let look = Orphans { area: &area, inventory: &Inventory::default(), selector: "" };
            look.look(&Kind::in_apps("Deployment"), serde_json::from_value(metadata).unwrap()).unwrap()
        };
        let stamped =
            |operation: &str| json!({"breakglass.dev/user": "bob@example.com", "breakglass.dev/operation": operation});
        let now = "2026-11-20T12:00:00Z".parse().unwrap();
        let cells = look(stamped("Create")).cells(now);
        assert_eq!(
            cells,
            ["prod", "deployment.apps", "api", "2h0m", "bob@example.com", "first", "", "", "HelmRelease api"]
        );
        assert_eq!(look(stamped("Update")).who, None);
        let record = |name: &str, operation: &str, uid: &str| {
            let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "resource": "deployments", "name": "api", "uid": uid});
            let object = json!({"metadata": {"name": name}, "spec": {"token": "t", "incident": "INC-1", "user": "alice@example.com",
                "time": "2026-11-20T10:00:00Z", "environment": "prod", "operation": operation, "target": target,
                "decideBy": "2026-11-21T12:00:00Z"}});
            read_record(serde_json::from_value(object).unwrap(), Keep::Lines).unwrap()
        };
        let found = made_by(vec![look(json!({}))], &[record("c1", "Create", "u"), record("c2", "Update", "u")]);
        assert_eq!((found[0].who.as_deref(), found[0].change.as_deref()), (Some("alice@example.com"), Some("c1")));
        assert_eq!(made_by(vec![look(json!({}))], &[record("c1", "Create", "other")])[0].who, None);
    }
}
