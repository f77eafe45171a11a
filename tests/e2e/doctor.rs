//! `kubectl breakglass doctor`: a cluster that is as it should be has no problem, and each fault that is seeded is found.

use kubectl_breakglass::rbac::{Listed, Named, Place, Rbac, Right, Subject};
use serde_json::{Value, json};
use tests::record::{config_map, stamp};
use tests::users::wait_until_may;
use tests::{Cluster, wait_until};

use crate::{LIMIT, check_refused};

const FLUX: &str = "system:serviceaccount:flux-system:kustomize-controller";
const HELM: &str = "system:serviceaccount:flux-system:helm-controller";

/// S-09, S-15: who can obtain an exempt identity is listed with the way and the binding, an API of another server is
/// reported as not covered, and a registration that somebody took away or edited is noticed.
#[test]
fn each_fault_that_is_seeded_is_found() {
    let cluster = Cluster::own("doctor");
    a_healthy_cluster_has_no_problem(&cluster);
    who_sees_only_a_part_is_told_so(&cluster);
    who_can_obtain_an_engine_is_listed(&cluster);
    what_is_listed_is_true(&cluster);
    what_to_do_about_it_can_be_typed(&cluster);
    an_api_of_another_server_is_not_covered(&cluster);
    a_registration_that_is_not_as_it_should_be_is_noticed(&cluster);
    rules_are_read_as_the_api_server_reads_them(&cluster);
}

/// The checks of this file. What has to run for the others is a process on this machine here, and no pod: they have a
/// cluster with nodes in `doctor_faults`.
const CHECKS: [&str; 3] = ["registration", "access", "unseen"];

/// What these checks find, and whether there is a problem among it.
#[track_caller]
fn doctor(cluster: &Cluster) -> (bool, Vec<Value>) {
    let ran = cluster.plugin("admin").run(&["doctor", "-o", "json"]);
    assert_eq!(ran.stderr, "", "{ran}");
    let document: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"));
    let mut findings = document["findings"].as_array().unwrap().clone();
    let is_problem = |finding: &&Value| finding["level"] == "problem";
    let problems = findings.iter().filter(is_problem).count();
    assert_eq!(document["problems"], problems, "{document:#}");
    assert_eq!(ran.status, if problems == 0 { 0 } else { 3 }, "{ran}");
    findings.retain(|finding| CHECKS.iter().any(|check| finding["check"] == *check));
    (findings.iter().any(|finding| is_problem(&finding)), findings)
}

/// The problems alone.
#[track_caller]
fn problems(cluster: &Cluster) -> Vec<Value> {
    doctor(cluster).1.into_iter().filter(|finding| finding["level"] == "problem").collect()
}

/// What is said at this level by this check.
fn said<'f>(findings: &'f [Value], check: &str, level: &str) -> Vec<&'f str> {
    let of = |finding: &&Value| finding["check"] == check && finding["level"] == level;
    findings.iter().filter(of).filter_map(|finding| finding["message"].as_str()).collect()
}

fn a_healthy_cluster_has_no_problem(cluster: &Cluster) {
    let (ill, findings) = doctor(cluster);
    assert!(!ill, "{findings:#?}");
    let [registered] = said(&findings, "registration", "ok")[..] else { panic!("{findings:#?}") };
    assert!(registered.starts_with("both configurations are there, and all "), "{registered}");
    let [nobody] = said(&findings, "access", "ok")[..] else { panic!("{findings:#?}") };
    let start = "by RBAC, in one step, nobody else can obtain flux, argocd, webhook, override, controllers, \
                 cloud-controller-manager, components, nodes than the ";
    assert!(nobody.starts_with(start), "{nobody}");
    assert_eq!(said(&findings, "unseen", "ok"), ["every API is served by the API server itself"]);
    let unseen = said(&findings, "unseen", "note");
    let words: Vec<&str> = unseen.iter().filter_map(|note| note.split(':').next()).collect();
    assert_eq!(words, ["reads", "static pods", "kubelets", "etcd"]);

    let table = cluster.plugin("admin").run(&["doctor"]);
    let header: Vec<&str> = table.stdout.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(header, ["LEVEL", "CHECK", "FINDING"], "{table}");
    assert!(cluster.plugin("admin").run(&["doctor", "-o", "yaml"]).stdout.starts_with("problems: "));
}

/// alice may not read roles, and is not told that nobody can do anything.
fn who_sees_only_a_part_is_told_so(cluster: &Cluster) {
    let ran = cluster.plugin("alice").run(&["doctor"]);
    assert_eq!(ran.status, 1, "{ran}");
    for kind in ["ClusterRoles", "Roles", "ClusterRoleBindings", "RoleBindings", "APIServices"] {
        assert!(ran.stderr.contains(&format!("warning: asking for the {kind} is forbidden: ")), "{kind}: {ran}");
    }
    assert!(ran.stderr.ends_with("There is no problem in what you may look at, which is not all.\n"), "{ran}");
    let says_ok = |line: &str| line.starts_with("ok") && CHECKS.iter().any(|check| line.contains(check));
    assert!(!ran.stdout.lines().any(says_ok), "{ran}");
}

/// Binds somebody to rights of their own, everywhere or in a namespace.
fn bind(cluster: &Cluster, name: &str, namespace: Option<&str>, subject: Value, rules: Value) {
    let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
    let object = |kind: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace}})
    };
    let (mut role, mut binding) = (object(kind), object(&format!("{kind}Binding")));
    role["rules"] = rules;
    binding["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
    binding["subjects"] = json!([subject]);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [role, binding]});
    cluster.set_scene(&["apply", "-f", "-"], &list.to_string());
}

fn user(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name})
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

fn who_can_obtain_an_engine_is_listed(cluster: &Cluster) {
    let (alice, bob) = (user("alice@example.com"), user("bob@example.com"));
    let mut name = rule("", &["serviceaccounts"], &["impersonate"]);
    name["resourceNames"] = json!(["kustomize-controller"]);
    let proof = ["uids", "userextras/authentication.kubernetes.io/pod-name"];
    let proof = rule("authentication.k8s.io", &proof, &["impersonate"]);
    bind(cluster, "act-as-flux", None, bob.clone(), json!([name, proof]));
    let mint = json!([rule("", &["serviceaccounts/token"], &["create"])]);
    bind(cluster, "mint", Some("flux-system"), alice.clone(), mint);
    let workloads = json!([rule("", &["pods"], &["create"]), rule("apps", &["deployments"], &["create", "patch"])]);
    bind(cluster, "deploy", Some("flux-system"), bob, workloads);
    let everything = json!([rule("*", &["*"], &["*"])]);
    bind(
        cluster,
        "operator",
        None,
        json!({"kind": "ServiceAccount", "namespace": "dev", "name": "operator"}),
        everything,
    );

    let found: Vec<Value> = problems(cluster);
    let found: Vec<Value> = found
        .iter()
        .map(|problem| {
            let bindings: Vec<&Value> = problem["through"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|through| &through["binding"]["name"])
                .collect();
            json!([problem["subject"]["name"], problem["ways"], problem["identities"], bindings])
        })
        .collect();
    // Those who keep what Flux applies from are Flux as well.
    let keepers = [
        "source-controller",
        "source-watcher",
        "notification-controller",
        "image-reflector-controller",
        "image-automation-controller",
    ]
    .map(|name| format!("system:serviceaccount:flux-system:{name}"));
    let family: Vec<String> = [FLUX, HELM].map(str::to_owned).into_iter().chain(keepers).collect();
    // alice and bob may edit dev, and so run what they like as the operator that lives there.
    let as_operator =
        |user: &str| json!([user, ["impersonate", "mintTokens", "runPods", "enterPods"], null, ["people-edit"]]);
    assert_eq!(
        found,
        [
            json!(["alice@example.com", ["mintTokens"], family, ["mint"]]),
            json!(["bob@example.com", ["impersonate", "runPods"], [FLUX], ["act-as-flux", "deploy"]]),
            json!(["bob@example.com", ["runPods"], family[1..], ["deploy"]]),
            as_operator("alice@example.com"),
            as_operator("bob@example.com"),
        ]
    );
    let (_, findings) = doctor(cluster);
    let admin = "service account dev/operator has every right, and so can be anybody: ClusterRoleBinding operator → \
                 ClusterRole operator";
    assert!(said(&findings, "access", "note").contains(&admin), "{findings:#?}");
    let bindings = cluster.plugin("admin").run(&["doctor", "-o", "name"]);
    let bindings: Vec<&str> = bindings.stdout.lines().filter(|line| line.contains("rolebinding.rbac")).collect();
    assert_eq!(
        bindings,
        [
            "clusterrolebinding.rbac.authorization.k8s.io/act-as-flux",
            "rolebinding.rbac.authorization.k8s.io/deploy",
            "rolebinding.rbac.authorization.k8s.io/mint",
            "rolebinding.rbac.authorization.k8s.io/people-edit",
        ]
    );
}

/// bob passes as Flux, and nobody passes without the proof that doctor asks for.
fn what_is_listed_is_true(cluster: &Cluster) {
    let account = ["impersonate", "serviceaccounts/kustomize-controller"];
    wait_until_may(&cluster.kubectl("bob"), account, "flux-system").unwrap();
    let bob = cluster.kubectl("bob").namespace("prod");
    let create = |name: &str, proof: &[&str]| {
        bob.run_with_input(&[&["create", "-f", "-", "--as", FLUX], proof].concat(), &config_map(name, "one"))
    };
    let subject = format!("configmaps \"by-name\" (create) by {FLUX}");
    check_refused(&create("by-name", &[]), &subject, "-n prod");
    let passed = create("by-proof", &["--as-uid=7", "--as-user-extra=authentication.kubernetes.io/pod-name=some-pod"]);
    assert_eq!((passed.status, passed.stderr.as_str()), (0, ""), "{passed}");
    let object = cluster.kubectl("alice").json(&["-n", "prod", "get", "configmap", "by-proof"]);
    assert!(stamp(&object).is_empty(), "{object:#}");
}

/// Every hint ends with a command, and with the binding goes the finding.
fn what_to_do_about_it_can_be_typed(cluster: &Cluster) {
    cluster.set_scene(&["delete", "clusterrolebinding", "operator"], "");
    for binding in ["act-as-flux", "deploy", "mint"] {
        let problems = problems(cluster);
        let hints = problems.iter().filter_map(|problem| problem["hints"].as_array()).flatten();
        let hint = hints.filter_map(Value::as_str).find(|hint| hint.ends_with(&format!(" {binding}"))).unwrap();
        let command = hint.strip_prefix("if nobody means this: kubectl ").unwrap();
        cluster.set_scene(&command.split(' ').collect::<Vec<_>>(), "");
    }
    assert!(!doctor(cluster).0);
}

fn an_api_of_another_server_is_not_covered(cluster: &Cluster) {
    let service = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.tickets.example.com"},
        "spec": {"group": "tickets.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"namespace": "dev", "name": "tickets"}}});
    cluster.set_scene(&["create", "-f", "-"], &service.to_string());
    let (ill, findings) = doctor(cluster);
    assert!(!ill, "{findings:#?}");
    let not_covered = "API v1.tickets.example.com is not covered: its writes go to another server, dev/tickets, which may ask \
                       no webhook about them";
    assert_eq!(said(&findings, "unseen", "note")[0], not_covered);
    assert!(said(&findings, "unseen", "ok").is_empty(), "{findings:#?}");
    cluster.set_scene(&["delete", "apiservice", "v1.tickets.example.com"], "");
}

/// While the webhook runs it repairs this within seconds; here it does not.
fn a_registration_that_is_not_as_it_should_be_is_noticed(cluster: &Cluster) {
    let admin = cluster.kubectl("admin");
    cluster.webhook().stop().unwrap();
    let kind = "validatingwebhookconfiguration";
    let gates = admin.json(&["get", kind, "breakglass"])["webhooks"].clone();
    let index = gates.as_array().unwrap().iter().position(|gate| gate["name"] == "gate.breakglass.dev").unwrap();
    let path = |field: &str| format!("/webhooks/{index}{field}");
    let of_gate = "the webhook gate.breakglass.dev of the validatingwebhookconfiguration breakglass";
    let missing =
        "the validatingwebhookconfiguration breakglass has no webhook gate.breakglass.dev: nothing is refused";
    for (field, op, value, expected) in [
        ("/failurePolicy", "replace", json!("Ignore"), format!("{of_gate} has not failurePolicy Fail: ")),
        (
            "/clientConfig/service/namespace",
            "replace",
            json!("dev"),
            format!("{of_gate} calls dev/breakglass-webhook, "),
        ),
        (
            "/timeoutSeconds",
            "replace",
            json!(1),
            format!("{of_gate} was edited: timeoutSeconds is 1, and the policy says 10"),
        ),
        (
            "/matchConditions/0/expression",
            "replace",
            json!("false"),
            format!("{of_gate} was edited: matchConditions[0].expression is false, and the policy says "),
        ),
        ("", "remove", Value::Null, missing.to_owned()),
    ] {
        let patch = json!([{"op": op, "path": path(field), "value": value}]);
        admin.ok(&["patch", kind, "breakglass", "--type=json", "-p", &patch.to_string()]);
        let problems = problems(cluster);
        let [problem] = &problems[..] else { panic!("{field}: {problems:#?}") };
        assert!(problem["message"].as_str().unwrap().starts_with(&expected), "{problem:#}");
        assert_eq!(problem["objects"], json!([format!("{kind}.admissionregistration.k8s.io/breakglass")]));
        if op == "replace" {
            let original = gates[index].pointer(field).unwrap();
            let patch = json!([{"op": op, "path": path(field), "value": original}]);
            admin.ok(&["patch", kind, "breakglass", "--type=json", "-p", &patch.to_string()]);
        }
    }
    for kind in [kind, "mutatingwebhookconfiguration"] {
        admin.ok(&["delete", kind, "breakglass"]);
    }
    let table = cluster.plugin("admin").run(&["doctor"]);
    assert_eq!(table.status, 3, "{table}");
    assert!(
        table.stdout.contains("\nproblem   registration   there is no validatingwebhookconfiguration breakglass: "),
        "{table}"
    );
    assert!(
        table.stderr.contains(
            "\nhint: the webhook repairs this within seconds; see why it does not: kubectl -n \
        breakglass-system get pods\n"
        ),
        "{table}"
    );
    assert_eq!(problems(cluster).len(), 2, "{table}");

    cluster.webhook().start().unwrap();
    wait_until("doctor to be content", LIMIT, || {
        let (ill, findings) = doctor(cluster);
        if ill { Err(format!("{findings:#?}")) } else { Ok(()) }
    })
    .unwrap();
}

/// Every rule against every right, by our reading and by the API server's.
fn rules_are_read_as_the_api_server_reads_them(cluster: &Cluster) {
    let named = |mut rule: Value, name: &str| {
        rule["resourceNames"] = json!([name]);
        rule
    };
    let pod_name = "userextras/authentication.kubernetes.io/pod-name";
    let rules = [
        rule("*", &["*"], &["*"]),
        rule("", &["*"], &["create"]),
        rule("*", &["*/token"], &["create"]),
        rule("", &["serviceaccounts"], &["create", "impersonate"]),
        named(rule("", &["serviceaccounts", "serviceaccounts/token"], &["*"]), "robot"),
        rule("authentication.k8s.io", &["uids", "userextras/*"], &["impersonate"]),
        rule("authentication.k8s.io", &["*/authentication.kubernetes.io/pod-name"], &["impersonate"]),
        named(rule("authentication.k8s.io", &[pod_name, "userextras"], &["*"]), "some-pod"),
        rule("certificates.k8s.io", &["signers"], &["approve"]),
        named(rule("certificates.k8s.io", &["signers"], &["approve"]), "kubernetes.io/*"),
        named(rule("", &["pods"], &["create"]), "one"),
        rule("apps", &["pods", "deployments"], &["create", "patch"]),
    ];
    let rights = [
        ("create", "", "pods", ""),
        ("create", "", "serviceaccounts/token", "robot"),
        ("create", "", "serviceaccounts/token", "another"),
        ("impersonate", "", "serviceaccounts", "robot"),
        ("impersonate", "authentication.k8s.io", "uids", "7"),
        ("impersonate", "authentication.k8s.io", pod_name, "some-pod"),
        ("impersonate", "authentication.k8s.io", pod_name, "another-pod"),
        ("impersonate", "authentication.k8s.io", "userextras/scopes", "some-pod"),
        ("approve", "certificates.k8s.io", "signers", "kubernetes.io/*"),
        ("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client"),
        ("patch", "apps", "deployments", "api"),
    ];
    let places = [None, Some("dev")];
    let mut listed = Listed::default();
    let mut reviews = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        for bound in places {
            let name = format!("reader-{index}{}", bound.unwrap_or_default());
            bind(cluster, &name, bound, user(&name), json!([rule]));
            for asked in places {
                for right in rights {
                    reviews.push((name.clone(), asked, right));
                }
            }
        }
    }
    fn read<T: serde::de::DeserializeOwned>(cluster: &Cluster, kind: &str) -> Vec<T> {
        serde_json::from_value(cluster.kubectl("admin").json(&["get", kind, "-A"])["items"].clone()).unwrap()
    }
    listed.cluster_roles = read(cluster, "clusterroles");
    listed.roles = read(cluster, "roles");
    listed.cluster_role_bindings = read(cluster, "clusterrolebindings");
    listed.role_bindings = read(cluster, "rolebindings");
    let rbac = Rbac::new(listed);

    let questions: String = reviews.iter().map(|(name, asked, right)| review(name, *asked, *right)).collect();
    let ours: Vec<bool> = reviews
        .iter()
        .map(|(name, asked, (verb, group, resource, object))| {
            let right = Right {
                verbs: &[verb],
                group,
                resource,
                named: if object.is_empty() { Named::New } else { Named::Is(object) },
                place: asked.map_or(Place::Cluster, Place::In),
            };
            rbac.of(&Subject::User { name: name.clone() }).right(right).is_some()
        })
        .collect();
    assert!(ours.contains(&true) && ours.contains(&false));
    // The API server reads roles through a cache: what was bound last is seen last.
    wait_until("the API server to read the rules as we do", LIMIT, || {
        let answers = cluster.kubectl("admin").ok_with_input(&["create", "-f", "-", "-o", "json"], &questions);
        let answers = serde_json::Deserializer::from_str(&answers).into_iter::<Value>();
        let theirs: Vec<bool> = answers.map(|answer| answer.unwrap()["status"]["allowed"] == true).collect();
        assert_eq!(theirs.len(), ours.len());
        match (0..ours.len()).find(|&index| ours[index] != theirs[index]) {
            None => Ok(()),
            Some(index) => Err(format!("{:?}: we say {}", reviews[index], ours[index])),
        }
    })
    .unwrap();
}

/// What `kubectl create` asks the API server about somebody's right.
fn review(user: &str, namespace: Option<&str>, (verb, group, resource, name): (&str, &str, &str, &str)) -> String {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let attributes = json!({"verb": verb, "group": group, "resource": resource, "subresource": subresource, "name": name,
        "namespace": namespace});
    json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes}})
    .to_string()
}
