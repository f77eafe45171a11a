//! How long an edit takes in a repository of three hundred kustomizations. The number is told, not asserted.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use kubectl_breakglass::source::tree::Tree;
use kubectl_breakglass::source::{Entry, ObjectId, Wanted, edit};
use serde_json::{Value, json};

use crate::case::Folder;

/// Kustomizations, a third of them bases.
const MANY: usize = 300;

fn write(root: &Path, path: &str, text: &str) {
    let whole = root.join(path);
    fs::create_dir_all(whole.parent().unwrap()).unwrap();
    fs::write(whole, text).unwrap();
}

/// An application in two environments, on a base of its own.
fn application(root: &Path, name: &str) {
    let deployment = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\nspec:\n  replicas: 1\n  selector:\n    matchLabels: {{app: {name}}}\n  \
         template:\n    metadata:\n      labels: {{app: {name}}}\n    spec:\n      containers:\n      - name: main\n        image: example.com/{name}:1\n"
    );
    write(root, &format!("apps/{name}/base/deployment.yaml"), &deployment);
    write(root, &format!("apps/{name}/base/kustomization.yaml"), "resources:\n- deployment.yaml\n");
    for environment in ["prod", "staging"] {
        let text = format!("namespace: {environment}\nresources:\n- ../base\n");
        write(root, &format!("apps/{name}/{environment}/kustomization.yaml"), &text);
    }
}

#[test]
fn an_edit_among_three_hundred_kustomizations() {
    let folder = Folder::new();
    let names: Vec<String> = (0..MANY / 3).map(|at| format!("app{at:03}")).collect();
    names.iter().for_each(|name| application(folder.path(), name));
    let listed: String = names.iter().map(|name| format!("- ../../apps/{name}/prod\n")).collect();
    write(folder.path(), "clusters/prod/kustomization.yaml", &format!("resources:\n{listed}"));
    let id = |name: &str| ObjectId {
        group: "apps".to_owned(),
        kind: "Deployment".to_owned(),
        namespace: Some("prod".to_owned()),
        name: name.to_owned(),
    };
    let object = |replicas: i64, image: &str| -> Value {
        json!({"spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "main", "image": image}]}}}})
    };
    let wanted = |name: &str| Wanted {
        object: id(name),
        before: Some(object(1, &format!("example.com/{name}:1"))),
        after: Some(object(5, &format!("example.com/{name}:2"))),
        path: None,
    };
    for (entry, names) in [("clusters/prod", vec!["app007", "app042"]), ("apps/app007/prod", vec!["app007"])] {
        let started = Instant::now();
        let tree = Tree::open(folder.path()).unwrap();
        let entry = Entry { path: PathBuf::from(entry), spec: Value::Null };
        let wanted: Vec<Wanted> = names.iter().map(|name| wanted(name)).collect();
        let made = edit(&tree, &entry, &wanted, &crate::kubectl()).unwrap();
        assert_eq!(made.proof.rendered.len() + made.proof.spared, MANY + 1);
        eprintln!(
            "{} kustomizations, from {}: {:?}, {} rendered, {} files edited",
            MANY + 1,
            entry.path.display(),
            started.elapsed(),
            made.proof.rendered.len(),
            made.files.len()
        );
    }
}
