//! Where is written to: namespaces that are guarded by their name or by a label, and such as only look so.

/// Guarded, with an object of every kind in each.
pub(super) const FULL: [&str; 4] = ["prod", "prod-fuzz", "fuzz-prod", LABELLED];

/// Guarded by its label alone.
pub(super) const LABELLED: &str = "fuzz-labelled";

/// Guarded, and there is little in them that the scene made.
pub(super) const OTHERS: [&str; 4] = ["staging-fuzz", "flux-system", "breakglass-system", ENDING];

/// A guarded namespace that is being deleted and does not come to its end.
pub(super) const ENDING: &str = "prod-ending";

/// Guarded by their name; they come and go all the time.
pub(super) const COMING: [&str; 3] = ["prod-churn-0", "prod-churn-1", "prod-churn-2"];

/// Guarded by their label, which says prod or staging and changes; they come and go all the time.
pub(super) const TURNING: [&str; 3] = ["fuzz-churn-0", "fuzz-churn-1", "fuzz-churn-2"];

/// Nobody is asked for a token here: what is written here has to land, or the requests are no good.
pub(super) const OPEN: [&str; 2] = ["dev-fuzz", LOOK_ALIKE];

/// Has labels that look as if they guarded it.
pub(super) const LOOK_ALIKE: &str = "fuzz-look-alike";

/// Guarded; alice has a token for it now and then, and nobody else writes there.
pub(super) const UNDER_TOKEN: &str = "prod-alice";

/// Every guarded namespace that nothing may change in.
pub(super) fn guarded() -> impl Iterator<Item = &'static str> {
    FULL.into_iter().chain(OTHERS).chain(COMING).chain(TURNING)
}

/// Whether the namespaces that come and go are meant: what is in them goes with them.
pub(super) fn is_churning(namespace: &str) -> bool {
    COMING.contains(&namespace) || TURNING.contains(&namespace)
}
