//! Who writes: people, what only looks like a robot, and an admin who says to be somebody else.

use breakglass::api::OVERRIDE_GROUP;

use super::random::Random;

/// Logins of their own. The last of them are robots' names without what proves them; `scene` makes them.
const LOGINS: [&str; 13] = [
    "bob",
    "bob",
    "alice",
    "alice",
    "admin",
    "admin",
    "carol",
    "same-name",
    "unbound",
    "in-a-pod",
    "certificate-account",
    "certificate-node",
    "certificate-component",
];

/// Those of them that have a token.
const ACCOUNTS: [&str; 3] = ["same-name", "unbound", "in-a-pod"];

/// Whom an admin says to be: those who are exempt, given their proof, and names like theirs.
const NAMES: [&str; 34] = [
    "system:serviceaccount:flux-system:kustomize-controller",
    "system:serviceaccount:flux-system:helm-controller",
    "system:serviceaccount:flux-system:source-controller",
    "system:serviceaccount:argocd:argocd-application-controller",
    "system:serviceaccount:breakglass-system:breakglass-webhook",
    "system:serviceaccount:kube-system:deployment-controller",
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:job-controller",
    "system:serviceaccount:kube-system:cloud-controller-manager",
    "system:node:n1",
    "system:kube-scheduler",
    "system:kube-controller-manager",
    "system:cloud-controller-manager",
    "system:apiserver",
    "system:serviceaccount:flux-system:kustomize-controller2",
    "system:serviceaccount:flux-system:Kustomize-controller",
    "system:serviceaccount:flux-system:default",
    "system:serviceaccount:dev:kustomize-controller",
    "system:serviceaccount:argocd:argocd-server",
    "system:serviceaccount:kube-system:coredns",
    "system:serviceaccount:kube-public:deployment-controller",
    "system:serviceaccount:kube-system:",
    "system:serviceaccount:",
    "system:nodes:n1",
    "system:node",
    "system:apiserver2",
    "system:masters",
    "breakglass.dev:override",
    "system:admin",
    "root",
    "alice@example.com",
    "bob@example.com",
    "carol@example.com",
];

/// Groups besides system:masters: of robots, and such as look like the one that skips us.
const GROUPS: [&str; 10] = [
    "system:nodes",
    "system:serviceaccounts",
    "system:serviceaccounts:kube-system",
    "system:serviceaccounts:flux-system",
    "system:authenticated",
    "breakglass.dev:overrides",
    "Breakglass.dev:Override",
    "breakglass.dev",
    "override",
    "approvers",
];

/// What an authenticator says besides, and somebody who may impersonate it could ask for.
const EXTRAS: [&str; 5] = [
    "authentication.kubernetes.io/pod-name",
    "authentication.kubernetes.io/pod-uid",
    "authentication.kubernetes.io/credential-id",
    "authentication.kubernetes.io/node-name",
    "reason",
];

/// A login, and the headers with which it says to be somebody else.
#[derive(Clone, Debug)]
pub(super) struct Who {
    pub(super) login: &'static str,
    pub(super) headers: Vec<(String, String)>,
}

impl Who {
    /// Anybody, but nobody with a whole proof.
    pub(super) fn anybody(random: &mut Random) -> Self {
        if random.percent(45) {
            return Self { login: random.pick(&LOGINS), headers: Vec::new() };
        }
        let mut claim = Claim { user: random.pick(&NAMES), groups: Vec::new(), uid: false, extras: Vec::new() };
        // Without it most of them may do nothing.
        if random.percent(90) {
            claim.groups.push("system:masters");
        }
        while random.percent(35) {
            claim.groups.push(random.pick(&GROUPS));
        }
        claim.uid = random.percent(35);
        while random.percent(40) {
            claim.extras.push(random.pick(&EXTRAS));
        }
        if claim.is_whole() {
            (claim.uid, claim.extras) = (false, Vec::new());
        }
        Self { login: "admin", headers: claim.headers(random) }
    }

    /// Anybody but a service account that logs in as itself.
    pub(super) fn no_account(random: &mut Random) -> Self {
        let who = Self::anybody(random);
        if ACCOUNTS.contains(&who.login) { Self::person(random) } else { who }
    }

    /// A person who may write where nobody is asked for a token.
    pub(super) fn person(random: &mut Random) -> Self {
        Self { login: random.pick(&["alice", "bob", "admin"]), headers: Vec::new() }
    }
}

/// Whom somebody says to be.
struct Claim {
    user: &'static str,
    groups: Vec<&'static str>,
    uid: bool,
    extras: Vec<&'static str>,
}

impl Claim {
    /// Whether this is all that the real one has, so that it cannot be told from it. To forge it takes `impersonate` on
    /// uids and userextras, or on the group that skips us, which is not given to anybody but cluster admins.
    fn is_whole(&self) -> bool {
        let is_in = |group| self.groups.contains(&group);
        let node = self.user.starts_with("system:node:") && is_in("system:nodes");
        let component = ["scheduler", "controller-manager"].iter().any(|name| self.user.ends_with(name));
        if self.user.starts_with("system:serviceaccount:") {
            return self.uid && !self.extras.is_empty();
        }
        // These log in by certificate, which has no uid; the API server by a token of its own, which has nothing else.
        let itself = self.user == "system:apiserver" && self.uid;
        is_in(OVERRIDE_GROUP) || itself || ((node || component) && !self.extras.is_empty())
    }

    fn headers(&self, random: &mut Random) -> Vec<(String, String)> {
        let mut headers = vec![("Impersonate-User".to_owned(), self.user.to_owned())];
        headers.extend(self.groups.iter().map(|&group| ("Impersonate-Group".to_owned(), group.to_owned())));
        if self.uid {
            headers.push(("Impersonate-Uid".to_owned(), random.pick(&["0", "7", "admin"]).to_owned()));
        }
        // A slash is none of the characters of a header's name.
        let extras = self.extras.iter().map(|extra| format!("Impersonate-Extra-{}", extra.replace('/', "%2F")));
        headers.extend(extras.map(|name| (name, "kustomize-controller-0".to_owned())));
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_a_whole_proof() {
        for index in 0..20_000 {
            let who = Who::anybody(&mut Random::of(1, index));
            let values = |name: &str| -> Vec<&str> {
                let named = who.headers.iter().filter(|(header, _)| header.starts_with(name));
                named.map(|(_, value)| value.as_str()).collect()
            };
            assert!(!values("Impersonate-Group").contains(&OVERRIDE_GROUP));
            let [user] = values("Impersonate-User")[..] else { continue };
            let both = !values("Impersonate-Uid").is_empty() && !values("Impersonate-Extra").is_empty();
            assert!(!both || !user.starts_with("system:serviceaccount:"), "{who:?}");
        }
    }
}
