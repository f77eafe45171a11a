//! What I may list, and where: asked once a namespace, so that nobody has to try every kind in every namespace.

use futures::StreamExt;
use k8s_openapi::api::authorization::v1::{ResourceRule, SelfSubjectRulesReview};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams, PostParams};

use crate::connect::Connection;
use crate::discover::Kind;
use crate::scan::PARALLEL;

/// What I may do in each namespace that I can see.
#[derive(Clone, Debug, Default)]
pub struct Rights(Vec<(String, Option<Vec<ResourceRule>>)>);

impl Rights {
    /// Asks about every namespace that I can see; where I may not see any, about the one of my context.
    pub async fn read(cluster: &Connection) -> Self {
        let api = Api::<Namespace>::all(cluster.client.clone());
        let params = ListParams::default();
        let names: Vec<String> = match cluster.patiently(|| api.list_metadata(&params)).await {
            Some(Ok(list)) => list.items.into_iter().filter_map(|namespace| namespace.metadata.name).collect(),
            Some(Err(_)) | None => cluster.namespace.iter().cloned().collect(),
        };
        let rights = futures::stream::iter(names).map(|name| async {
            let rules = rules_in(cluster, &name).await;
            (name, rules)
        });
        Self(rights.buffered(PARALLEL).collect().await)
    }

    /// The namespaces in which I may list a kind, or may be able to.
    pub fn where_listable<'a>(&'a self, kind: &'a Kind) -> impl Iterator<Item = &'a str> {
        let may = move |rules: &Option<Vec<ResourceRule>>| {
            // What is not known is tried.
            rules.as_ref().is_none_or(|rules| rules.iter().any(|rule| allows(rule, kind)))
        };
        self.0.iter().filter(move |(_, rules)| may(rules)).map(|(name, _)| name.as_str())
    }
}

/// My rules in a namespace; nothing where the server does not know all of them itself.
async fn rules_in(cluster: &Connection, namespace: &str) -> Option<Vec<ResourceRule>> {
    let api = Api::<SelfSubjectRulesReview>::all(cluster.client.clone());
    let mut review = SelfSubjectRulesReview::default();
    review.spec.namespace = Some(namespace.to_owned());
    let params = PostParams::default();
    let answer = cluster.patiently(|| api.create(&params, &review)).await?.ok()?;
    let status = answer.status?;
    (!status.incomplete).then_some(status.resource_rules)
}

fn allows(rule: &ResourceRule, kind: &Kind) -> bool {
    let has = |words: &[String], word: &str| words.iter().any(|one| one == "*" || one == word);
    let has_any = |words: &Option<Vec<String>>, word: &str| words.as_ref().is_some_and(|words| has(words, word));
    has(&rule.verbs, "list")
        && has_any(&rule.api_groups, &kind.resource.group)
        && has_any(&rule.resources, &kind.resource.plural)
        && rule.resource_names.as_ref().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_listed_where_a_rule_says_so_and_where_nobody_knows() {
        let rule = |groups: &[&str], resources: &[&str], verbs: &[&str], names: &[&str]| -> ResourceRule {
            let rule = serde_json::json!({
                "apiGroups": groups, "resources": resources, "verbs": verbs, "resourceNames": names});
            serde_json::from_value(rule).unwrap()
        };
        let rights = Rights(vec![
            ("exact".into(), Some(vec![rule(&["apps"], &["deployments"], &["get", "list"], &[])])),
            ("all".into(), Some(vec![rule(&["*"], &["*"], &["*"], &[])])),
            ("unknown".into(), None),
            ("none".into(), Some(vec![])),
            ("other-group".into(), Some(vec![rule(&[""], &["deployments"], &["list"], &[])])),
            ("other-verb".into(), Some(vec![rule(&["apps"], &["deployments"], &["get"], &[])])),
            ("named".into(), Some(vec![rule(&["apps"], &["deployments"], &["list"], &["api"])])),
        ]);
        assert_eq!(
            rights.where_listable(&Kind::in_apps("Deployment")).collect::<Vec<_>>(),
            ["exact", "all", "unknown"]
        );
    }
}
