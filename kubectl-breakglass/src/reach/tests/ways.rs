//! What each way takes.

use super::*;

#[test]
fn a_name_that_is_impersonated_is_worth_its_proof() {
    let proven = "Impersonate as flux (1)";
    let name = "the name of flux (1)";
    check_bob(&[FLUX], name);
    check_bob(&[FLUX, POD], proven);
    check_bob(&[FLUX, CREDENTIAL], name);
    check_bob(&[POD], "");
    check_bob(&[FLUX, "impersonate authentication.k8s.io:uids"], name);
    check_bob(
        &[FLUX, "impersonate authentication.k8s.io:uids=7", "impersonate authentication.k8s.io:*=some-pod"],
        proven,
    );
    check_bob(&[FLUX, "impersonate authentication.k8s.io:uids,*/authentication.kubernetes.io/pod-name"], proven);
    // RBAC has no star after the slash, and extras are of another group than names.
    check_bob(&[FLUX, "impersonate authentication.k8s.io:uids,userextras/*"], name);
    check_bob(&[FLUX, "impersonate authentication.k8s.io:uids,userextras"], name);
    check_bob(&[FLUX, "impersonate :uids,userextras/authentication.kubernetes.io/pod-name"], name);
    check_bob(&["impersonate :serviceaccounts=default", POD], "");
    check_bob(&["impersonate :users=system:serviceaccount:flux-system:kustomize-controller", POD], "");
    check_bob(
        &["* *:serviceaccounts", "* *:uids,userextras/authentication.kubernetes.io/pod-name"],
        "Impersonate as flux (7), argocd (3), operators (1), webhook (1)",
    );
}

#[test]
fn every_identity_has_a_proof_of_its_own() {
    check_bob(&["impersonate :serviceaccounts=deployment-controller", CREDENTIAL], "Impersonate as controllers (1)");
    check_bob(&["impersonate :serviceaccounts=deployment-controller", POD], "the name of controllers (1)");
    check_bob(&["impersonate :serviceaccounts=my-controller", CREDENTIAL, POD], "");
    check_bob(&["impersonate :serviceaccounts=operator"], "Impersonate as operators (1)");
    check_bob(&["impersonate :users=ci-bot"], "Impersonate as ci (1)");
    check_bob(&["impersonate :groups=robots", "impersonate :users=anybody"], "Impersonate as ci (1)");
    // A group is taken together with a name, whichever.
    check_bob(&["impersonate :groups=breakglass.dev:override"], "");
    check_bob(
        &["impersonate :groups=breakglass.dev:override", "impersonate :users=anybody"],
        "Impersonate as override (1)",
    );
    check(
        &[
            ("user bob", "", &["impersonate :groups=breakglass.dev:override"]),
            ("user bob", "dev", &["impersonate :serviceaccounts"]),
        ],
        &["user bob: Impersonate as override (1)"],
    );
    let extra = "impersonate authentication.k8s.io:userextras/anything";
    check_bob(&["impersonate :users=system:kube-scheduler"], "the name of components (1)");
    check_bob(&["impersonate :users=system:kube-scheduler", extra], "Impersonate as components (1)");
    check_bob(&["impersonate :users=system:node:n1", extra], "");
    check_bob(&["impersonate :users=system:node:n1", "impersonate :groups=system:nodes"], "the name of nodes (1)");
    check_bob(
        &["impersonate :users=system:node:n1", "impersonate :groups=system:nodes", extra],
        "Impersonate as nodes (1)",
    );
}

#[test]
fn constrained_impersonation_has_no_proof_for_service_accounts_and_nodes() {
    let on = |mode: &str| format!("impersonate-on:{mode}:create *:deployments");
    let of = |mode: &str, what: &str| format!("impersonate:{mode} authentication.k8s.io:{what}");
    let (on_accounts, account) = (on("serviceaccount"), of("serviceaccount", "serviceaccounts=kustomize-controller"));
    let proof = of("serviceaccount", "uids,userextras/authentication.kubernetes.io/pod-name");
    check_bob(&[&account], "");
    check_bob(&[&account, &on_accounts], "the name of flux (1)");
    check_bob(&[&account, &on_accounts, &proof], "the name of flux (1)");
    check_bob(&[&of("arbitrary-node", "nodes"), &on("arbitrary-node")], "the name of nodes (1)");
    // Others may be impersonated with all that there is to them.
    let on_others = on("user-info");
    check_bob(&[&of("user-info", "users=ci-bot"), &on_others], "Impersonate as ci (1)");
    check_bob(&[&of("user-info", "users=ci-bot")], "");
    check_bob(
        &[&of("user-info", "users=a"), &of("user-info", "groups=breakglass.dev:override"), &on_others],
        "Impersonate as override (1)",
    );
    check_bob(&[&of("user-info", "users=a"), &of("user-info", "groups=system:masters"), &on_others], "");
}

#[test]
fn a_right_is_as_wide_as_its_binding() {
    let all = "MintTokens as flux (7), argocd (3), operators (1), webhook (1), controllers (41), cloud-controller-manager (1)";
    check_bob(&["create :serviceaccounts/token"], all);
    check_bob(&["create *:*/token"], all);
    check_bob(&["create apps:serviceaccounts/token"], "");
    check_bob(&["create :serviceaccounts"], "");
    check_bob(&["create :serviceaccounts/token=helm-controller"], "MintTokens as flux (1)");
    check(&[("user bob", "flux-system", &["create :serviceaccounts/token"])], &["user bob: MintTokens as flux (7)"]);
    check(&[("user bob", "prod", &["create :serviceaccounts/token"])], &[]);
    check(&[("user bob", "prod", &["* *:*"])], &[]);
    // What lives in no namespace is not given by a binding that lives in one.
    check(&[("user bob", "flux-system", &[FLUX, POD])], &["user bob: the name of flux (1)"]);
    check(&[("user bob", "flux-system", &[FLUX]), ("user bob", "", &[POD])], &["user bob: Impersonate as flux (1)"]);
    check(&[("group ops", "argocd", &["* *:*"])], &["group ops: MintTokens+RunPods+EnterPods as argocd (3)"]);
}

#[test]
fn what_makes_pods_in_a_namespace_runs_as_any_of_its_service_accounts() {
    let in_flux = |rules: &[&str], expected: &[&str]| check(&[("user bob", "flux-system", rules)], expected);
    let runs = ["user bob: RunPods as flux (7)"];
    for rule in [
        "create :pods",
        "create,patch :pods=a-pod",
        "patch apps:deployments",
        "update apps:statefulsets=db",
        "create apps:daemonsets",
        "patch apps:replicasets",
        "patch :replicationcontrollers",
        "create batch:jobs",
        "update batch:cronjobs",
        "* *:deployments",
    ] {
        in_flux(&[rule], &runs);
    }
    for rule in [
        "update,patch,delete :pods",
        // A POST names nothing.
        "create :pods=a-pod",
        "update,patch batch:jobs",
        "create extensions:deployments",
        "create :deployments",
        "update apps:deployments/scale",
    ] {
        in_flux(&[rule], &[]);
    }
    // A controller's token is bound to no pod.
    check(&[("user bob", "kube-system", &["create :pods"])], &["user bob: RunPods as cloud-controller-manager (1)"]);
}

#[test]
fn pods_are_entered_by_exec_by_a_container_more_and_through_the_kubelet() {
    let enters = ["user bob: EnterPods as webhook (1)"];
    for rule in ["create :pods/exec", "get :pods/exec=one", "patch :pods/ephemeralcontainers", "get,list,watch *:*"] {
        check(&[("user bob", "breakglass-system", &[rule])], &enters);
    }
    for rule in ["create :pods/attach", "create :pods/portforward", "get :nodes/proxy"] {
        check(&[("user bob", "breakglass-system", &[rule])], &[]);
    }
    let all = "EnterPods as flux (7), argocd (3), operators (1), webhook (1), cloud-controller-manager (1)";
    check_bob(&["get :nodes/proxy"], all);
}

#[test]
fn a_secret_and_a_certificate_prove_little() {
    // A token in a Secret has neither pod nor credential-id: it is worth a name.
    check_bob(&["list :secrets"], "ReadSecrets as operators (1)");
    let approval = "update certificates.k8s.io:certificatesigningrequests/approval";
    let signer = |name: &str| format!("approve certificates.k8s.io:signers={name}");
    let components = breakglass::writer::COMPONENTS.len();
    let anybody =
        format!("ApproveCertificates as ci (2), operators (1), override (1), components ({components}), nodes (1)");
    check_bob(&[approval, &signer("kubernetes.io/kube-apiserver-client")], &anybody);
    check_bob(&[approval, &signer("kubernetes.io/*")], &anybody);
    check_bob(&[approval, "approve certificates.k8s.io:signers"], &anybody);
    check_bob(&[approval, &signer("kubernetes.io/kube-apiserver-client-kubelet")], "ApproveCertificates as nodes (1)");
    check_bob(&[approval, &signer("kubernetes.io/kubelet-serving")], "");
    check_bob(&[&signer("kubernetes.io/kube-apiserver-client")], "");
    let join = [
        "create certificates.k8s.io:certificatesigningrequests/nodeclient",
        "create certificates.k8s.io:certificatesigningrequests",
    ];
    check_bob(&join, "Join as nodes (1)");
    check_bob(&join[..1], "");
    check(&[("group system:bootstrappers:kubeadm", "", &join)], &[]);
}
