//! Whether a write landed: by its answer, by what is in the cluster afterwards, and by the API server's audit log.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::kind::Verb;
use super::place;
use super::request::{Aim, Request};
use super::send::{AGENT, Answer, Sender};

/// What became of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Our webhook said no.
    Refused,
    /// The API server could not ask us, and said no.
    Shut,
    /// Let through as a dry run.
    Rehearsed,
    /// Somebody else said no, before we were asked, or it found nothing to change.
    Elsewhere(u16),
    /// The connection broke, or nothing came.
    Unanswered,
    /// Nobody is asked for a token there, and it was let in.
    LetIn,
    /// It has to be refused, and was not.
    Landed,
}

/// What an answer says about a request.
pub(super) fn verdict(request: &Request, answer: &Answer) -> Verdict {
    let message = answer.message();
    let ours = |start: &str, end: &str| {
        let named = message.split_once(start).and_then(|(_, rest)| rest.split_once(end));
        named.is_some_and(|(webhook, _)| webhook.ends_with(".breakglass.dev"))
    };
    if answer.code == 403 && ours("admission webhook \"", "\" denied the request: ") {
        return Verdict::Refused;
    }
    if ours("failed calling webhook \"", "\": ") {
        return Verdict::Shut;
    }
    let in_guarded =
        answer.object["metadata"]["namespace"].as_str().is_some_and(|name| place::guarded().any(|it| it == name));
    match request.aim {
        // Whatever was asked for: what came back is an object of a guarded namespace.
        Aim::Open
            if answer.is_success()
                && in_guarded
                && !request.kind.contains("events")
                && !request.kind.contains("leases") =>
        {
            Verdict::Landed
        }
        Aim::Open if answer.is_success() => Verdict::LetIn,
        Aim::Open => Verdict::Elsewhere(answer.code),
        Aim::Guarded if is_let_by(request, answer) => Verdict::Landed,
        Aim::Guarded if answer.is_success() && request.dry_run => Verdict::Rehearsed,
        Aim::Guarded => Verdict::Elsewhere(answer.code),
    }
}

fn is_let_by(request: &Request, answer: &Answer) -> bool {
    if request.verb.is_connect() {
        // Of these the API server asks us first. Whatever comes of it afterwards, a connection was to be opened.
        return !matches!(answer.code, 401 | 403..=406 | 415);
    }
    match request.verb {
        // A token is a token, however dry.
        Verb::Token => answer.is_success() && !answer.object["status"]["token"].is_null(),
        _ if request.dry_run => false,
        // That the name is taken is found out after we were asked.
        Verb::Create if answer.code == 409 => true,
        // A namespace that is being deleted already is answered with as it is, and nobody is asked.
        Verb::Delete if request.kind.starts_with("namespaces") => {
            let path = request.path.replace("%70", "p");
            let ending = path.split(['/', '?']).any(|name| place::is_churning(name) || name == place::ENDING);
            answer.is_success() && !ending
        }
        // It answers with what it found, and says nothing of what somebody else had deleted before it came to that.
        Verb::DeleteCollection => {
            let churning = request.path.split('/').any(place::is_churning);
            let found = answer.object["items"].as_array().is_none_or(|items| !items.is_empty());
            answer.is_success() && found && !churning
        }
        _ => answer.is_success(),
    }
}

/// The objects of the guarded namespaces, without what controllers write about them.
pub(super) type Snapshot = BTreeMap<String, String>;

/// What there is now.
pub(super) async fn snapshot(sender: &Sender) -> Result<Snapshot> {
    let mut all = Snapshot::new();
    let mut versions = vec!["/api/v1".to_owned()];
    let groups = sender.get("/apis").await?;
    for group in groups["groups"].as_array().context("no groups are served")? {
        let version = group["preferredVersion"]["groupVersion"].as_str().unwrap_or_default();
        versions.push(format!("/apis/{version}"));
    }
    for version in versions {
        let resources = sender.get(&version).await?;
        for resource in resources["resources"].as_array().into_iter().flatten() {
            let name = resource["name"].as_str().unwrap_or_default();
            let listed = resource["verbs"].as_array().is_some_and(|verbs| verbs.iter().any(|verb| verb == "list"));
            let wanted = resource["namespaced"] == true || name == "namespaces";
            if !listed || !wanted || ["events", "leases"].contains(&name) {
                continue;
            }
            let list = sender.get(&format!("{version}/{name}")).await?;
            let Some(items) = list["items"].as_array() else { bail!("listing {name}: {list}") };
            all.extend(items.iter().filter_map(|item| Some((key(name, item)?, print(item)))));
        }
    }
    Ok(all)
}

/// What an object is known by; `None` for what may change.
fn key(resource: &str, object: &Value) -> Option<String> {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str()?;
    let namespace = metadata["namespace"].as_str().unwrap_or(name);
    // What every namespace is given.
    let given = resource == "namespaces" || ["default", "kube-root-ca.crt"].contains(&name);
    (place::guarded().any(|place| place == namespace) && !(place::is_churning(namespace) && given))
        .then(|| format!("{resource} {namespace}/{name}"))
}

/// A hash of what people write, and which of the fuzzer's field managers wrote there, status included.
fn print(object: &Value) -> String {
    let mut object = object.clone();
    let managers = object["metadata"]["managedFields"].take();
    let ours = |entry: &&Value| entry["manager"].as_str().is_some_and(|manager| manager.starts_with(AGENT));
    let ours: Vec<&Value> = managers.as_array().into_iter().flatten().filter(ours).collect();
    object["metadata"]["resourceVersion"].take();
    object["status"].take();
    let hash = Sha256::digest(object.to_string());
    let hex: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{} {hex} {ours:?}", object["metadata"]["uid"])
}

/// What is another now.
pub(super) fn differences(before: &Snapshot, now: &Snapshot) -> Vec<String> {
    let gone = before.keys().filter(|key| !now.contains_key(*key)).map(|key| format!("{key} is gone"));
    let other = now.iter().filter_map(|(key, print)| match before.get(key) {
        Some(before) if before == print => None,
        Some(before) => Some(format!("{key} was {before} and is {print}")),
        None => Some(format!("{key} is new: {print}")),
    });
    gone.chain(other).collect()
}

/// What the audit log knows of the requests of a seed: how many there were, and the ids of those that were answered with
/// success and are no reads and no dry runs.
pub(super) fn audited(logs: &Path, seed: u64) -> Result<(usize, Vec<String>)> {
    let (mut seen, mut successes) = (0, Vec::new());
    let prefix = format!("fuzz-{seed}-");
    for file in std::fs::read_dir(logs)? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !(name.starts_with("audit") && name.ends_with(".log")) {
            continue;
        }
        for line in BufReader::new(std::fs::File::open(&path)?).lines() {
            let line = line?;
            // Cheaper than to read each line as JSON.
            if !line.contains(&prefix) {
                continue;
            }
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            let id = event["auditID"].as_str().unwrap_or_default();
            if event["stage"] != "ResponseComplete" || !id.starts_with(&prefix) {
                continue;
            }
            seen += 1;
            if event["responseStatus"]["code"].as_u64().is_some_and(|code| (200..300).contains(&code)) {
                successes.push(id.to_owned());
            }
        }
    }
    Ok((seen, successes))
}
