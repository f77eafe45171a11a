//! Who can obtain an identity that writes untouched: what `reach` found, in sentences.

use std::collections::BTreeSet;

use super::{Access, Finding, Level};
use crate::identities::{Identity, Proof};
use crate::rbac::{ACCOUNTS, AUTHENTICATED, Object, Rbac, Subject, Through, UNAUTHENTICATED};
use crate::reach::{Gain, Power, Reach, Way, Ways, reach};

const CHECK: &str = "access";

/// How many names stand in a sentence before the rest is counted.
const MOST_NAMES: usize = 3;

/// How much of RBAC could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// All of it.
    Whole,
    /// Some: what was not found may be there all the same.
    Part,
}

/// What is found.
pub fn access(rbac: &Rbac, identities: &[Identity], sight: Sight) -> Vec<Finding> {
    let Reach { gains, expected } = reach(rbac, identities);
    let mut found: Vec<(usize, Finding)> =
        gains.iter().map(|(subject, gain)| (order(gain, identities), say(subject, gain, identities))).collect();
    // The worst first; then by identity, as they stand in the policy.
    found.sort_by_key(|(order, finding)| (std::cmp::Reverse(finding.level), *order));
    let mut findings: Vec<Finding> = found.into_iter().map(|(_, finding)| finding).collect();
    findings.push(Finding::new(
        Level::Note,
        CHECK,
        "group system:masters has every right, and so can be anybody, whatever is bound to it; rights that another \
         authorizer than RBAC gives, such as a cloud's, are not seen here",
    ));
    if let (Sight::Whole, Some(message)) = (sight, nobody_else(&gains, identities, expected)) {
        findings.push(Finding::new(Level::Ok, CHECK, message));
    }
    findings
}

fn order(gain: &Gain<'_>, identities: &[Identity]) -> usize {
    match gain {
        Gain::Everything(..) => 0,
        Gain::Identities(_, obtained) | Gain::Names(_, obtained) => {
            1 + identities.iter().position(|identity| obtained.contains(&identity)).unwrap_or_default()
        }
        Gain::Powerful(..) => usize::MAX,
    }
}

fn say(subject: &Subject, gain: &Gain<'_>, identities: &[Identity]) -> Finding {
    let (level, message, access) = match gain {
        Gain::Everything(power, through) => {
            let given = *power == Power::EveryRight && !is_everybody(subject);
            let level = if given { Level::Note } else { Level::Problem };
            let message = format!("{subject} {}, and so can be anybody: {}", has(*power), list(through));
            (level, message, Access { power: Some(*power), ..about(subject, through.iter().copied()) })
        }
        Gain::Identities(ways, obtained) => {
            let through: BTreeSet<&Through> = ways.values().flatten().copied().collect();
            let labels = labels(obtained, identities);
            let proven = obtained.iter().any(|identity| identity.proof != Proof::Name);
            let how = words(ways, obtained.len() == 1, proven);
            let message = format!("{labels}: {subject} may {how}: {}", list(&through));
            let names = obtained.iter().map(|identity| identity.name()).collect();
            let ways = ways.keys().copied().collect();
            (Level::Problem, message, Access { identities: names, ways, ..about(subject, through) })
        }
        Gain::Powerful(ways, others) => {
            let through: BTreeSet<&Through> = ways.values().flatten().copied().collect();
            let names = shortened(others.iter().map(ToString::to_string).collect());
            let how = words(ways, others.len() == 1, false);
            let have = if others.len() == 1 { "has" } else { "have" };
            let message = format!("{names} {have} every right, and {subject} may {how}: {}", list(&through));
            let ways = ways.keys().copied().collect();
            (Level::Problem, message, Access { ways, ..about(subject, through) })
        }
        Gain::Names(through, taken) => {
            let labels = labels(taken, identities);
            let message = format!(
                "{labels}: {subject} may impersonate the {} alone, which the webhook takes for nobody special: {}",
                if taken.len() == 1 { "name" } else { "names" },
                list(through)
            );
            let names = taken.iter().map(|identity| identity.name()).collect();
            let ways = vec![Way::ImpersonateName];
            (Level::Note, message, Access { identities: names, ways, ..about(subject, through.iter().copied()) })
        }
    };
    let mut finding = Finding::new(level, CHECK, message);
    for through in &access.through {
        finding = finding.object(name_of(&through.binding));
        if level == Level::Problem {
            finding = finding.hint(format!("if nobody means this: {}", undo(through)));
        }
    }
    finding.objects.dedup();
    Finding { access: Some(access), ..finding }
}

fn about<'a>(subject: &Subject, through: impl IntoIterator<Item = &'a Through>) -> Access {
    let through = through.into_iter().cloned().collect();
    Access { subject: subject.clone(), identities: Vec::new(), ways: Vec::new(), power: None, through }
}

/// Groups that nobody has to be put into.
fn is_everybody(subject: &Subject) -> bool {
    [AUTHENTICATED, UNAUTHENTICATED, ACCOUNTS].iter().any(|name| *subject == Subject::group(name))
}

fn has(power: Power) -> &'static str {
    match power {
        Power::EveryRight => "has every right",
        Power::ActAsMasters => "may act as a member of system:masters",
        Power::BindRoles => "may bind cluster-admin to anybody",
        Power::EscalateRoles => "may write any right into ClusterRoles",
    }
}

/// What somebody may do to one or to several; where a name proves nothing, their proof is impersonated as well.
fn words(ways: &Ways<'_>, one: bool, proven: bool) -> String {
    let (whom, whose) = if one { ("it", "its") } else { ("them", "their") };
    let proof = if proven { format!(" with {whose} proof") } else { String::new() };
    let words: Vec<String> = ways
        .keys()
        .map(|way| match way {
            Way::Impersonate => format!("impersonate {whom}{proof}"),
            Way::MintTokens => format!("create {whose} tokens"),
            Way::RunPods => format!("run pods as {whom}"),
            Way::EnterPods => format!("enter {whose} pods"),
            Way::ReadSecrets => format!("read {whose} token Secrets"),
            Way::ApproveCertificates => format!("approve certificates in {whose} name"),
            Way::Join => "become one".to_owned(),
            Way::ImpersonateName => format!("impersonate {whose} names"),
        })
        .collect();
    enumerate(&words)
}

/// `a, b and c`.
fn enumerate(words: &[String]) -> String {
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn shortened(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(MOST_NAMES);
    names.truncate(MOST_NAMES);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    enumerate(&names)
}

/// Families, and which of their members where it is not all of them.
fn labels(some: &[&Identity], all: &[Identity]) -> String {
    let mut families: Vec<&str> = Vec::new();
    for identity in some {
        if families.last() != Some(&identity.family.as_str()) {
            families.push(&identity.family);
        }
    }
    let labels: Vec<String> = families
        .into_iter()
        .map(|family| {
            let of = |identity: &&Identity| identity.family == family;
            let members: Vec<&Identity> = some.iter().copied().filter(of).collect();
            let whole = all.iter().filter(of).count();
            if members.len() == whole {
                return family.to_owned();
            }
            let names: Vec<String> = members.iter().take(MOST_NAMES).map(|member| member.short()).collect();
            match members.len() {
                few if few <= MOST_NAMES => format!("{family} ({})", names.join(", ")),
                many => format!("{family} ({many} of {whole})"),
            }
        })
        .collect();
    labels.join(", ")
}

fn list(through: &BTreeSet<&Through>) -> String {
    shortened(through.iter().map(ToString::to_string).collect())
}

fn name_of(binding: &Object) -> String {
    format!("{}.rbac.authorization.k8s.io/{}", binding.kind.to_lowercase(), binding.name)
}

/// A binding that names others as well is not to be deleted for one of them.
fn undo(through: &Through) -> String {
    let Object { kind, namespace, name } = &through.binding;
    let verb = if through.alone { "delete" } else { "edit" };
    let place = namespace.as_ref().map_or(String::new(), |namespace| format!(" -n {namespace}"));
    format!("kubectl{place} {verb} {} {}", kind.to_lowercase(), word(name))
}

/// One word of a shell: the API server takes almost anything for the name of a binding, and this is there to be pasted.
fn word(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
    if name.chars().all(plain) { name.to_owned() } else { format!("'{}'", name.replace('\'', r"'\''")) }
}

/// What remains when the findings are taken away, if anything does.
fn nobody_else(gains: &[(&Subject, Gain<'_>)], identities: &[Identity], expected: usize) -> Option<String> {
    let obtained: Vec<&Identity> = gains
        .iter()
        .filter_map(|(_, gain)| match gain {
            Gain::Identities(_, obtained) => Some(obtained),
            Gain::Everything(..) | Gain::Powerful(..) | Gain::Names(..) => None,
        })
        .flatten()
        .copied()
        .collect();
    let nobodys: Vec<&Identity> = identities.iter().filter(|identity| !obtained.contains(identity)).collect();
    (!nobodys.is_empty()).then(|| {
        let families = labels(&nobodys, identities);
        format!(
            "by RBAC, in one step, nobody else can obtain {families} than the {expected} of whom it is expected, the control \
             plane's and the engines' own"
        )
    })
}

#[cfg(test)]
mod tests {
    use breakglass::rules::Rules;
    use serde_json::json;

    use super::*;
    use crate::identities::exempt;
    use crate::rbac::Listed;

    /// bob and ops are bound together in flux-system, carol alone everywhere.
    fn findings(sight: Sight) -> Vec<Finding> {
        let rule = |resource: &str, verb: &str| json!({"apiGroups": [""], "resources": [resource], "verbs": [verb]});
        let bind = |name: &str, namespace: Option<&str>, role: &str, subjects: &[(&str, &str)]| {
            let subjects: Vec<_> = subjects.iter().map(|(kind, name)| json!({"kind": kind, "name": name})).collect();
            json!({"metadata": {"name": name, "namespace": namespace}, "subjects": subjects,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": name}})
        };
        let role = |name: &str, namespace: Option<&str>, rule| json!({"metadata": {"name": name, "namespace": namespace}, "rules": [rule]});
        let everything = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
        let listed = Listed {
            cluster_roles: serde_json::from_value(json!([
                role("flux", None, rule("serviceaccounts", "impersonate")),
                role("root", None, everything),
            ]))
            .unwrap(),
            roles: serde_json::from_value(json!([role("pods", Some("flux-system"), rule("pods", "create"))])).unwrap(),
            cluster_role_bindings: serde_json::from_value(json!([
                bind("flux", None, "ClusterRole", &[("User", "carol")]),
                bind("root", None, "ClusterRole", &[("Group", "admins"), ("Group", "system:unauthenticated")]),
                bind("gone", None, "ClusterRole", &[("User", "alice")]),
            ]))
            .unwrap(),
            role_bindings: serde_json::from_value(json!([bind(
                "pods",
                Some("flux-system"),
                "Role",
                &[("User", "bob"), ("Group", "ops")]
            ),]))
            .unwrap(),
        };
        access(&Rbac::new(listed), &exempt(&Rules::built_in().unwrap()), sight)
    }

    #[test]
    fn a_finding_says_whom_who_how_and_through_what() {
        let found = findings(Sight::Whole);
        let said: Vec<_> = found.iter().map(|finding| (finding.level, finding.message.as_str())).collect();
        assert_eq!(
            said,
            [
                (
                    Level::Problem,
                    "group system:unauthenticated (everybody who is not logged in) has every right, and so can be anybody: \
                 ClusterRoleBinding root → ClusterRole root"
                ),
                (Level::Problem, "flux: group ops may run pods as them: RoleBinding flux-system/pods → Role pods"),
                (Level::Problem, "flux: user bob may run pods as them: RoleBinding flux-system/pods → Role pods"),
                (
                    Level::Note,
                    "group admins has every right, and so can be anybody: ClusterRoleBinding root → ClusterRole root"
                ),
                (
                    Level::Note,
                    "flux, argocd, webhook, controllers, cloud-controller-manager: user carol may impersonate the names alone, \
                 which the webhook takes for nobody special: ClusterRoleBinding flux → ClusterRole flux"
                ),
                (
                    Level::Note,
                    "group system:masters has every right, and so can be anybody, whatever is bound to it; rights that another \
                 authorizer than RBAC gives, such as a cloud's, are not seen here"
                ),
                (
                    Level::Ok,
                    "by RBAC, in one step, nobody else can obtain argocd, webhook, override, controllers, \
                 cloud-controller-manager, components, nodes than the 0 of whom it is expected, the control plane's and the \
                 engines' own"
                ),
            ]
        );
        // What names others as well is not deleted.
        assert_eq!(found[2].hints, ["if nobody means this: kubectl -n flux-system edit rolebinding pods"]);
        assert!(found[3].hints.is_empty(), "{:?}", found[3]);
        let flux = [
            "kustomize-controller",
            "helm-controller",
            "source-controller",
            "source-watcher",
            "notification-controller",
            "image-reflector-controller",
            "image-automation-controller",
        ]
        .map(|name| format!("system:serviceaccount:flux-system:{name}"));
        assert_eq!(
            serde_json::to_value(&found[2]).unwrap(),
            json!({
                "level": "problem",
                "check": "access",
                "message": found[2].message,
                "hints": found[2].hints,
                "objects": ["rolebinding.rbac.authorization.k8s.io/pods"],
                "subject": {"kind": "User", "name": "bob"},
                "identities": flux,
                "ways": ["runPods"],
                "through": [{"binding": {"kind": "RoleBinding", "namespace": "flux-system", "name": "pods"},
                    "role": {"kind": "Role", "namespace": "flux-system", "name": "pods"}}],
            })
        );
    }

    #[test]
    fn who_does_not_see_everything_is_not_told_that_there_is_nobody() {
        assert!(findings(Sight::Part).iter().all(|finding| finding.level != Level::Ok));
    }

    #[test]
    fn a_command_to_paste_does_what_it_says() {
        let undo = |name: &str| {
            let binding = Object { kind: "ClusterRoleBinding", namespace: None, name: name.to_owned() };
            let role = Object { kind: "ClusterRole", ..binding.clone() };
            undo(&Through { binding, role, alone: true })
        };
        assert_eq!(undo("a:b.c-d"), "kubectl delete clusterrolebinding a:b.c-d");
        assert_eq!(undo("x; reboot"), "kubectl delete clusterrolebinding 'x; reboot'");
        assert_eq!(undo("x'$(id)"), r"kubectl delete clusterrolebinding 'x'\''$(id)'");
    }

    #[test]
    fn a_few_names_stand_for_themselves_and_many_are_counted() {
        let identities = exempt(&Rules::built_in().unwrap());
        let controllers: Vec<&Identity> =
            identities.iter().filter(|identity| identity.family == "controllers").collect();
        assert_eq!(labels(&controllers, &identities), "controllers");
        assert_eq!(labels(&controllers[..5], &identities), "controllers (5 of 41)");
        assert_eq!(
            labels(&[&identities[0], controllers[0]], &identities),
            "flux (kustomize-controller), controllers (attachdetach-controller)"
        );
        let names = |number: usize| (1..=number).map(|number| number.to_string()).collect();
        assert_eq!(
            [1, 2, 3, 5].map(|number| shortened(names(number))),
            ["1", "1 and 2", "1, 2 and 3", "1, 2, 3 and 2 more"]
        );
    }
}
