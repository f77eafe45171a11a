//! Who can obtain an identity, and how: one step of RBAC from whom a binding names to whom breakglass lets write untouched.
//! Pure.

use std::collections::BTreeSet;

use crate::identities::{self, Class, Identity, Proof, Who};
use crate::rbac::{Rbac, Subject, Through};

// The rights that each way takes.
mod ways;
// What is bound, and what it is good for.
#[cfg(test)]
mod tests;

pub use ways::{Power, Way, Ways};
use ways::{power, ways};

/// The group that has every right, whatever RBAC says.
pub const MASTERS: &str = "system:masters";

/// The group of those who are about to become nodes; with `:` and more after it, of some of them.
const BOOTSTRAPPERS: &str = "system:bootstrappers";

/// What somebody can obtain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gain<'a> {
    /// Every right, and so every identity.
    Everything(Power, BTreeSet<&'a Through>),
    /// These identities.
    Identities(Ways<'a>, Vec<&'a Identity>),
    /// Others who have every right.
    Powerful(Ways<'a>, Vec<&'a Subject>),
    /// Nothing but the names of these identities.
    Names(BTreeSet<&'a Through>, Vec<&'a Identity>),
}

/// Who can obtain what.
#[derive(Debug, Default)]
pub struct Reach<'a> {
    /// Those of whom it is not expected.
    pub gains: Vec<(&'a Subject, Gain<'a>)>,
    /// How many there are of whom it is: the identities themselves, and what belongs to an engine.
    pub expected: usize,
}

/// Looks at everybody whom a binding names.
pub fn reach<'a>(rbac: &'a Rbac, identities: &'a [Identity]) -> Reach<'a> {
    let powerful: Vec<(&Subject, Identity)> = rbac
        .subjects()
        .filter(|subject| power(&rbac.of(subject)).is_some())
        .flat_map(|subject| with_every_right(subject).map(move |identity| (subject, identity)))
        .collect();
    let mut reach = Reach::default();
    for subject in rbac.subjects() {
        let gains = gains(rbac, subject, identities, &powerful);
        let expected = *subject == Subject::group(MASTERS)
            || identities.iter().any(|identity| identity.covers(subject))
            || (is_bootstrapper(subject) && gains.iter().all(is_only_joining));
        if expected {
            reach.expected += usize::from(!gains.is_empty());
        } else {
            reach.gains.extend(gains.into_iter().map(|gain| (subject, gain)));
        }
    }
    reach
}

/// What the subject can obtain that the groups which the API server puts it in cannot: that is said of the groups.
fn gains<'a>(
    rbac: &'a Rbac,
    subject: &Subject,
    identities: &'a [Identity],
    powerful: &[(&'a Subject, Identity)],
) -> Vec<Gain<'a>> {
    let (has, groups) = (rbac.of(subject), rbac.of_groups(subject));
    match (power(&groups), power(&has)) {
        (Some(_), _) => return Vec::new(),
        (None, Some((power, through))) => return vec![Gain::Everything(power, through)],
        (None, None) => {}
    }
    let own = |identity: &Identity| {
        let mut own = ways(&has, identity);
        if !own.is_empty() {
            let theirs = ways(&groups, identity);
            own.retain(|way, _| !theirs.contains_key(way));
        }
        let name = own.remove(&Way::ImpersonateName);
        (own, name)
    };
    let mut names = (BTreeSet::new(), Vec::new());
    let obtained = identities.iter().filter(|identity| !identity.is(subject)).filter_map(|identity| {
        let (ways, name) = own(identity);
        if let (true, Some(through)) = (ways.is_empty(), name) {
            names.0.extend(through);
            names.1.push(identity);
        }
        Some((ways, identity)).filter(|(ways, _)| !ways.is_empty())
    });
    let obtained = together(obtained);
    let told: BTreeSet<&Through> = obtained.iter().flat_map(|(ways, _)| ways.values().flatten().copied()).collect();
    // The rights of these are enough to obtain anybody.
    let others = powerful.iter().filter_map(|(other, identity)| {
        let (mut ways, _) = own(identity);
        // Few have a Secret with a token, and which of them is not to be seen in RBAC.
        ways.remove(&Way::ReadSecrets);
        // What is to be undone was said already where the same bindings lead to both.
        let new = ways.values().flatten().any(|through| !told.contains(through));
        Some((ways, *other)).filter(|_| new)
    });
    let mut others = together(others);
    // A group may be obtained in two ways at once: by its name, and as one of its members.
    others.iter_mut().for_each(|(_, others)| others.dedup());
    if obtained.is_empty() && others.is_empty() && !names.1.is_empty() {
        return vec![Gain::Names(names.0, names.1)];
    }
    let obtained = obtained.into_iter().map(|(ways, identities)| Gain::Identities(ways, identities));
    obtained.chain(others.into_iter().map(|(ways, others)| Gain::Powerful(ways, others))).collect()
}

/// Those that have the same answer, such as all controllers, are one.
fn together<'a, T>(items: impl Iterator<Item = (Ways<'a>, T)>) -> Vec<(Ways<'a>, Vec<T>)> {
    let mut groups: Vec<(Ways<'a>, Vec<T>)> = Vec::new();
    for (ways, item) in items {
        match groups.iter_mut().find(|(same, _)| *same == ways) {
            Some((_, items)) => items.push(item),
            None => groups.push((ways, vec![item])),
        }
    }
    groups
}

/// For their rights the name is enough.
fn with_every_right(subject: &Subject) -> impl Iterator<Item = Identity> {
    let whos = match subject.clone() {
        Subject::Group { name } => identities::group(&name),
        Subject::ServiceAccount { namespace, name } => vec![Who::Account { namespace, name }],
        Subject::User { name } => vec![Who::User(name)],
    };
    let identity = |who| Identity { family: String::new(), who, proof: Proof::Name, class: Class::Narrowed };
    whos.into_iter().map(identity)
}

fn is_bootstrapper(subject: &Subject) -> bool {
    let Subject::Group { name } = subject else { return false };
    name.strip_prefix(BOOTSTRAPPERS).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

fn is_only_joining(gain: &Gain<'_>) -> bool {
    matches!(gain, Gain::Identities(ways, _) if ways.keys().eq([&Way::Join]))
}
