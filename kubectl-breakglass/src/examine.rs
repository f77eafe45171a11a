//! Examine: all checks over one survey, in the order of the page that doctor prints. Pure.

use breakglass::register::NAME as REGISTERED;
use breakglass::rules::Rules;
use chrono::{DateTime, Utc};
use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Resource;

use crate::checks::access::{Sight, access};
use crate::checks::certificates::{Certificates, certificates};
use crate::checks::crds::crds;
use crate::checks::debt::debt;
use crate::checks::deployment::deployment;
use crate::checks::drift::drift;
use crate::checks::leader::leader;
use crate::checks::metrics::metrics;
use crate::checks::policy::policy;
use crate::checks::registration::registration;
use crate::checks::replicas::{Replica, own_clock, replicas};
use crate::checks::rights::{own, rights};
use crate::checks::service::service;
use crate::checks::versions::{OURS, Versions, versions};
use crate::checks::{Finding, Level, Mend, unseen};
use crate::error::CommandError;
use crate::identities::exempt;
use crate::in_force::InForce;
use crate::rbac::Rbac;
use crate::survey::Survey;

/// The label of a configuration with the version of the webhook that wrote it.
const VERSION_LABEL: &str = "app.kubernetes.io/version";

/// The annotation by which cert-manager knows whose bundles it writes.
const INJECTED: &str = "cert-manager.io/inject-ca-from";

/// The number of replicas that is built in.
const REPLICAS: i32 = 2;

/// All findings. `mine` is this machine's clock at about the moment of the survey's.
pub fn examine(survey: &Survey, in_force: &Result<InForce, CommandError>, mine: DateTime<Utc>) -> Vec<Finding> {
    if survey.is_bare() {
        return vec![Finding::bare()];
    }
    let built_in = Rules::built_in().ok();
    let rules = in_force.as_ref().ok().map(|policy| &policy.rules).or(built_in.as_ref());
    let reports: Vec<Replica> = survey.reports.iter().flatten().map(Replica::read).collect();
    let known = known_versions(survey, &reports);
    let running = survey.running.as_ref();
    let live = running.and_then(|running| running.deployment.as_ref());
    let mend = mend(live, known.are_ours());

    let mut findings = versions(&known, &mend);
    findings.extend(survey.definitions.iter().flat_map(|found| crds(found, &mend)));
    findings.extend(policy(in_force));
    findings.extend(running.iter().flat_map(|running| deployment(running, &mend)));
    let labels = live.and_then(|live| live.spec.as_ref()?.template.metadata.as_ref()?.labels.as_ref());
    let there = running.is_none_or(|running| running.namespace.is_some());
    if let Some((found, slices)) = survey.service.as_ref().filter(|_| there) {
        findings.extend(service(found.as_ref(), slices, labels, &mend));
    }
    if survey.mutating.is_some() || survey.validating.is_some() {
        findings.extend(certificates(&known_certificates(survey, live), survey.now).into_iter().filter(|_| there));
    }
    findings
        .extend(rules.iter().flat_map(|rules| registered(survey, rules, known.are_ours() && in_force.is_ok(), &mend)));
    if survey.reports.is_some() && there {
        let wanted = live.and_then(|live| live.spec.as_ref()?.replicas).unwrap_or(REPLICAS);
        findings.extend(replicas(&reports, wanted, survey.now));
    }
    if let Some(lead) = survey.lead.as_ref().filter(|_| there) {
        let pods = running.iter().flat_map(|running| &running.pods).filter_map(|pod| pod.metadata.name.clone());
        let reporting =
            reports.iter().filter(|replica| replica.is_fresh(survey.now)).map(|replica| replica.name.clone());
        findings.extend(leader(lead.as_ref(), &pods.chain(reporting).collect::<Vec<_>>(), survey.now));
    }
    findings.extend(own_clock(mine, survey.now));
    if let Some(listed) = survey.rights.as_ref().filter(|_| mend.same_version) {
        findings.extend(rights(listed, &mend));
    }
    findings.extend(survey.may_open.and_then(own));
    let sight = if survey.rights.is_some() { Sight::Whole } else { Sight::Part };
    findings
        .extend(rules.iter().flat_map(|rules| access(&Rbac::new(survey.some_rights.clone()), &exempt(rules), sight)));
    findings.extend(survey.services.iter().flat_map(|services| unseen::aggregated(services)));
    findings.extend(survey.mutating.iter().flat_map(|mutating| unseen::later_webhooks(mutating)));
    findings.extend(unseen::always());
    findings.extend(metrics(survey.metrics.as_deref()));
    findings.extend(survey.records.iter().flat_map(|records| debt(records, survey.now)));
    findings
}

impl Finding {
    /// Nothing of breakglass is there.
    fn bare() -> Self {
        let message = "breakglass is not installed in this cluster: nothing is guarded";
        Self::new(Level::Problem, "deployment", message).hint(Mend::default().install())
    }
}

fn ours<K: Resource>(objects: &[K]) -> Option<&K> {
    objects.iter().find(|object| object.meta().name.as_deref() == Some(REGISTERED))
}

fn known_versions(survey: &Survey, reports: &[Replica]) -> Versions {
    let fresh = reports.iter().filter(|replica| replica.is_fresh(survey.now));
    let replicas = fresh.filter_map(|replica| Some((replica.name.clone(), replica.report.as_ref()?.version.clone())));
    let registered = survey.validating.as_deref().and_then(ours);
    let labels = registered.and_then(|configuration| configuration.metadata.labels.as_ref());
    let image = survey.running.as_ref().and_then(|running| image(running.deployment.as_ref()?));
    Versions {
        replicas: replicas.collect(),
        registered: labels.and_then(|labels| labels.get(VERSION_LABEL).cloned()),
        image,
        server: survey.server.clone(),
    }
}

fn image(deployment: &Deployment) -> Option<String> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers.iter().find(|container| container.name == "webhook").or(pod.containers.first())?.image.clone()
}

/// What install has to be told so that it changes nothing else.
fn mend(live: Option<&Deployment>, same_version: bool) -> Mend {
    let built_in = format!("breakglass-webhook:{OURS}");
    let replicas = live.and_then(|live| live.spec.as_ref()?.replicas);
    Mend {
        same_version,
        image: live.and_then(image).filter(|image| *image != built_in),
        replicas: replicas.filter(|replicas| *replicas > 0 && *replicas != REPLICAS),
    }
}

/// First what makes the registration worthless, then what differs.
/// The webhook repairs both by itself; where it does not, an install brings it back.
fn registered(survey: &Survey, rules: &Rules, compare: bool, mend: &Mend) -> Vec<Finding> {
    let (Some(mutating), Some(validating)) = (&survey.mutating, &survey.validating) else { return Vec::new() };
    let (mutating, validating) = (ours(mutating), ours(validating));
    let found = registration(mutating, validating, rules);
    let sound = found.iter().all(|finding| finding.level < Level::Problem);
    let mut found = match (mutating, validating) {
        (Some(mutating), Some(validating)) if sound && compare => {
            let differences = drift(mutating, validating, rules);
            if differences.is_empty() { found } else { differences }
        }
        _ => found,
    };
    for finding in found.iter_mut().filter(|finding| finding.level == Level::Problem) {
        finding.hints.insert(0, mend.install());
    }
    found
}

fn known_certificates(survey: &Survey, live: Option<&Deployment>) -> Certificates {
    let of = |name: &str, calls: &WebhookClientConfig| {
        (name.to_owned(), calls.ca_bundle.as_ref().map(|bundle| bundle.0.clone()).unwrap_or_default())
    };
    let mutating = survey.mutating.as_deref().and_then(ours);
    let validating = survey.validating.as_deref().and_then(ours);
    let stamps = mutating.into_iter().flat_map(|one| one.webhooks.iter().flatten());
    let gates = validating.into_iter().flat_map(|one| one.webhooks.iter().flatten());
    let stamps = stamps.map(|webhook| of(&webhook.name, &webhook.client_config));
    let bundles = stamps.chain(gates.map(|webhook| of(&webhook.name, &webhook.client_config))).collect();
    let annotated = validating.and_then(|one| one.metadata.annotations.as_ref());
    let argument = |live: &Deployment| {
        let pod = live.spec.as_ref()?.template.spec.as_ref()?;
        let mut args = pod.containers.iter().flat_map(|container| container.args.iter().flatten());
        Some(args.any(|arg| arg.ends_with("certificates=cert-manager")))
    };
    Certificates {
        secret: survey.secret.clone(),
        bundles,
        by_cert_manager: annotated.is_some_and(|annotations| annotations.contains_key(INJECTED))
            || live.and_then(argument).unwrap_or_default(),
    }
}
