//! Area: the namespaces that are looked at where nobody names them: those that the policy guards.

use std::collections::{BTreeMap, BTreeSet};

use breakglass::api::Gate;
use breakglass::rules::Rules;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};

use crate::ctx::Ctx;
use crate::error::Result;
use crate::explain::Doing;
use crate::scan::Where;

/// In how many namespaces each kind is listed one by one; for more, one LIST of everything is fewer requests than it is bytes too
/// many.
const ONE_BY_ONE: usize = 8;

/// How many namespaces are named in a sentence.
const NAMED: usize = 4;

/// The beginning of the names that are kept for Kubernetes itself (website, Namespaces, "Avoid creating namespaces with the
/// prefix kube-").
const KUBERNETES: &str = "kube-";

/// Whether the namespaces of the engines themselves belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engines {
    /// They do.
    Included,
    /// They do not: what applies Git was there before Git.
    LeftOut,
}

/// The namespaces that are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Where to list.
    pub place: Where,
    /// Which of the objects that are listed count; nothing for all that are not Kubernetes' own.
    only: Option<BTreeSet<String>>,
}

impl Area {
    /// Every namespace but those that are kept for Kubernetes itself.
    pub fn everywhere() -> Self {
        Self { place: Where::Everywhere, only: None }
    }

    fn of(namespaces: BTreeSet<String>) -> Self {
        let place = match namespaces.len() {
            0..=ONE_BY_ONE => Where::In(namespaces.iter().cloned().collect()),
            _ => Where::Everywhere,
        };
        Self { place, only: Some(namespaces) }
    }

    /// Whether objects in this namespace count. Those in none never do.
    pub fn has(&self, namespace: Option<&str>) -> bool {
        match (&self.only, namespace) {
            (_, None) => false,
            (Some(only), Some(namespace)) => only.contains(namespace),
            (None, Some(namespace)) => !namespace.starts_with(KUBERNETES),
        }
    }

    /// `in prod and prod-eu`, for a sentence.
    pub fn words(&self) -> String {
        match &self.only {
            None => "in any namespace".to_owned(),
            Some(only) if only.is_empty() => "in any namespace that the policy guards: there is none".to_owned(),
            Some(only) if only.len() <= NAMED => {
                format!("in {}", only.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
            }
            Some(only) => format!("in {} namespaces", only.len()),
        }
    }
}

/// The area of a command: what -n and -A say, else every namespace where the policy demands a token.
///
/// # Errors
/// When namespaces may not be listed, or the cluster does not answer.
pub async fn area(ctx: &Ctx<'_>, rules: &Rules, engines: Engines) -> Result<Area> {
    if ctx.flags.all_namespaces {
        return Ok(Area::everywhere());
    }
    if !ctx.flags.namespaces.is_empty() {
        return Ok(Area::of(ctx.flags.namespaces.iter().cloned().collect()));
    }
    let api = Api::<Namespace>::all(ctx.cluster.client.clone());
    let params = ListParams::default();
    let doing = Doing::Asking("which namespaces there are");
    let list = ctx.cluster.ask_again(doing, || api.list_metadata(&params)).await?;
    let guarded = list.items.into_iter().filter_map(|namespace| {
        let (name, labels) = (namespace.metadata.name?, namespace.metadata.labels.unwrap_or_default());
        is_guarded(rules, engines, (&name, &labels)).then_some(name)
    });
    Ok(Area::of(guarded.collect()))
}

fn is_guarded(rules: &Rules, engines: Engines, (name, labels): (&str, &BTreeMap<String, String>)) -> bool {
    let environment = rules.environment_of(name, labels);
    let of_engines = environment.name == rules.spec().engine_objects.environment;
    environment.writes == Gate::RequireToken && (engines == Engines::Included || !of_engines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_policy_guards_is_looked_at_and_engines_where_they_are_asked_for() {
        let rules = Rules::built_in().unwrap();
        let guarded = |name: &str, engines| is_guarded(&rules, engines, (name, &BTreeMap::new()));
        for (name, left_out, included) in
            [("prod", true, true), ("stage", true, true), ("flux-system", false, true), ("team-a", false, false)]
        {
            let found = (guarded(name, Engines::LeftOut), guarded(name, Engines::Included));
            assert_eq!(found, (left_out, included), "{name}");
        }
    }

    #[test]
    fn an_area_has_the_namespaces_that_it_says() {
        let named = |names: &[&str]| Area::of(names.iter().map(|&name| name.to_owned()).collect());
        let two = named(&["prod", "prod-eu"]);
        assert!(two.has(Some("prod")) && !two.has(Some("dev")) && !two.has(None));
        assert_eq!(
            (two.words().as_str(), &two.place),
            ("in prod, prod-eu", &Where::In(vec!["prod".into(), "prod-eu".into()]))
        );
        let many = named(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]);
        assert_eq!((many.words().as_str(), &many.place), ("in 9 namespaces", &Where::Everywhere));
        let all = Area::everywhere();
        assert!(all.has(Some("dev")) && !all.has(Some("kube-system")) && !all.has(None));
        assert!(named(&[]).words().ends_with("there is none"));
    }
}
