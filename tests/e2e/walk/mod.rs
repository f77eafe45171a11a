//! The walk over discovery: whatever changes something reaches the gate, or stands on the list of what does not. What a
//! newer Kubernetes adds fails here, and not in production.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;

use breakglass::api::GROUP;
use tests::{Cluster, wait_until};

use crate::LIMIT;
use discovery::{Served, Way};
use exempt::{EXEMPT, NO_STRATEGIC_PATCH};
use walker::{Step, Walker};

// What is sent, and what came back.
mod client;
// What is served.
mod discovery;
// What need not reach us.
mod exempt;
// Every request.
mod walker;

/// Where namespaced objects are tried: guarded by its name.
const NAMESPACE: &str = "prod-walk";

/// The policy in force is itself one of the objects that are tried; it guards what lives in no namespace.
const POLICY: &str = "breakglass.dev/v1alpha1/breakglasspolicies";

/// What a refusal for want of a token ends with.
const WHAT_TO_TYPE: &str = " needs a break-glass token. Open one: kubectl breakglass open <incident> ";

/// S-00, S-01: every verb that changes something, on every resource and subresource in every version that discovery
/// serves, reaches the gate and is refused with what to type, or is exempt for a reason.
#[test]
fn whatever_changes_something_reaches_the_gate_or_is_exempt() {
    let cluster = Cluster::own("walk");
    cluster.namespace(NAMESPACE);
    // Without it no Pod is let in.
    cluster.set_scene(&["-n", NAMESPACE, "wait", "--for=create", "serviceaccount/default", "--timeout=60s"], "");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let walker = Arc::new(runtime.block_on(Walker::new(&cluster)));
    runtime.block_on(walker.object(POLICY)).unwrap();
    wait_until_in_force(&cluster);

    let mut steps = runtime.block_on(walker.walk(|served| !is_ours(served)));
    // Our own kinds are answered one by one, some of them with yes. That we are asked shows when we are not there.
    cluster.webhook().kill();
    steps.extend(runtime.block_on(walker.walk(is_ours)));

    let mut problems: BTreeMap<String, BTreeSet<&Way>> = BTreeMap::new();
    let mut exempt: BTreeMap<(String, &str), usize> = BTreeMap::new();
    let mut reached = 0;
    for step in &steps {
        match verdict(step) {
            Ok(None) => reached += 1,
            Ok(Some((what, reason))) => *exempt.entry((what, reason)).or_default() += 1,
            Err(problem) => {
                problems.entry(format!("{}: {problem}", step.served.key())).or_default().insert(&step.way);
            }
        }
    }
    show(&steps, reached, &exempt);
    let unshown = problems.into_iter().map(|(problem, ways)| format!("{problem} ({})", list(ways)));
    let problems: Vec<String> = unknown(&walker).into_iter().chain(unshown).collect();
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

fn is_ours(served: &Served) -> bool {
    served.group_version.split('/').next() == Some(GROUP)
}

fn wait_until_in_force(cluster: &Cluster) {
    let admin = cluster.kubectl("admin");
    wait_until("what lives in no namespace to need a token", LIMIT, || {
        let ran = admin.run(&["create", "clusterrole", "walk", "--verb=get", "--resource=pods", "--dry-run=server"]);
        let asked = ran.warnings().iter().any(|warning| warning.contains("needs a break-glass token"));
        if asked { Ok(()) } else { Err(ran.to_string()) }
    })
    .unwrap();
}

/// What discovery says that we do not understand, and lines of our tables for what is gone.
fn unknown(walker: &Walker) -> Vec<String> {
    let served = walker.served();
    let gone = |key: &&str| !served.contains_key(*key);
    let stubs = walker.stubs().filter(gone).map(|key| format!("there is a stub for {key}, which is not served"));
    let exempt = EXEMPT.iter().flat_map(|exemption| exemption.resources.iter().copied()).filter(gone);
    let exempt = exempt.map(|key| format!("{key} is exempt, and is not served"));
    served.values().filter_map(|served| served.ways().err()).chain(stubs).chain(exempt).collect()
}

/// Whether the request reached us (`None`), or what is exempt, and why; else what is wrong.
fn verdict(step: &Step) -> Result<Option<(String, &'static str)>, String> {
    let answer = step.answer.as_ref()?;
    let said = format!("{} {}", answer.code, answer.message());
    let (key, reason) = (step.served.key(), exempt::reason(&step.served.key()));
    let ours = is_ours(&step.served);
    match (reached(answer.code, answer.message(), ours), reason) {
        (true, None) if ours || answer.message().contains(WHAT_TO_TYPE) => return Ok(None),
        (true, None) => return Err(format!("the refusal does not say what to type: {said}")),
        (true, Some(_)) => return Err(format!("it is exempt, and reaches us: {said}")),
        (false, _) => {}
    }
    if step.way == Way::StrategicPatch && step.served.custom && answer.code == 415 {
        return Ok(Some(("strategic patches of custom resources".to_owned(), NO_STRATEGIC_PATCH)));
    }
    // The object is there before its create is tried, so that nothing is left behind.
    let let_by = matches!(answer.code, 200..=202) || (step.way == Way::Create && answer.code == 409);
    match (let_by, reason) {
        (true, Some(reason)) => Ok(Some((key, reason))),
        (true, None) => Err(format!("it is let by without being asked about: {said}")),
        (false, _) => Err(format!("this does not show whether it reaches us: {said}")),
    }
}

/// Whether the API server asked a webhook of ours, or would have, had it been there.
fn reached(code: u16, message: &str, is_down: bool) -> bool {
    let (expected, before, after) = match is_down {
        false => (403, "admission webhook \"", "\" denied the request: "),
        true => (500, "failed calling webhook \"", "\": "),
    };
    let webhook = message.split_once(before).and_then(|(_, rest)| rest.split_once(after)).map(|(webhook, _)| webhook);
    code == expected && webhook.is_some_and(|webhook| webhook.ends_with(".breakglass.dev"))
}

/// What was walked, past the test harness, which keeps what a test prints to itself while it passes.
fn show(steps: &[Step], reached: usize, exempt: &BTreeMap<(String, &str), usize>) {
    let names = |of: fn(&Step) -> Option<String>| steps.iter().filter_map(of).collect::<BTreeSet<String>>();
    let versions = names(|step| Some(step.served.group_version.clone()));
    let subresources = names(|step| step.served.subresource().map(|_| step.served.key()));
    let resources = names(|step| step.served.subresource().is_none().then(|| step.served.key()));
    let ways: BTreeSet<&Way> = steps.iter().map(|step| &step.way).collect();
    let mut text = format!(
        "\nwalked {} groups and versions, {} resources, {} subresources, {} verbs: {}\n",
        versions.len(),
        resources.len(),
        subresources.len(),
        ways.len(),
        list(ways),
    );
    let exempt_requests: usize = exempt.values().sum();
    text += &format!("{reached} requests reached the gate, {exempt_requests} are exempt:\n");
    for ((what, reason), requests) in exempt {
        text += &format!("  {what} ({requests} requests): {reason}\n");
    }
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

fn list(ways: BTreeSet<&Way>) -> String {
    ways.into_iter().map(Way::to_string).collect::<Vec<_>>().join(", ")
}
