//! What changes something and does not reach the gate, each with its reason. A walk holds the list exact.

/// Resources that are let by without being asked, whoever writes.
pub struct Exemption {
    pub resources: &'static [&'static str],
    pub reason: &'static str,
}

pub const EXEMPT: [Exemption; 5] = [
    Exemption {
        resources: &["v1/events", "events.k8s.io/v1/events"],
        reason: "an Event tells what happened and changes nothing that runs, and every component writes them all the time",
    },
    Exemption {
        resources: &["coordination.k8s.io/v1/leases"],
        reason: "a Lease is the heartbeat of a node or a controller, and none of them may stop because of us",
    },
    Exemption {
        resources: &[
            "authentication.k8s.io/v1/selfsubjectreviews",
            "authentication.k8s.io/v1/tokenreviews",
            "authorization.k8s.io/v1/localsubjectaccessreviews",
            "authorization.k8s.io/v1/selfsubjectaccessreviews",
            "authorization.k8s.io/v1/selfsubjectrulesreviews",
            "authorization.k8s.io/v1/subjectaccessreviews",
        ],
        reason: "a review is a question that leaves nothing behind, and logging in must work while we are down",
    },
    Exemption {
        resources: &["v1/serviceaccounts/token"],
        reason: "a token changes nothing, and its account's writes are looked at; those of exempt accounts are gated",
    },
    Exemption {
        resources: &[
            "admissionregistration.k8s.io/v1/mutatingadmissionpolicies",
            "admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings",
            "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
            "admissionregistration.k8s.io/v1/validatingadmissionpolicies",
            "admissionregistration.k8s.io/v1/validatingadmissionpolicies/status",
            "admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
            "admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
        ],
        reason: "the API server shows what configures admission to no webhook, or a wrong one could never be mended",
    },
];

/// Why a strategic merge patch of a custom resource is let be.
pub const NO_STRATEGIC_PATCH: &str =
    "the API server has no strategic merge for custom resources, and answers 415 to everybody";

/// Why a resource is exempt, if it is.
pub fn reason(key: &str) -> Option<&'static str> {
    EXEMPT.iter().find(|exemption| exemption.resources.contains(&key)).map(|exemption| exemption.reason)
}
