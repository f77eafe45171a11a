//! W-9: a write that changes nothing changes nothing: as many revisions in etcd as without a webhook.

use anyhow::Result;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::load::{Call, Calls, Load, same};
use crate::scene::Scene;

/// How often the same is applied.
const COUNT: usize = 1_000;

/// How many of these are under way at once.
const CONNECTIONS: usize = 4;

/// Measures it.
///
/// # Errors
/// When a cluster does not start, or a write is refused.
pub fn idempotence(bench: &mut Bench) -> Result<()> {
    let mut lines = Vec::new();
    let (ours, bare) = bench.both()?;
    ours.open_token()?;
    for namespace in ["dev", "prod"] {
        let without = applied(bare, namespace)?;
        for (way, with, without) in
            applied(ours, namespace)?.into_iter().zip(without).map(|((way, with), (_, without))| (way, with, without))
        {
            lines.push((format!("{namespace}, {way}"), with, without));
        }
    }
    for (what, with, without) in lines {
        let what = format!("revisions of an object in etcd, {what}: ours / none");
        bench.report.goal(what, format!("{with} / {without}"), "equal", with == without);
    }
    Ok(())
}

/// How many versions of an object each way of applying it made.
fn applied(scene: &Scene, namespace: &str) -> Result<Vec<(String, u64)>> {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/same");
    let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "same", "namespace": namespace},
        "data": {"a": "1", "b": "2"}});
    let call = |method, query: &str, media_type, body: &Value| Call {
        method,
        media_type,
        ..Call::post(&format!("{path}{query}"), body.to_string())
    };
    let apply = call("PATCH", "?fieldManager=bench", "application/apply-patch+yaml", &manifest);
    let mut load = Load::new(&scene.runtime, &scene.person("alice")?, CONNECTIONS);
    let mut send = |calls: &Calls, count| -> Result<()> {
        load.closed(count, calls).all(namespace, |answer| matches!(answer.status, 200 | 201)).map(drop)
    };
    // The first one makes it, and stamps it. In a cluster that settles the stamp is then followed for a moment.
    send(&same(apply.clone()), 1)?;
    let stored = scene.cluster.kubectl("alice").json(&["-n", namespace, "get", "configmap", "same"]);
    let mut whole = stored.clone();
    if let Some(metadata) = whole["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    let merge = "application/strategic-merge-patch+json";
    let ways = [
        ("applied by the server", apply),
        ("applied by the client", call("PATCH", "", merge, &json!({"data": {"a": "1", "b": "2"}}))),
        ("put as it was read", call("PUT", "", "application/json", &stored)),
        ("put without a version", call("PUT", "", "application/json", &whole)),
        ("put from the manifest", call("PUT", "", "application/json", &manifest)),
    ];
    let key = format!("/registry/configmaps/{namespace}/same");
    let mut made = Vec::new();
    for (way, call) in ways {
        // Once outside of the count: another way is another field manager.
        if call.body != stored.to_string().as_bytes() {
            send(&same(call.clone()), 1)?;
        }
        let before = scene.etcd.versions(&key)?;
        send(&same(call), COUNT)?;
        made.push((format!("{COUNT} x {way}"), scene.etcd.versions(&key)? - before));
    }
    if namespace == "dev" {
        let before = scene.etcd.versions(&key)?;
        let changing: Calls = {
            let call = call("PATCH", "", merge, &Value::Null);
            std::sync::Arc::new(move |number| Call {
                body: json!({"data": {"a": format!("x{number}")}}).to_string().into(),
                ..call.clone()
            })
        };
        send(&changing, 100)?;
        made.push(("100 changes".to_owned(), scene.etcd.versions(&key)? - before));
    }
    Ok(made)
}
