//! The built-in policy, field by field.

use super::{Approval, DebtRules, EngineWriter, Environment, Gate, Proof, Redaction, Span, TokenRules};

pub(super) fn incident_pattern() -> String {
    "^(INC|INCIDENT|SEV[0-9]|P[0-9])-[A-Za-z0-9-]+$".to_owned()
}

pub(super) fn ttl() -> Span {
    Span::hours(1)
}

pub(super) fn max_ttl() -> Span {
    Span::hours(4)
}

pub(super) fn decide_within() -> Span {
    Span::hours(24)
}

pub(super) fn max_defer() -> Span {
    Span::hours(14 * 24)
}

pub(super) fn cluster_scoped() -> Gate {
    Gate::Stamp
}

pub(super) fn engine_environment() -> String {
    "platform".to_owned()
}

pub(super) fn redact() -> Vec<Redaction> {
    vec![Redaction {
        group: String::new(),
        kind: "Secret".to_owned(),
        paths: vec!["/data".to_owned(), "/stringData".to_owned()],
    }]
}

/// The service accounts that Flux and Argo CD install themselves with (fluxcd/flux2 manifests/bases; argo-cd
/// manifests/base). argocd-server is none of them: it writes what a person clicked.
pub(super) fn engines() -> Vec<EngineWriter> {
    let users = |namespace: &str, names: &[&str]| {
        names.iter().map(|name| format!("system:serviceaccount:{namespace}:{name}")).collect()
    };
    let flux = EngineWriter {
        name: "flux".to_owned(),
        users: users("flux-system", &["kustomize-controller", "helm-controller"]),
        keepers: users(
            "flux-system",
            &[
                "source-controller",
                "source-watcher",
                "notification-controller",
                "image-reflector-controller",
                "image-automation-controller",
            ],
        ),
        proof: Proof::PodBound,
    };
    let argocd = EngineWriter {
        name: "argocd".to_owned(),
        users: users("argocd", &["argocd-application-controller"]),
        keepers: users("argocd", &["argocd-applicationset-controller", "argocd-notifications-controller"]),
        proof: Proof::PodBound,
    };
    vec![flux, argocd]
}

pub(super) fn environments() -> Vec<Environment> {
    let environment = |name: &str, namespaces: &[&str], label: Option<&str>, gate: Gate| Environment {
        name: name.to_owned(),
        namespaces: namespaces.iter().map(|&pattern| pattern.to_owned()).collect(),
        namespace_label: label.map(str::to_owned),
        writes: gate,
        exec: None,
        token: TokenRules { default_ttl: ttl(), max_ttl: max_ttl(), approval: Approval::default() },
        debt: DebtRules::default(),
    };
    let prod = ["prod", "production", "prod-*", "*-prod", "production-*", "*-production"];
    let staging = ["staging", "stage", "staging-*", "*-staging"];
    let platform = ["flux-system", "argocd", "breakglass-system"];
    vec![
        environment("prod", &prod, Some("prod"), Gate::RequireToken),
        environment("staging", &staging, Some("staging"), Gate::RequireToken),
        environment("platform", &platform, None, Gate::RequireToken),
        environment("dev", &["*"], None, Gate::Stamp),
    ]
}
