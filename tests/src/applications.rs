//! A repository with many kustomizations: applications in two environments, each on a base of its own, and all of prod at once.

use kubectl_breakglass::source::{ObjectId, Wanted};
use serde_json::{Value, json};

/// The directory that renders prod's part of every application.
pub const ALL_OF_PROD: &str = "clusters/prod";

/// The path and the text of each file, for so many applications: three kustomizations of each, and the one of all of prod.
pub fn files(count: usize) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = (0..count).flat_map(|number| application(&name(number))).collect();
    let listed: String = (0..count).map(|number| format!("- ../../{}\n", prod(number))).collect();
    files.push((format!("{ALL_OF_PROD}/kustomization.yaml"), format!("resources:\n{listed}")));
    files
}

/// The directory that renders prod's part of one application.
pub fn prod(number: usize) -> String {
    format!("apps/{}/prod", name(number))
}

/// What a hotfix made of one in prod: more replicas of another image.
pub fn hotfix(number: usize) -> Wanted {
    let name = name(number);
    let object = |replicas: usize, tag: usize| -> Value {
        let container = json!({"name": "main", "image": format!("example.com/{name}:{tag}")});
        json!({"spec": {"replicas": replicas, "template": {"spec": {"containers": [container]}}}})
    };
    let (before, after) = (Some(object(1, 1)), Some(object(5, 2)));
    let (group, kind, namespace) = ("apps".to_owned(), "Deployment".to_owned(), Some("prod".to_owned()));
    Wanted { object: ObjectId { group, kind, namespace, name }, before, after, path: None }
}

fn name(number: usize) -> String {
    format!("app{number:03}")
}

fn application(name: &str) -> Vec<(String, String)> {
    let deployment = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\nspec:\n  replicas: 1\n  selector:\n    matchLabels: {{app: {name}}}\n  \
         template:\n    metadata:\n      labels: {{app: {name}}}\n    spec:\n      containers:\n      - name: main\n        image: example.com/{name}:1\n"
    );
    let overlay = |environment: &str| {
        let text = format!("namespace: {environment}\nresources:\n- ../base\n");
        (format!("apps/{name}/{environment}/kustomization.yaml"), text)
    };
    vec![
        (format!("apps/{name}/base/deployment.yaml"), deployment),
        (format!("apps/{name}/base/kustomization.yaml"), "resources:\n- deployment.yaml\n".to_owned()),
        overlay("prod"),
        overlay("staging"),
    ]
}
