//! AdmissionReviews of a size, as kube-apiserver 1.36 writes them: with managed fields, credentials and both objects.

use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::load::{Call, Calls};

/// Stands where each call has another number, so that no two writers are the same.
const NUMBER: &str = "00000000";

/// A person without a token; another one with every call.
const ANYBODY: &str = "user-00000000@example.com";

/// Who writes where, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// alice in dev: stamped.
    Dev,
    /// Flux in prod: let through.
    Engine,
    /// Somebody without a token in prod: refused.
    Stranger,
    /// alice in prod, who has a token: let in. A dry run, which leaves no record, of a delete, which carries no stamp.
    Holder,
}

/// The update of an object, as a review of at least `size` bytes.
pub fn update(scene: Scene, size: usize) -> Vec<u8> {
    let mut lines = 0;
    loop {
        let bytes = review(scene, lines).into_bytes();
        if bytes.len() >= size {
            return bytes;
        }
        // Both objects carry every line.
        lines += 1 + (size - bytes.len()) / (2 * line(0).len() + 24);
    }
}

/// In the order in which the API server writes fields: the uid first, the objects near the end.
fn review(scene: Scene, lines: usize) -> String {
    let namespace = if scene == Scene::Dev { "dev" } else { "prod" };
    let (old, new) = (written(namespace, "7", lines), written(namespace, "8", lines));
    let kinds = r#""kind":{"group":"","version":"v1","kind":"ConfigMap"},"resource":{"group":"","version":"v1","resource":"configmaps"},"requestKind":{"group":"","version":"v1","kind":"ConfigMap"},"requestResource":{"group":"","version":"v1","resource":"configmaps"}"#;
    let options = r#"{"kind":"UpdateOptions","apiVersion":"meta.k8s.io/v1","fieldManager":"kubectl-edit","fieldValidation":"Strict"}"#;
    let (user, dry_run) = (user(scene), scene == Scene::Holder);
    let (operation, new) = if dry_run { ("DELETE", "null") } else { ("UPDATE", new.as_str()) };
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"8ebf3bb5-816f-45fb-9e39-266ab4e3b784",{kinds},"name":"settings","namespace":"{namespace}","operation":"{operation}","userInfo":{user},"object":{new},"oldObject":{old},"dryRun":{dry_run},"options":{options}}}}}"#
    )
}

/// A ConfigMap in the same order.
fn written(namespace: &str, version: &str, lines: usize) -> String {
    let object = config_map(namespace, version, lines);
    let (metadata, data) = (&object["metadata"], &object["data"]);
    format!(r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{metadata},"data":{data}}}"#)
}

fn user(scene: Scene) -> Value {
    let person = |name: &str| {
        json!({"username": name, "groups": ["developers", "system:authenticated"], "extra": {
            "authentication.kubernetes.io/credential-id":
                ["X509SHA256=70850fd0aedd0fac73d479e6f416ad1fdefb97ec36e28ea8535be42f40c12509"]}})
    };
    match scene {
        Scene::Dev | Scene::Holder => person("alice@example.com"),
        Scene::Stranger => person(ANYBODY),
        Scene::Engine => json!({
            "username": "system:serviceaccount:flux-system:kustomize-controller",
            "uid": "1d1d7a31-8b3e-4a53-9d31-5f0e3a1f0c11",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:flux-system", "system:authenticated"],
            "extra": {
                "authentication.kubernetes.io/credential-id": ["JTI=6f0de1c1-53a3-4f3f-8f0a-77c2a1cf2b13"],
                "authentication.kubernetes.io/pod-name": ["kustomize-controller-6d4b75dd9b-x2v5k"],
                "authentication.kubernetes.io/pod-uid": ["0a3c11f6-30c5-4c55-9a1e-d42f7f6c8f54"]}}),
    }
}

/// A ConfigMap of so many lines; `version` is all that differs between two of them.
pub fn config_map(namespace: &str, version: &str, lines: usize) -> Value {
    let text: String = (0..lines).map(line).collect();
    json!({"kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {
            "name": "settings", "namespace": namespace, "uid": "8289878c-ff62-4335-9d32-022c8d94e961",
            "resourceVersion": "534", "creationTimestamp": "2026-11-21T04:16:59Z", "labels": {"app": "api"},
            "managedFields": [{"manager": "kubectl-edit", "operation": "Update", "apiVersion": "v1",
                "time": "2026-11-21T04:16:59Z", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:data": {".": {}, "f:application.conf": {}, "f:version": {}},
                             "f:metadata": {"f:labels": {".": {}, "f:app": {}}}}}]},
        "data": {"application.conf": text, "version": version}})
}

fn line(number: usize) -> String {
    format!("upstream.{number:05}.address = \"10.0.{}.{}:8080\"  # moved\n", number / 250 % 250, number % 250)
}

/// Calls of `path` with this review, each by another user where the review is anybody's.
pub fn calls(path: &str, review: Vec<u8>) -> Calls {
    let user = ANYBODY.as_bytes();
    let at = review.windows(user.len()).position(|window| window == user);
    let call = Call::post(path, Bytes::from(review));
    let Some(at) = at else { return crate::load::same(call) };
    let at = at + ANYBODY.find(NUMBER).unwrap_or_default();
    std::sync::Arc::new(move |number| {
        let mut body = call.body.to_vec();
        // Users of this run: those of the last one are remembered, and share an answer.
        let number = format!("{:08}", (number + usize::try_from(std::process::id()).unwrap_or_default()) % 100_000_000);
        body[at..at + NUMBER.len()].copy_from_slice(number.as_bytes());
        Call { body: body.into(), ..call.clone() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_is_as_large_as_asked_for_and_not_much_larger() {
        for size in [2_000, 20_000, 200_000] {
            let bytes = update(Scene::Dev, size);
            assert!((size..size + 400).contains(&bytes.len()), "{size}: {}", bytes.len());
        }
    }

    #[test]
    fn every_call_of_a_stranger_is_another_ones() {
        let calls = calls("/gate", update(Scene::Stranger, 2_000));
        assert_ne!(calls(1).body, calls(2).body);
        assert_eq!(calls(1).body.len(), calls(2).body.len());
    }
}
