//! A write that changes nothing leaves nothing: not a byte of the object, no version of it, no record.

use std::cell::Cell;

use serde_json::{Value, json};
use tests::audit::stamped;
use tests::http::{APPLY, JSON, MERGE, STRATEGIC};
use tests::record::{stamp, without_noise};
use tests::{Cluster, Http};

/// A ConfigMap in one namespace, and alice with a client that sends what it is told.
struct Target {
    alice: Http,
    namespace: &'static str,
    name: &'static str,
    writes: Cell<u32>,
}

impl Target {
    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/configmaps/{}", self.namespace, self.name)
    }

    /// The object, every byte of it.
    fn bytes(&self) -> String {
        Cluster::shared().kubectl("alice").ok(&["get", "--raw", &self.path()])
    }

    fn object(&self) -> Value {
        serde_json::from_str(&self.bytes()).unwrap()
    }

    /// Holds that this write (to the path that it is given) is let in and leaves nothing, and that we were asked and
    /// answered without a patch, unless our keys had to be put back.
    #[track_caller]
    fn check(&self, what: &str, put_back: bool, write: impl FnOnce(&Http, &str) -> kube::Result<Value>) {
        let before = self.bytes();
        self.send(what, put_back, write);
        assert_eq!(self.bytes(), before, "{} {}: {what}", self.namespace, self.name);
    }

    #[track_caller]
    fn send(&self, what: &str, put_back: bool, write: impl FnOnce(&Http, &str) -> kube::Result<Value>) {
        self.writes.set(self.writes.get() + 1);
        // Means nothing to the API server, and is found again in its audit log.
        let path = format!("{}?write={}", self.path(), self.writes.get());
        write(&self.alice, &path).unwrap_or_else(|error| panic!("{path}: {what}: {error}"));
        let is_it = |event: &Value| event["requestURI"].as_str().unwrap_or_default().split('&').next() == Some(&path);
        let event = Cluster::shared().audited("alice@example.com", is_it);
        assert_eq!(stamped(&event), [put_back], "{path}: {what}");
    }
}

/// What is in Git, say.
fn settings(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": "one"},
        "metadata": {"name": name, "labels": {"app": "web"}, "annotations": {"note": "a/b~c"}}})
}

/// L-03: whoever made the object, in prod and in dev, what alice writes identically in any way is not stored at all.
#[test]
fn an_identical_write_by_any_verb_stores_nothing() {
    let cluster = Cluster::shared();
    for (namespace, incident) in [("prod-identical", Some("INC-475")), ("dev-identical", None)] {
        cluster.namespace(namespace);
        if let Some(incident) = incident {
            cluster.open("alice", incident, namespace);
        }
        let makes = |person: &str, manager: &str, name: &str| {
            let field_manager = format!("--field-manager={manager}");
            let args = ["-n", namespace, "apply", "--server-side", &field_manager, "-f", "-"];
            cluster.kubectl(person).ok_with_input(&args, &settings(name).to_string());
        };
        makes("alice", "mine", "stamped");
        makes("flux", "kustomize-controller", "untouched");
        for name in ["stamped", "untouched"] {
            let alice = Http::new(&cluster.kubectl("alice"), "http/1");
            let target = Target { alice, namespace, name, writes: Cell::new(0) };
            assert_eq!(stamp(&target.object()).is_empty(), name == "untouched");
            let (live, bare) = (target.bytes(), settings(name).to_string());
            target.check("PUT", false, |alice, path| alice.send("PUT", path, &live));
            let put_back = name == "stamped";
            target.check("PUT of what is in Git", put_back, |alice, path| alice.send("PUT", path, &bare));
            for (media_type, patch) in [
                (MERGE, json!({"data": {"key": "one"}, "metadata": {"labels": {"app": "web"}}})),
                (MERGE, json!({})),
                (STRATEGIC, json!({"data": {"key": "one"}, "metadata": {"annotations": {"note": "a/b~c"}}})),
                (JSON, json!([{"op": "replace", "path": "/data/key", "value": "one"}])),
                (JSON, json!([{"op": "add", "path": "/data/x", "value": "y"}, {"op": "remove", "path": "/data/x"}])),
            ] {
                let what = format!("{media_type} {patch}");
                target.check(&what, false, |alice, path| alice.patch(media_type, path, &patch));
            }
            // The first makes another manager own what is there, which is remembered; the second changes nothing.
            let apply =
                |alice: &Http, path: &str| alice.patch(APPLY, &format!("{path}&fieldManager=second"), &settings(name));
            let before = target.object();
            target.send("the first apply", false, apply);
            assert_eq!(without_noise(&target.object()), without_noise(&before));
            target.check("server-side apply", false, apply);
        }
        assert_eq!(cluster.changes("INC-475").len(), 1, "only the create");
    }
}

/// L-03: kubectl apply of the same file, and of the same file again, in prod and in dev.
#[test]
fn applying_the_same_file_again_stores_nothing() {
    let cluster = Cluster::shared();
    for (namespace, guarded) in [("prod-reapplied", true), ("dev-reapplied", false)] {
        cluster.namespace(namespace);
        if guarded {
            cluster.open("alice", "INC-476", namespace);
        }
        let alice = cluster.kubectl("alice").namespace(namespace);
        let file = settings("applied").to_string();
        alice.ok_with_input(&["apply", "-f", "-"], &file);
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/applied");
        let before = alice.ok(&["get", "--raw", &path]);
        for _ in 0..2 {
            let said = alice.run_with_input(&["apply", "-f", "-"], &file);
            assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("configmap/applied unchanged\n", ""), "{said}");
            assert_eq!(alice.ok(&["get", "--raw", &path]), before);
        }
        assert_eq!(cluster.changes("INC-476").len(), 1, "only the create");
    }
}
