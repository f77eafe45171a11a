//! Many writers on one object at once: the API server tries again where they collide, and each write is still one change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Child;

use serde_json::{Value, json};
use tests::http::MERGE;
use tests::record::{after, change_of, config_map, without_noise};
use tests::{Cluster, Http, Kubectl, wait_until};

use crate::LIMIT;

/// How many write at once.
const WRITERS: usize = 100;

/// A hundred writes to one ConfigMap under one token: all are answered; of those that landed each is one change, and the
/// stamp is the last one's. What the API server tried and lost leaves nothing that looks as if it had landed.
#[test]
fn a_hundred_writers_under_one_token_leave_a_change_each() {
    // Its own: thousands of reviews would keep everybody else waiting.
    let cluster = Cluster::own("storm");
    cluster.namespace("prod-storm");
    cluster.kubectl("flux").ok_with_input(&["-n", "prod-storm", "create", "-f", "-"], &config_map("settings", "calm"));
    cluster.open("alice", "INC-496", "prod-storm");
    let kubectl = cluster.kubectl("alice").namespace("prod-storm");
    let history = History::of(&kubectl, &cluster.directory().join("storm.json"));

    let path = "/api/v1/namespaces/prod-storm/configmaps/settings";
    let value = |writer: usize| format!("writer-{writer}");
    let patches: Vec<_> =
        (0..WRITERS).map(|writer| (path.to_owned(), MERGE, json!({"data": {"key": value(writer)}}))).collect();
    let mut succeeded = BTreeSet::new();
    let mut failed = BTreeMap::new();
    for (writer, answer) in Http::new(&kubectl, "storm/1").patch_at_once(&patches).into_iter().enumerate() {
        match answer {
            Ok(object) => {
                assert_eq!(object["data"]["key"], value(writer));
                assert!(succeeded.insert(landed(&object)));
            }
            Err(kube::Error::Api(status)) => *failed.entry((status.code, status.message.clone())).or_insert(0) += 1,
            Err(error) => panic!("writer {writer} was not answered: {error}"),
        }
    }
    // On a slow machine the API server gives up after half a minute of collisions, wherever it is then.
    let collided = |(code, message): &(u16, String)| {
        [403, 409, 429, 504].contains(code) || message.ends_with("context deadline exceeded")
    };
    assert!(failed.keys().all(collided) && !succeeded.is_empty(), "{failed:#?}");

    let object = kubectl.json(&["get", "configmap", "settings"]);
    let versions = wait_until("the last version to be seen", LIMIT, || {
        let versions = history.versions();
        let last = versions.last().map(|version| version["metadata"]["resourceVersion"].clone());
        if last.as_ref() == Some(&object["metadata"]["resourceVersion"]) {
            Ok(versions)
        } else {
            Err(format!("{last:?}"))
        }
    })
    .unwrap();
    // The first is how it was before.
    let stored: BTreeSet<(String, String)> = versions[1..].iter().map(landed).collect();
    assert_eq!(stored.len(), versions.len() - 1, "no two versions are of one write");
    assert!(stored.is_superset(&succeeded), "what succeeded was stored");
    let values: BTreeSet<&String> = stored.iter().map(|(_, value)| value).collect();
    assert_eq!(values.len(), stored.len(), "each value was stored once");

    let kept = wait_until("the records to say what landed", LIMIT, || {
        let changes = cluster.changes("INC-496");
        let all = changes.len();
        let never = |change: &Value| change["status"]["outcome"] == "NeverLanded";
        let kept: Vec<Value> = changes.into_iter().filter(|change| !never(change)).collect();
        let open =
            kept.iter().filter(|change| !matches!(change["status"]["phase"].as_str(), Some("Pending" | "Settled")));
        let (open, landed) = (open.count(), stored.len());
        let said = format!("{landed} landed; of {all} records {} do not say never, {open} do not know yet", kept.len());
        if kept.len() == landed && open == 0 { Ok(kept) } else { Err(said) }
    })
    .unwrap();
    let recorded: BTreeSet<(String, String)> =
        kept.iter().map(|change| (text(&change["metadata"]["name"]), text(&after(change)["data"]["key"]))).collect();
    assert_eq!(recorded, stored);
    assert_eq!(after(&cluster.change(&change_of(&object))), without_noise(&object), "the stamp is the last writer's");
}

/// What a version of the object says of the write that made it: its change, and what it wrote.
fn landed(object: &Value) -> (String, String) {
    (change_of(object), text(&object["data"]["key"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Every version of the ConfigMap, as the API server tells those who watch it.
struct History {
    watch: Child,
    file: PathBuf,
}

impl History {
    fn of(kubectl: &Kubectl, file: &Path) -> Self {
        let out = File::create(file).unwrap();
        let watch =
            kubectl.command(&["get", "configmap", "settings", "--watch", "-o", "json"]).stdout(out).spawn().unwrap();
        let history = Self { watch, file: file.to_owned() };
        wait_until("the watch to begin", LIMIT, || {
            if history.versions().is_empty() { Err("nothing") } else { Ok(()) }.map_err(str::to_owned)
        })
        .unwrap();
        history
    }

    fn versions(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.file).unwrap();
        // The last may be half written.
        serde_json::Deserializer::from_str(&text).into_iter().map_while(Result::ok).collect()
    }
}

impl Drop for History {
    fn drop(&mut self) {
        let _ = self.watch.kill();
        let _ = self.watch.wait();
    }
}
