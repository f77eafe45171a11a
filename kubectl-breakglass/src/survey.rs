//! Survey: everything that doctor looks at, read once. What may not be read is said, and left out.

use std::collections::BTreeMap;

use breakglass::report::LABEL;
use chrono::{DateTime, Utc};
use futures::join;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Resource;
use kube::api::{Api, ListParams, PostParams};
use serde::de::DeserializeOwned;

use crate::checks::certificates::SECRET;
use crate::checks::deployment::Running;
use crate::checks::leader::LEASE;
use crate::checks::{NAME, crds};
use crate::connect::Connection;
use crate::error::{CommandError, Result};
use crate::explain::Doing;
use crate::ledger::{self, Keep, Record, Which};
use crate::rbac::Listed;
use crate::scan::PAGE;
use breakglass::api::{GROUP, HOME_NAMESPACE as HOME};

/// The pods of the webhook, and what leads to them.
const PODS: &str = "app.kubernetes.io/name=breakglass";

/// What was read. What is `None` could not be.
#[derive(Default)]
pub struct Survey {
    /// The API server's clock.
    pub now: DateTime<Utc>,
    /// The API server's version.
    pub server: Option<String>,
    /// The definitions of our kinds.
    pub definitions: Option<Vec<Option<CustomResourceDefinition>>>,
    /// All configurations of mutating webhooks.
    pub mutating: Option<Vec<MutatingWebhookConfiguration>>,
    /// All configurations of validating webhooks.
    pub validating: Option<Vec<ValidatingWebhookConfiguration>>,
    /// What runs.
    pub running: Option<Running>,
    /// What the API server calls; and where that leads.
    pub service: Option<(Option<Service>, Vec<EndpointSlice>)>,
    /// The certificates.
    pub secret: Option<Option<BTreeMap<String, Vec<u8>>>>,
    /// The replicas' reports.
    pub reports: Option<Vec<Lease>>,
    /// Who leads.
    pub lead: Option<Option<Lease>>,
    /// All roles and bindings; `None` where one kind of them could not be read.
    pub rights: Option<Listed>,
    /// Those of them that could be read.
    pub some_rights: Listed,
    /// The APIs of other servers.
    pub services: Option<Vec<APIService>>,
    /// The API server's metrics.
    pub metrics: Option<String>,
    /// The changes that are not settled.
    pub records: Option<Vec<Record>>,
    /// Whether I may open tokens.
    pub may_open: Option<bool>,
    /// What could not be read.
    pub failures: Vec<CommandError>,
}

impl Survey {
    /// Whether nothing of breakglass is there.
    pub fn is_bare(&self) -> bool {
        let kinds = self.definitions.as_ref().is_some_and(|all| all.iter().all(Option::is_none));
        let home = self.running.as_ref().is_some_and(|running| running.namespace.is_none() && !running.is_registered);
        kinds && home
    }
}

/// Reads everything.
///
/// # Errors
/// When the cluster does not answer at all.
pub async fn survey(cluster: &Connection) -> Result<Survey> {
    let now = clock(cluster).await?;
    let mut survey = Survey { now, ..Survey::default() };
    let kinds = futures::future::join_all(crds::names().map(|name| {
        one(
            cluster,
            Api::<CustomResourceDefinition>::all(cluster.client.clone()),
            name,
            "for the definitions of our kinds",
        )
    }));
    let (server, definitions, mutating, validating, services) = join!(
        cluster.ask(Doing::Asking("for the version"), cluster.client.apiserver_version()),
        kinds,
        all::<MutatingWebhookConfiguration>(cluster, "for the MutatingWebhookConfigurations"),
        all::<ValidatingWebhookConfiguration>(cluster, "for the ValidatingWebhookConfigurations"),
        all(cluster, "for the APIServices"),
    );
    let failures = &mut survey.failures;
    survey.server = seen(server, failures).map(|info| info.git_version);
    survey.definitions = seen(definitions.into_iter().collect::<Result<Vec<_>>>(), failures);
    survey.mutating = seen(mutating, failures);
    survey.validating = seen(validating, failures);
    survey.services = seen(services, failures);
    rights(cluster, &mut survey).await;
    home(cluster, &mut survey).await;
    let which = Which::default();
    let (metrics, records, may_open) =
        join!(metrics(cluster), ledger::read(cluster, &which, Keep::Lines), may_open(cluster));
    survey.metrics = metrics;
    survey.records = records.ok().map(|ledger| ledger.records);
    survey.may_open = may_open;
    Ok(survey)
}

/// The API server's clock: it writes the time into what it is asked here, and keeps nothing.
async fn clock(cluster: &Connection) -> Result<DateTime<Utc>> {
    let api = Api::<SelfSubjectReview>::all(cluster.client.clone());
    let (params, question) = (PostParams::default(), SelfSubjectReview::default());
    let answer = cluster.ask(Doing::Asking("who you are"), api.create(&params, &question)).await?;
    let time = answer.metadata.creation_timestamp.map(|time| time.0.to_string());
    let time = time.and_then(|time| DateTime::parse_from_rfc3339(&time).ok());
    Ok(time.map_or_else(Utc::now, |time| time.to_utc()))
}

async fn rights(cluster: &Connection, survey: &mut Survey) {
    let (cluster_roles, roles, cluster_role_bindings, role_bindings) = join!(
        all(cluster, "for the ClusterRoles"),
        all(cluster, "for the Roles"),
        all(cluster, "for the ClusterRoleBindings"),
        all(cluster, "for the RoleBindings"),
    );
    let (before, failures) = (survey.failures.len(), &mut survey.failures);
    let listed = Listed {
        cluster_roles: seen(cluster_roles, failures).unwrap_or_default(),
        roles: seen(roles, failures).unwrap_or_default(),
        cluster_role_bindings: seen(cluster_role_bindings, failures).unwrap_or_default(),
        role_bindings: seen(role_bindings, failures).unwrap_or_default(),
    };
    survey.rights = (failures.len() == before).then(|| listed.clone());
    survey.some_rights = listed;
}

/// What is in the webhook's namespace.
async fn home(cluster: &Connection, survey: &mut Survey) {
    let reports = format!("{LABEL}=true");
    let slices = format!("kubernetes.io/service-name={NAME}");
    let (namespace, deployment, pods, disruption, account, service, slices, secret, reports, lead) = join!(
        one(cluster, Api::<Namespace>::all(cluster.client.clone()), HOME, "for the webhook's namespace"),
        one(cluster, at_home(cluster), NAME, "for the webhook's Deployment"),
        labelled(cluster, PODS, "for the webhook's pods"),
        one(cluster, at_home(cluster), NAME, "for the webhook's PodDisruptionBudget"),
        one(cluster, at_home(cluster), NAME, "for the webhook's service account"),
        one(cluster, at_home::<Service>(cluster), NAME, "for the webhook's Service"),
        labelled::<EndpointSlice>(cluster, &slices, "for the webhook's EndpointSlices"),
        one(cluster, at_home::<Secret>(cluster), SECRET, "for the webhook's certificates"),
        labelled::<Lease>(cluster, &reports, "for the replicas' reports"),
        one(cluster, at_home::<Lease>(cluster), LEASE, "for the leader's Lease"),
    );
    let is_registered = survey.validating.iter().flatten().any(is_breakglass);
    let failures = &mut survey.failures;
    let before = failures.len();
    let running = Running {
        namespace: seen(namespace, failures).flatten(),
        deployment: seen(deployment, failures).flatten(),
        pods: seen(pods, failures).unwrap_or_default(),
        disruption: seen(disruption, failures).flatten(),
        account: seen(account, failures).flatten(),
        is_registered,
    };
    survey.running = (failures.len() == before).then_some(running);
    survey.service = seen(service, failures).zip(seen(slices, failures));
    survey.reports = seen(reports, failures);
    survey.lead = seen(lead, failures);
    // Few may read Secrets, and that is as it should be: a note says what was not looked at.
    survey.secret = secret.ok().map(|secret| {
        let data = secret.map(|secret| secret.data.unwrap_or_default());
        data.map(|data| data.into_iter().map(|(key, value)| (key, value.0)).collect())
    });
}

fn is_breakglass<K: Resource>(object: &K) -> bool {
    object.meta().name.as_deref() == Some(breakglass::register::NAME)
}

fn at_home<K>(cluster: &Connection) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(cluster.client.clone(), HOME)
}

async fn one<K>(cluster: &Connection, api: Api<K>, name: &str, what: &'static str) -> Result<Option<K>>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned,
{
    cluster.ask_again(Doing::Asking(what), || api.get_opt(name)).await
}

async fn labelled<K>(cluster: &Connection, labels: &str, what: &'static str) -> Result<Vec<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let (api, params) = (at_home::<K>(cluster), ListParams::default().labels(labels));
    Ok(cluster.ask_again(Doing::Asking(what), || api.list(&params)).await?.items)
}

/// The API server's metrics; nothing where they may not be read.
pub async fn metrics(cluster: &Connection) -> Option<String> {
    let request = http::Request::get("/metrics").body(Vec::new()).ok()?;
    cluster.bounded(cluster.client.request_text(request)).await?.ok()
}

async fn may_open(cluster: &Connection) -> Option<bool> {
    let api = Api::<SelfSubjectAccessReview>::all(cluster.client.clone());
    let mut review = SelfSubjectAccessReview::default();
    review.spec.resource_attributes = Some(ResourceAttributes {
        group: Some(GROUP.to_owned()),
        resource: Some("breakglasstokens".to_owned()),
        verb: Some("create".to_owned()),
        ..ResourceAttributes::default()
    });
    let params = PostParams::default();
    let answer = cluster.patiently(|| api.create(&params, &review)).await?.ok()?;
    answer.status.map(|status| status.allowed)
}

fn seen<T>(answer: Result<T>, failures: &mut Vec<CommandError>) -> Option<T> {
    answer.map_err(|error| failures.push(error)).ok()
}

/// All objects of a kind, in all namespaces, page by page.
async fn all<K>(cluster: &Connection, what: &'static str) -> Result<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let api = Api::<K>::all(cluster.client.clone());
    let mut params = ListParams::default().limit(PAGE);
    let mut objects = Vec::new();
    let mut restarted = false;
    loop {
        let page = async || match api.list(&params).await {
            Ok(page) => Ok(Some(page)),
            // The list grew old while it was read. Once more from the start; twice is no accident.
            Err(kube::Error::Api(status)) if status.code == 410 && !restarted => Ok(None),
            Err(error) => Err(error),
        };
        let Some(page) = cluster.ask_again(Doing::Asking(what), page).await? else {
            restarted = true;
            objects.clear();
            params.continue_token = None;
            continue;
        };
        objects.extend(page.items);
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(objects);
        }
    }
}
