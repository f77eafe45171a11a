//! Outcome: how a change has ended, as its object shows; or that it has not.
//!
//! Nothing ends because somebody says so, and nothing because a later change stands over it: as long as that one may be put
//! back, what it would be put back to is owed for.

use serde_json::Value;

use crate::api::{BreakglassChangeSpec, Operation, Outcome, Verdict};
use crate::diff::patched;
use crate::hold::without_hold;
use crate::put_back::{are_put_back, is_controlled};
use crate::record::without_notes;
use crate::remains::{Field, Left, Remains};

/// What is seen of the object of a change.
#[derive(Clone, Copy)]
pub struct Seen<'s> {
    /// The object as it is now, in the form of a record, and its uid.
    pub now: Option<(&'s str, &'s Value)>,
    /// Whether a GitOps engine has applied the field at this pointer, with the value that it has; of the whole object, whether
    /// an engine applies it at all.
    pub applied: &'s dyn Fn(&str) -> bool,
    /// The changes that were made before this one and are rejected as well, the latest first: they are put back together.
    pub rejected: &'s [BreakglassChangeSpec],
    /// What was done to the object later, and may yet be put back: then what it would be put back to is owed for.
    pub later: Later,
    /// Whether the engine still means to apply the object.
    pub in_inventory: bool,
    /// Whether the engine has applied the very commit that is proven to say what was accepted.
    pub commit_applied: bool,
}

/// What changes that are not settled did to an object after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// There are none.
    Nothing,
    /// They wrote to it.
    Wrote,
    /// One of them took it away.
    TookAway,
}

impl Seen<'_> {
    fn is_gone(&self, change: &BreakglassChangeSpec) -> bool {
        self.now.is_none_or(|(uid, _)| change.target.uid.as_deref().is_some_and(|target| target != uid))
    }
}

/// How the change has ended, if it has.
pub fn outcome(change: &BreakglassChangeSpec, verdict: Option<Verdict>, seen: &Seen<'_>) -> Option<Outcome> {
    if verdict == Some(Verdict::Rejected) {
        let changes: Vec<&BreakglassChangeSpec> = [change].into_iter().chain(seen.rejected).collect();
        if (1..=changes.len()).any(|count| are_put_back(&changes[..count], seen.now)) {
            return Some(Outcome::PutBack);
        }
    }
    let made_below = change.before.is_none() && change.subresource.is_some();
    match change.operation {
        Operation::Delete | Operation::Evict => of_delete(change, verdict, seen),
        // What was done in it went with it.
        Operation::Exec => seen.is_gone(change).then_some(Outcome::Gone),
        Operation::Create if made_below => seen.is_gone(change).then_some(Outcome::Gone),
        Operation::Create => of_create(change, seen),
        Operation::Update | Operation::Scale => of_update(change, seen),
    }
}

fn of_delete(change: &BreakglassChangeSpec, verdict: Option<Verdict>, seen: &Seen<'_>) -> Option<Outcome> {
    let before = change.before.as_ref()?;
    if !seen.is_gone(change) {
        return None;
    }
    let is_decided = matches!(verdict, Some(Verdict::Accepted | Verdict::Rejected));
    // Git knows nothing of what a controller makes, and makes again.
    if is_controlled(before) {
        return is_decided.then_some(Outcome::Gone);
    }
    let Some((_, now)) = seen.now else {
        return match verdict {
            Some(Verdict::Accepted) if change.engine_owner.is_none() => Some(Outcome::Gone),
            Some(Verdict::Accepted) if !seen.in_inventory => Some(Outcome::InGit),
            Some(Verdict::Accepted | Verdict::Rejected | Verdict::Deferred) | None => None,
        };
    };
    if (seen.applied)("") {
        return Some(Outcome::UndoneByEngine);
    }
    let same = !change.truncated && without_notes(before.clone()) == without_notes(now.clone());
    let how = if same { Outcome::Undone } else { Outcome::Superseded };
    (seen.later == Later::Nothing).then_some(how)
}

fn of_create(change: &BreakglassChangeSpec, seen: &Seen<'_>) -> Option<Outcome> {
    let Some((_, now)) = seen.now.filter(|_| !seen.is_gone(change)) else {
        return (seen.later != Later::TookAway).then_some(Outcome::Gone);
    };
    if change.truncated {
        return None;
    }
    let after = without_notes(patched(None, &change.patch)?);
    let remains = Remains::of(&Value::Object(serde_json::Map::new()), &after, &without_notes(now.clone()));
    let applied = |left: Left| remains.that_are(left).any(|field| is_body(field) && (seen.applied)(&field.pointer));
    if applied(Left::Other) {
        return Some(Outcome::Superseded);
    }
    applied(Left::There).then_some(Outcome::InGit)
}

/// Whether a field says what the object is, and not how it is called.
fn is_body(field: &Field) -> bool {
    !field.name.starts_with("/metadata") && field.name != "/kind" && field.name != "/apiVersion"
}

fn of_update(change: &BreakglassChangeSpec, seen: &Seen<'_>) -> Option<Outcome> {
    let Some((_, now)) = seen.now else { return (seen.later != Later::TookAway).then_some(Outcome::Gone) };
    if change.truncated {
        return None;
    }
    // What holds the object is no part of what was changed in it.
    let plain = |object: Value| without_notes(if change.hold { without_hold(object) } else { object });
    let before = plain(change.before.clone()?);
    let after = plain(patched(change.before.as_ref(), &change.patch)?);
    let now = plain(now.clone());
    let remains = Remains::of(&before, &after, &now);
    let fields = |left: Left| -> Vec<&Field> { remains.that_are(left).collect() };
    let (back, there, other) = (fields(Left::Back), fields(Left::There), fields(Left::Other));
    let is_there = |field: &&&Field| now.pointer(&field.pointer).is_some();
    let applied = |field: &&Field| (seen.applied)(&field.pointer);
    match (&back[..], &there[..], &other[..]) {
        ([], [], []) => None,
        ([_, ..], [], []) => {
            // A field that is away is nobody's.
            let mut present = back.iter().filter(is_there).peekable();
            let by_engine = if present.peek().is_some() { present.any(applied) } else { (seen.applied)("") };
            match seen.later {
                _ if by_engine => Some(Outcome::UndoneByEngine),
                Later::Nothing => Some(Outcome::Undone),
                Later::Wrote | Later::TookAway => None,
            }
        }
        ([], [_, ..], []) => {
            let mut present = there.iter().filter(is_there).peekable();
            // A field that is away is nobody's: of that it is away in Git as well, the commit is the proof.
            let in_git = if present.peek().is_some() { present.all(applied) } else { seen.commit_applied };
            in_git.then_some(Outcome::InGit)
        }
        (_, [], [_, ..]) => other.iter().all(applied).then_some(Outcome::Superseded),
        (_, [_, ..], _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::put_back::tests::change;
    use serde_json::json;

    /// There is no such object, and nobody has done anything about it.
    const NOTHING: Seen<'static> = Seen {
        now: None,
        applied: &|_| false,
        rejected: &[],
        later: Later::Nothing,
        in_inventory: false,
        commit_applied: false,
    };

    fn object(replicas: i64, image: &str) -> Value {
        json!({"metadata": {"name": "api"}, "spec": {"replicas": replicas, "image": image}})
    }

    /// What is said of a change whose object is `now`, where an engine applied what `applied` lists.
    #[track_caller]
    fn check(
        change: &BreakglassChangeSpec,
        verdict: Option<Verdict>,
        (now, applied): (Option<(&str, Value)>, &[&str]),
        expected: Option<Outcome>,
    ) {
        let applies = |pointer: &str| applied.contains(&pointer);
        let now = now.as_ref().map(|(uid, now)| (*uid, now));
        let seen = Seen { now, applied: &applies, in_inventory: true, ..NOTHING };
        assert_eq!(outcome(change, verdict, &seen), expected, "{verdict:?} {now:?} {applied:?}");
    }

    #[test]
    fn an_update_ends_when_the_engine_has_written_its_fields() {
        let update = change("Update", object(1, "a"), object(3, "b"));
        let both = ["/spec/replicas", "/spec/image", ""];
        let live = |replicas, image| Some(("u", object(replicas, image)));
        for (now, applied, expected) in [
            (live(3, "b"), &[][..], None),
            (live(3, "b"), &["/spec/replicas", ""], None),
            (live(3, "b"), &both, Some(Outcome::InGit)),
            (live(1, "a"), &both, Some(Outcome::UndoneByEngine)),
            (live(1, "a"), &[], Some(Outcome::Undone)),
            (live(1, "b"), &both, None),
            (live(4, "c"), &both, Some(Outcome::Superseded)),
            (live(4, "c"), &["/spec/image", ""], None),
            (live(4, "a"), &["/spec/replicas"], Some(Outcome::Superseded)),
            (live(4, "b"), &both, None),
            (None, &[], Some(Outcome::Gone)),
        ] {
            check(&update, None, (now, applied), expected);
        }
        check(&update, Some(Verdict::Rejected), (live(1, "a"), &both), Some(Outcome::PutBack));
    }

    #[test]
    fn an_update_of_what_a_pending_delete_took_away_is_owed() {
        let update = change("Update", object(1, "a"), object(3, "b"));
        let seen = Seen { later: Later::TookAway, ..NOTHING };
        assert_eq!(outcome(&update, None, &seen), None);
    }

    #[test]
    fn what_a_pending_change_made_of_it_is_no_end() {
        let update = change("Update", object(1, "a"), object(3, "b"));
        let now = object(1, "a");
        for (applied, expected) in [(false, None), (true, Some(Outcome::UndoneByEngine))] {
            let applies = |_: &str| applied;
            let seen = Seen { now: Some(("u", &now)), applied: &applies, later: Later::Wrote, ..NOTHING };
            assert_eq!(outcome(&update, None, &seen), expected);
        }
        let delete = change("Delete", object(1, "a"), json!(null));
        let seen = Seen { now: Some(("v", &now)), later: Later::Wrote, ..NOTHING };
        assert_eq!(outcome(&delete, None, &seen), None);
    }

    #[test]
    fn a_field_that_came_with_the_change_is_back_when_it_is_away() {
        let added = change("Update", json!({"spec": {}}), json!({"spec": {"paused": true}}));
        check(&added, None, (Some(("u", json!({"spec": {}}))), &[""]), Some(Outcome::UndoneByEngine));
        check(&added, None, (Some(("u", json!({"spec": {}}))), &[]), Some(Outcome::Undone));
        // That it is away is no proof that Git says so.
        let removed = change("Update", json!({"spec": {"paused": true}}), json!({"spec": {}}));
        check(&removed, Some(Verdict::Accepted), (Some(("u", json!({"spec": {}}))), &[""]), None);
        let now = json!({"spec": {}});
        let seen = Seen { now: Some(("u", &now)), in_inventory: true, commit_applied: true, ..NOTHING };
        assert_eq!(outcome(&removed, Some(Verdict::Accepted), &seen), Some(Outcome::InGit));
    }

    #[test]
    fn a_create_ends_when_the_engine_applies_the_object_or_it_is_gone() {
        let create = change("Create", json!(null), object(1, "a"));
        let live = |replicas| Some(("u", object(replicas, "a")));
        for (verdict, now, applied, expected) in [
            (None, live(1), &[][..], None),
            (None, live(1), &["/spec/image"], Some(Outcome::InGit)),
            (None, live(1), &["/metadata/name"], None),
            (None, live(2), &["/spec/replicas"], Some(Outcome::Superseded)),
            (None, None, &[], Some(Outcome::Gone)),
            (None, Some(("v", object(1, "a"))), &[], Some(Outcome::Gone)),
            (Some(Verdict::Rejected), None, &[], Some(Outcome::PutBack)),
        ] {
            check(&create, verdict, (now, applied), expected);
        }
    }

    #[test]
    fn a_delete_ends_when_the_object_is_there_again_or_git_has_none() {
        let mut delete = change("Delete", object(1, "a"), json!(null));
        let again = || Some(("v", object(1, "a")));
        let accepted = Some(Verdict::Accepted);
        for (verdict, now, applied, expected) in [
            (None, None, &[][..], None),
            (None, Some(("u", object(1, "a"))), &[], None),
            (None, again(), &[""], Some(Outcome::UndoneByEngine)),
            (None, again(), &[], Some(Outcome::Undone)),
            (None, Some(("v", object(2, "a"))), &[], Some(Outcome::Superseded)),
            (Some(Verdict::Rejected), again(), &[], Some(Outcome::PutBack)),
            (accepted, None, &[], Some(Outcome::Gone)),
        ] {
            check(&delete, verdict, (now, applied), expected);
        }
        // An engine that still means to apply it will make it again.
        delete.engine_owner = Some("Kustomization flux-system/prod".to_owned());
        check(&delete, accepted, (None, &[]), None);
        let seen = Seen { later: Later::TookAway, ..NOTHING };
        assert_eq!(outcome(&delete, accepted, &seen), Some(Outcome::InGit));
    }

    #[test]
    fn what_was_done_in_a_pod_ends_with_it() {
        let mut exec = change("Exec", json!(null), json!({"command": ["sh"]}));
        exec.subresource = Some("exec".to_owned());
        check(&exec, None, (Some(("u", object(1, "a"))), &[]), None);
        check(&exec, None, (Some(("v", object(1, "a"))), &[]), Some(Outcome::Gone));
        let owners = json!([{"kind": "ReplicaSet", "name": "api-1", "controller": true}]);
        let evict = change("Evict", json!({"metadata": {"name": "api", "ownerReferences": owners}}), json!(null));
        check(&evict, None, (None, &[]), None);
        check(&evict, Some(Verdict::Accepted), (None, &[]), Some(Outcome::Gone));
    }
}
