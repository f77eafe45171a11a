//! What is to be seen of the object of a change: as a record would keep it, and whose its fields are.

use anyhow::{Context, Result, bail};
use breakglass::api::{BreakglassChange, Operation};
use breakglass::engine::{Engine, Owner};
use breakglass::hold;
use breakglass::owned::{Manager, managers, owners};
use breakglass::record::as_recorded;
use breakglass::seal::Key;
use breakglass::stamp;
use breakglass::write::Object;
use chrono::{DateTime, TimeDelta, Utc};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;
use serde_json::value::to_raw_value;

use crate::cluster::Cluster;
use crate::said::said;
use crate::target;

/// How much the clocks of the webhook and of the API server may differ.
const SKEW: TimeDelta = TimeDelta::seconds(2);

/// An object as it is now.
#[derive(Debug)]
pub struct Sight {
    /// Its uid.
    pub uid: String,
    /// The object, or the part of it that was written to, as a record keeps it, and without what holds it for the change's sake.
    pub recorded: Value,
    /// The change that its stamp names.
    pub carried: Option<String>,
    /// Which object of an engine its marks name.
    pub owner: Option<Owner>,
    /// Whether somebody keeps the engine from it.
    pub is_held: bool,
    /// All of it, for its fields are found in it.
    whole: Value,
    managers: Vec<Manager>,
}

impl Sight {
    /// Whether an engine has applied this field since `then`, when somebody wrote to it, with the value that it has; of the whole
    /// object, whether an engine has applied any of it.
    ///
    /// Who writes another value takes a field from whoever has it, so an engine that has the very field has applied it since. When
    /// it did does not tell: Flux takes fields over from kubectl by a patch of managedFields, and where nothing else differs it
    /// writes no more (fluxcd/pkg ssa/manager_apply.go, `e2e::settling`). Of what is around a field the time is all there is.
    ///
    /// What a manager is called is the client's word, and for what somebody else called so has written there is a record.
    pub fn is_applied(&self, pointer: &str, then: DateTime<Utc>) -> bool {
        let is_engine =
            |manager: &&Manager| manager.subresource.is_none() && Engine::of_manager(&manager.name).is_some();
        let is_since = |manager: &Manager| manager.time.is_some_and(|time| time.instant() + SKEW >= then);
        if pointer.is_empty() {
            return self.managers.iter().filter(is_engine).any(is_since);
        }
        let mut engines = owners(&self.managers, &self.whole, pointer).into_iter().filter(is_engine);
        engines.any(|manager| manager.owned.claims(&self.whole, pointer) || is_since(manager))
    }
}

/// Looks at the object of a change; `None` where there is none.
///
/// # Errors
/// Where the API server does not say, for want of rights too.
pub async fn look(cluster: &Cluster, key: &Key, change: &BreakglassChange) -> Result<Option<Sight>> {
    let spec = &change.spec;
    let target = &spec.target;
    if target.name.is_empty() {
        return Ok(None);
    }
    let api = target::api(cluster.client(), target);
    let what = || format!("looking at {} {}", target.resource, target.name);
    let Some(object) = api.get_opt(&target.name).await.map_err(said).with_context(what)? else { return Ok(None) };
    let written = if spec.operation == Operation::Scale {
        match api.get_subresource("scale", &target.name).await {
            Ok(scale) => scale,
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(None),
            Err(error) => return Err(said(error)).with_context(what),
        }
    } else {
        object.clone()
    };
    let status = spec.subresource.as_deref() == Some("status");
    let Some(recorded) = recorded(cluster, key, (target.group(), &target.kind), (&written, status))? else {
        bail!("{} {} is nested too deep to be compared", target.resource, target.name);
    };
    let whole = serde_json::to_value(&object).with_context(what)?;
    let is_ours = hold::is_ours(change);
    Ok(Some(Sight {
        uid: object.uid().unwrap_or_default(),
        recorded: if is_ours { hold::without_hold(recorded) } else { recorded },
        carried: object.annotations().get(stamp::CHANGE).cloned(),
        owner: Owner::of(object.labels(), object.annotations()),
        is_held: hold::is_held(object.annotations()),
        managers: managers(&whole),
        whole,
    }))
}

fn recorded(
    cluster: &Cluster,
    key: &Key,
    kind: (&str, &str),
    (object, status): (&DynamicObject, bool),
) -> Result<Option<Value>> {
    let raw = to_raw_value(object).context("reading the object")?;
    Ok(as_recorded(&Object::new(&raw), kind, (&cluster.rules(), key), status))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_engine_that_has_the_very_field_has_applied_it() {
        let entry = |manager: &str, time: &str, fields: Value| json!({"manager": manager, "operation": "Apply", "time": time, "fieldsV1": fields});
        let flux = json!({"f:spec": {"f:image": {}, "f:strategy": {}, "f:resources": {}}});
        let kubectl = json!({"f:spec": {"f:paused": {}, "f:resources": {"f:cpu": {}}}});
        let [early, late] = ["2026-11-20T10:00:00Z", "2026-11-20T12:00:00Z"];
        let sight = |applied: &str| {
            let whole = json!({"metadata": {"managedFields": [entry("kustomize-controller", applied, flux.clone()),
                entry("kubectl-edit", late, kubectl.clone())]},
                "spec": {"image": "b", "strategy": {"type": "x"}, "paused": true, "resources": {"cpu": 1, "memory": 2}}});
            let (uid, recorded, managers) = (String::new(), Value::Null, managers(&whole));
            Sight { uid, recorded, carried: None, owner: None, is_held: false, whole, managers }
        };
        let then = "2026-11-20T11:00:00Z".parse().unwrap();
        for (pointer, before, since) in [
            ("/spec/image", true, true),
            ("/spec/strategy", true, true),
            // Around it.
            ("/spec/strategy/type", false, true),
            ("/spec/resources/memory", false, true),
            ("/spec/resources/cpu", false, false),
            ("/spec/paused", false, false),
            ("/spec/nothing", false, false),
            ("", false, true),
        ] {
            let found = [early, late].map(|applied| sight(applied).is_applied(pointer, then));
            assert_eq!(found, [before, since], "{pointer}");
        }
    }
}
