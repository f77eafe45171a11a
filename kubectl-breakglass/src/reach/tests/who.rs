//! Who is told, and who is not.

use super::*;

#[test]
fn who_has_every_right_or_can_take_it_is_told_once() {
    check_bob(&["* *:*"], "EveryRight");
    check(
        &[("user bob", "", &["get,list,watch,create,update,patch,delete *:*"])],
        &[
            "user bob: MintTokens+RunPods+EnterPods as flux (7), argocd (3), webhook (1), cloud-controller-manager (1)",
            "user bob: MintTokens+RunPods+EnterPods+ReadSecrets as operators (1)",
            "user bob: MintTokens as controllers (41)",
            "user bob: Join as nodes (1)",
        ],
    );
    check_bob(&["impersonate :groups,users"], "ActAsMasters");
    check_bob(&["* :*"], "ActAsMasters");
    check_bob(&["impersonate :groups=system:masters"], "");
    let rbac = |text: &str| text.replace(' ', " rbac.authorization.k8s.io:");
    let bindings = rbac("create clusterrolebindings");
    check_bob(&[&bindings, &rbac("bind clusterroles")], "BindRoles");
    check_bob(&[&bindings, &rbac("bind clusterroles=cluster-admin")], "BindRoles");
    check_bob(&[&rbac("patch clusterrolebindings=mine"), &rbac("bind clusterroles")], "BindRoles");
    check_bob(&[&bindings, &rbac("bind clusterroles=view")], "");
    check_bob(&[&rbac("bind clusterroles")], "");
    check_bob(&[&rbac("escalate,patch clusterroles")], "EscalateRoles");
    check_bob(&[&rbac("patch clusterroles")], "");
    check(&[("user bob", "dev", &[&rbac("* *")])], &[]);
    check(
        &[("group system:authenticated", "", &["* *:*"]), ("user bob", "", &["* *:*"])],
        &["group system:authenticated (everybody who is logged in): EveryRight"],
    );
}

#[test]
fn who_can_become_somebody_with_every_right_has_it_too() {
    let operator = ("account ops-tools/operator", "", &["* *:*"][..]);
    let itself = "service account ops-tools/operator: EveryRight";
    let edit: &[&str] =
        &["impersonate :serviceaccounts", "create :serviceaccounts/token", "create :pods", "get :secrets"];
    let as_it = "user bob: Impersonate+MintTokens+RunPods as powerful service account ops-tools/operator";
    check(&[operator, ("user bob", "ops-tools", edit)], &[itself, as_it]);
    check(&[operator, ("user bob", "prod", edit)], &[itself]);
    check(&[operator, ("user bob", "ops-tools", &["get :secrets"])], &[itself]);
    let all = ("group system:serviceaccounts:ops-tools", "", &["* *:*"][..]);
    check(
        &[all, ("account ops-tools/any", "", &["get :pods"]), ("user bob", "ops-tools", &["create :pods"])],
        &[
            "group system:serviceaccounts:ops-tools: EveryRight",
            "user bob: RunPods as powerful group system:serviceaccounts:ops-tools",
        ],
    );
    // With the name of an engine come its rights, if not its exemption.
    let flux = ("account flux-system/kustomize-controller", "", &["* *:*"][..]);
    let as_flux = "user bob: Impersonate as powerful service account flux-system/kustomize-controller";
    check(&[flux, ("user bob", "", &[FLUX])], &[as_flux]);
    check(&[flux, ("user bob", "", &[FLUX, POD])], &["user bob: Impersonate as flux (1)"]);
    // One problem does not hide another.
    check(
        &[operator, ("user bob", "", &[FLUX, POD]), ("user bob", "ops-tools", edit)],
        &[itself, "user bob: Impersonate as flux (1)", as_it],
    );
}

#[test]
fn a_pattern_of_the_policy_is_whoever_fits_it() {
    let trusted = |user: &str| {
        let policy =
            json!({"writers": {"engines": [], "trusted": [{"name": "t", "users": [user], "proof": "Username"}]}});
        exempt(&Rules::new(serde_json::from_value(policy).unwrap()).unwrap())
    };
    for (user, place, rule, expected) in [
        ("system:serviceaccount:ops:*", "ops", "create :serviceaccounts/token=any", true),
        ("system:serviceaccount:ops:robot-*", "ops", "create :serviceaccounts/token=robot-7", true),
        ("system:serviceaccount:ops:robot-*", "ops", "create :serviceaccounts/token=human", false),
        ("system:serviceaccount:ops-*", "ops-7", "create :pods", true),
        ("system:serviceaccount:ops-*", "dev", "create :pods", false),
        ("system:*", "dev", "create :pods", true),
        ("system:*", "", "impersonate :users=system:robot", true),
        ("robot-*", "", "impersonate :users=robot-7", true),
        ("robot-*", "", "impersonate :users=alice", false),
    ] {
        let (rbac, identities) = (rbac(&[("user bob", place, &[rule])]), trusted(user));
        let reach = reach(&rbac, &identities);
        let found = reach.gains.iter().any(|(_, gain)| {
            matches!(gain, Gain::Identities(_, identities) if identities.iter().any(|identity| identity.family == "t"))
        });
        assert_eq!(found, expected, "{user} {place} {rule}");
    }
}

#[test]
fn what_gives_a_right_is_named_whole() {
    let rbac = rbac(&[
        ("user bob", "flux-system", &[FLUX]),
        ("user bob", "", &["impersonate authentication.k8s.io:uids"]),
        (
            "group system:authenticated",
            "",
            &["impersonate authentication.k8s.io:userextras/authentication.kubernetes.io/pod-name"],
        ),
        ("user bob", "flux-system", &[FLUX]),
        ("user bob", "", &["get :pods"]),
    ]);
    let identities = identities();
    let reach = reach(&rbac, &identities);
    let [(_, Gain::Identities(ways, _))] = &reach.gains[..] else { panic!("{reach:?}") };
    let through: Vec<String> = ways[&Way::Impersonate].iter().map(ToString::to_string).collect();
    assert_eq!(
        through,
        [
            "ClusterRoleBinding b1 → ClusterRole b1",
            "ClusterRoleBinding b2 → ClusterRole b2",
            "RoleBinding flux-system/b0 → Role b0",
            "RoleBinding flux-system/b3 → ClusterRole b3",
        ]
    );
}

#[test]
fn who_is_expected_is_counted_and_groups_speak_for_their_members() {
    let mint: &[&str] = &["create :serviceaccounts/token"];
    let bound = [
        ("group system:masters", "", &["* *:*"][..]),
        ("account flux-system/kustomize-controller", "", &["* *:*"]),
        ("account flux-system/source-controller", "", &["* *:*"]),
        ("user system:serviceaccount:argocd:argocd-server", "", mint),
        ("group system:serviceaccounts:argocd", "", mint),
        ("account kube-system/deployment-controller", "", mint),
        ("user system:kube-controller-manager", "", mint),
        ("user system:node:n1", "", mint),
        ("group system:nodes", "", mint),
        ("account breakglass-system/breakglass-webhook", "", mint),
        ("user ci-bot", "", mint),
        ("account prod/api", "", &["get :pods"]),
        // Who is trusted in some namespaces only gains by becoming somebody else.
        ("account ops/operator", "ops", &["* *:*"]),
    ];
    check(&bound, &[]);
    assert_eq!(reach(&rbac(&bound), &identities()).expected, 10);
}
