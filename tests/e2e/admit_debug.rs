//! What is done to a running Pod below its spec: ephemeral containers and resizing.

use serde_json::{Value, json};
use tests::record::{after, stamp, without_noise};
use tests::{Cluster, Output, wait_until};

use crate::{LIMIT, check_refused};

/// L-08: a debug container and a resize are refused in prod without a token. Under one they are on the record and in the
/// audit log; the Pod itself carries no stamp of it, since these two cannot write its metadata.
#[test]
fn a_debug_container_and_a_resize_are_refused_and_recorded() {
    let cluster = Cluster::shared();
    let namespace = "prod-debug";
    cluster.namespace(namespace);
    cluster.grant("alice@example.com", namespace, &[("", "pods/ephemeralcontainers"), ("", "pods/resize")]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api"}, "spec": {"containers": [
        {"name": "api", "image": "registry.example.com/api:1", "resources": {"requests": {"cpu": "100m"}}}]}});
    let flux = cluster.kubectl("flux").namespace(namespace);
    wait_until("the service account of Pods", LIMIT, || {
        flux.try_ok(&["create", "-f", "-"], &pod.to_string()).map(drop).map_err(|error| format!("{error:#}"))
    })
    .unwrap();
    let alice = cluster.kubectl("alice").namespace(namespace);
    let get = || alice.json(&["get", "pod", "api"]);
    let debug = || alice.run(&["debug", "api", "--image=registry.example.com/debug:1", "--container=debug"]);
    let resources = r#"{"spec": {"containers": [{"name": "api", "resources": {"requests": {"cpu": "200m"}}}]}}"#;
    let resize = || alice.run(&["patch", "pod", "api", "--subresource=resize", "-p", resources]);
    let writes: [(&str, &dyn Fn() -> Output); 2] = [("ephemeralcontainers", &debug), ("resize", &resize)];

    let first = get();
    for (subresource, write) in writes {
        check_refused(&write(), &format!("pods/{subresource} \"api\" (update) by alice@example.com"), "-n prod-debug");
        assert_eq!(get(), first, "{subresource}");
    }
    let token = cluster.open("alice", "INC-491", namespace);
    for (subresource, write) in writes {
        let before = get();
        let ran = write();
        assert_eq!(ran.status, 0, "{subresource}: {ran}");
        let changes = cluster.changes("INC-491");
        let here = changes.iter().filter(|change| change["spec"]["subresource"] == subresource).collect::<Vec<_>>();
        let [change] = here[..] else { panic!("{subresource}: {changes:#?}") };
        let name = change["metadata"]["name"].as_str().unwrap();
        assert!(
            ran.stderr.contains(&format!("INC-491: let in under {token} (60m left), recorded as {name}.")),
            "{ran}"
        );

        let pod = get();
        assert_ne!(pod["spec"], before["spec"]);
        assert_eq!(change["spec"]["before"], without_noise(&before), "{subresource}");
        assert_eq!(after(change), without_noise(&pod), "{subresource}");
        assert!(stamp(&pod).is_empty(), "{subresource}: {pod:#}");
        let target = &change["spec"]["target"];
        assert_eq!((&target["kind"], &target["name"]), (&json!("Pod"), &json!("api")));
        assert_eq!(
            (&change["spec"]["operation"], &change["spec"]["user"]),
            (&json!("Update"), &json!("alice@example.com"))
        );

        let event = cluster.audited("alice@example.com", |event| {
            let object = &event["objectRef"];
            object["namespace"] == namespace
                && object["subresource"] == subresource
                && event["responseStatus"]["code"] == 200
        });
        let uid = cluster.kubectl("admin").json(&["get", "breakglasstokens", &token])["metadata"]["uid"].clone();
        let said = |key: &str| event["annotations"][format!("gate.breakglass.dev/{key}")].clone();
        let expected = [json!("INC-491"), json!(format!("{token} {}", uid.as_str().unwrap())), json!(name)];
        assert_eq!(["incident", "token", "change"].map(said), expected, "{event:#}");
    }
    assert_eq!(cluster.changes("INC-491").len(), 2);

    // A stamp that is there already stays what it is: it says of the Pod itself who wrote that last.
    alice.ok(&["annotate", "pod", "api", "note=mine"]);
    let stamped = stamp(&get());
    let again: Value = serde_json::from_str(&resources.replace("200m", "300m")).unwrap();
    alice.ok(&["patch", "pod", "api", "--subresource=resize", "-p", &again.to_string()]);
    assert_eq!(stamp(&get()), stamped);
}
