//! What goes on meanwhile: guarded namespaces come, turn and go, and alice's tokens open and end.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::kind::Kind;
use super::place::{COMING, OPEN, TURNING, UNDER_TOKEN};
use super::scene;
use super::send::{Answer, Sender};

/// How long a token lives that is to expire while its holder writes.
const SHORT: TimeDelta = TimeDelta::seconds(2);

/// Longer than a token lives, and than the API server takes to say so.
const LIMIT: Duration = Duration::from_secs(60);

/// What is written as nobody is let to, to set a scene.
const SCENE: [(&str, &str); 3] = [
    ("Impersonate-User", "admin"),
    ("Impersonate-Group", "system:masters"),
    ("Impersonate-Group", "breakglass.dev:override"),
];

const TOKENS: &str = "/apis/breakglass.dev/v1alpha1/breakglasstokens";

/// What was seen meanwhile.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Namespaces that were made, and written into at once.
    pub(super) namespaces: usize,
    /// Tokens that let a write in, and then no more.
    pub(super) tokens: usize,
    /// What has to be refused, and was not.
    pub(super) landed: Vec<String>,
}

/// Tokens of alice for elsewhere, which live as long as all of this.
pub(super) async fn open_elsewhere(sender: &Sender, seed: u64) -> Result<()> {
    for (environment, namespace) in [("prod", UNDER_TOKEN), ("staging", "staging-alice"), ("platform", "argocd")] {
        open(sender, &format!("INC-501-{seed}"), environment, &json!({"namespaces": [namespace], "ttl": "4h"})).await?;
    }
    Ok(())
}

/// Namespaces and tokens come and go, a step for each permit, until there are no more.
pub(super) async fn run(sender: &Sender, pace: &Semaphore, seed: u64) -> Result<Seen> {
    let mut seen = Seen::default();
    for round in 0.. {
        let Ok(permit) = pace.acquire().await else { break };
        permit.forget();
        namespace(sender, round, &mut seen).await?;
        if round % 8 == 0 {
            token(sender, seed, round, &mut seen).await.context("a token of alice")?;
        }
        if round % 64 == 63 {
            restore(sender).await?;
        }
    }
    Ok(seen)
}

/// Where nobody is asked for a token, what is there goes. What is sent there shall find something.
async fn restore(sender: &Sender) -> Result<()> {
    let kinds = Kind::all();
    for namespace in OPEN {
        for (kind, object) in kinds.iter().filter(|kind| !kind.cluster).zip(scene::objects(namespace)) {
            as_scene(sender, "POST", &kind.collection(namespace), &object).await?;
        }
    }
    Ok(())
}

/// The next station in the life of one of the namespaces: made, turned, kept from its end, let go.
async fn namespace(sender: &Sender, round: usize, seen: &mut Seen) -> Result<()> {
    let names: Vec<&str> = COMING.into_iter().chain(TURNING).collect();
    let name = names[round % names.len()];
    let turning = TURNING.contains(&name);
    let path = format!("/api/v1/namespaces/{name}");
    // With its labels, or a PUT would take them off.
    let labels = if turning { json!({"breakglass.dev/environment": "prod"}) } else { json!({}) };
    let metadata = json!({"name": name, "labels": labels});
    let keep = |finalizers: Value| {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata,
        "spec": {"finalizers": finalizers}})
    };
    match (round / names.len()) % 4 {
        0 => {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
            let made = as_scene(sender, "POST", "/api/v1/namespaces", &object).await?;
            if made.code == 201 {
                seen.namespaces += 1;
                written_at_once(sender, name, seen).await?;
            }
        }
        1 if turning => {
            let patch = json!({"metadata": {"labels": {"breakglass.dev/environment": "staging"}}});
            as_scene(sender, "PATCH", &path, &patch).await?;
        }
        1 => {
            as_scene(sender, "PATCH", &path, &json!({"metadata": {"labels": {"breakglass.dev/environment": "dev"}}}))
                .await?;
        }
        2 => {
            as_scene(sender, "PUT", &format!("{path}/finalize"), &keep(json!(["kubernetes", "example.com/fuzz"])))
                .await?;
            as_scene(sender, "DELETE", &path, &Value::Null).await?;
        }
        _ => {
            as_scene(sender, "PUT", &format!("{path}/finalize"), &keep(json!(["kubernetes"]))).await?;
        }
    }
    Ok(())
}

/// Nobody has seen this namespace yet, and it is prod all the same.
async fn written_at_once(sender: &Sender, namespace: &str, seen: &mut Seen) -> Result<()> {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "at-once"}});
    let written = sender.json("bob", "POST", &format!("/api/v1/namespaces/{namespace}/configmaps"), &object).await?;
    if written.is_success() {
        seen.landed.push(format!("bob wrote to {namespace} right after it was made"));
    }
    Ok(())
}

/// A token opens, lets a write in, and ends: closed in every other round, of its time in the others.
async fn token(sender: &Sender, seed: u64, round: usize, seen: &mut Seen) -> Result<()> {
    let incident = format!("INC-502-{seed}");
    let closes = round.is_multiple_of(16);
    let ttl = if closes { json!({"ttl": "1h"}) } else { json!({"expiresAt": at(Utc::now() + SHORT)}) };
    // The one for all the time would do as well.
    let namespace = format!("{UNDER_TOKEN}-{}", round % 16);
    let mut fields = json!({"namespaces": [namespace]});
    json_patch::merge(&mut fields, &ttl);
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    as_scene(sender, "POST", "/api/v1/namespaces", &object).await?;
    let token = open(sender, &incident, "prod", &fields).await?;
    let write = || async {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "under-token-"}});
        sender.json("alice", "POST", &format!("/api/v1/namespaces/{namespace}/configmaps"), &object).await
    };
    let written = write().await?;
    if closes {
        anyhow::ensure!(written.is_success(), "under {token}: {written:?}");
        let status = format!("{TOKENS}/{token}/status");
        let closed = sender.json("alice", "PATCH", &status, &json!({"status": {"phase": "Closed"}})).await?;
        anyhow::ensure!(closed.is_success(), "closing {token}: {closed:?}");
    } else {
        let begun = std::time::Instant::now();
        while write().await?.is_success() {
            if begun.elapsed() > LIMIT {
                bail!("{token} does not expire");
            }
        }
    }
    for _ in 0..3 {
        if write().await?.is_success() {
            seen.landed.push(format!("alice wrote to {namespace} after {token} had ended (closed: {closes})"));
        }
    }
    seen.tokens += 1;
    Ok(())
}

/// Opens a token of alice, and gives its name.
async fn open(sender: &Sender, incident: &str, environment: &str, fields: &Value) -> Result<String> {
    let mut spec = json!({"incident": incident, "reason": "a fuzzer", "environment": environment});
    json_patch::merge(&mut spec, fields);
    // Five characters that nothing has yet.
    let tail = Utc::now().timestamp_micros() % 100_000;
    let name = format!("{}-{tail:05}", incident.to_lowercase());
    let token = json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken", "metadata": {"name": name}, "spec": spec});
    let opened = sender.json("alice", "POST", TOKENS, &token).await?;
    anyhow::ensure!(opened.code == 201, "opening {name}: {opened:?}");
    Ok(name)
}

fn at(time: chrono::DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

async fn as_scene(sender: &Sender, method: &str, path: &str, body: &Value) -> Result<Answer> {
    let media_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let mut headers: Vec<(String, String)> =
        SCENE.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    headers.push(("Content-Type".to_owned(), media_type.to_owned()));
    sender.raw("admin", (method, path), &headers, bytes).await
}
