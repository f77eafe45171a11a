//! A review from its bytes to the answer and the record: the path of the webhook, without a cluster.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use breakglass::api::{BreakglassChange, BreakglassToken, ENVIRONMENT_LABEL, Operation, Timestamp};
use breakglass::decide::{Decision, Known, decide};
use breakglass::mark::{self, Ink, Past};
use breakglass::patch::{Step, patch};
use breakglass::record::{BODY_LIMIT, Circumstances, record};
use breakglass::rules::Rules;
use breakglass::seal::Key;
use breakglass::stamp::{self, Keys};
use breakglass::write::{Object, Verb, Write};
use breakglass::writer::{Writer, classify};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use webhook::review::{Answer, Asked, Patch, read};

use crate::{applied, has_sound_metadata, metadata_of, raw, without_ours};

/// Takes the bytes of a review through everything that depends on nothing else.
///
/// # Panics
/// When something does not hold that must hold of every review.
pub fn review(bytes: &[u8]) {
    let Ok(asked) = read(bytes) else { return };
    is_read_as_it_stands(bytes, &asked);
    let rules = Rules::built_in().expect("the built-in policy is sound");
    let prod = BTreeMap::from([(ENVIRONMENT_LABEL.to_owned(), "prod".to_owned())]);
    for (labels, with_tokens) in [(BTreeMap::new(), false), (BTreeMap::new(), true), (prod, true)] {
        let tokens = if with_tokens { tokens_of(&asked.write.requester.user) } else { Vec::new() };
        let key = Key::new([7; 32]);
        Scene { rules: &rules, labels: &labels, tokens: &tokens, key: &key, asked: &asked }.play();
    }
}

/// What is read is what another reader reads, where that one can.
fn is_read_as_it_stands(bytes: &[u8], asked: &Asked<'_>) {
    assert!(!asked.uid.is_empty() && asked.uid.len() <= 256);
    let Ok(review) = serde_json::from_slice::<Value>(bytes) else { return };
    assert_eq!((&review["apiVersion"], &review["kind"]), (&json!("admission.k8s.io/v1"), &json!("AdmissionReview")));
    let (request, write) = (&review["request"], &asked.write);
    assert_eq!(request["uid"], json!(asked.uid));
    let verb = match request["operation"].as_str() {
        Some("CREATE") => Verb::Create,
        Some("UPDATE") => Verb::Update,
        Some("DELETE") => Verb::Delete,
        Some("CONNECT") => Verb::Connect,
        other => panic!("{other:?} is no operation"),
    };
    assert_eq!(write.verb, verb);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resource = &write.resource;
    assert_eq!(text(&request["name"]), write.name);
    assert_eq!(text(&request["userInfo"]["username"]), write.requester.user);
    assert_eq!(text(&request["userInfo"]["uid"]), write.requester.uid);
    assert_eq!(text(&request["resource"]["group"]), resource.group);
    assert_eq!(text(&request["resource"]["resource"]), resource.plural);
    assert_eq!(text(&request["subResource"]), resource.subresource.clone().unwrap_or_default());
    // An eviction can say so itself, too.
    assert!(write.dry_run || request["dryRun"] != json!(true));
    assert!(!write.dry_run || request["dryRun"] == json!(true) || text(&request["subResource"]) == "eviction");
    let namespace = text(&request["namespace"]);
    let itself = namespace.is_empty() && resource.is_namespace();
    assert!(itself || namespace == write.namespace.clone().unwrap_or_default());
    assert_eq!(write.before.is_some(), !request["oldObject"].is_null());
    assert_eq!(write.after.is_some(), !request["object"].is_null() && verb != Verb::Delete);
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_219_200, 400_000_000).expect("this is a time")
}

/// A live token of this user for every environment that has any.
fn tokens_of(user: &str) -> Vec<BreakglassToken> {
    let environments = ["prod", "staging", "platform"];
    environments
        .map(|environment| {
            serde_json::from_value(json!({
                "apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken",
                "metadata": {"name": format!("inc-123-{environment}"), "uid": environment},
                "spec": {"incident": "INC-123", "reason": "r", "user": user, "environment": environment,
                         "openedAt": Timestamp::new(now() - chrono::TimeDelta::minutes(30)),
                         "expiresAt": Timestamp::new(now() + chrono::TimeDelta::minutes(30))},
            }))
            .expect("this is a token")
        })
        .into()
}

/// One review, and what is known when it comes.
struct Scene<'s> {
    rules: &'s Rules,
    labels: &'s BTreeMap<String, String>,
    tokens: &'s [BreakglassToken],
    key: &'s Key,
    asked: &'s Asked<'s>,
}

impl Scene<'_> {
    fn play(&self) {
        let write = &self.asked.write;
        let writer = classify(write, self.rules);
        let known = Known { rules: self.rules, namespace_labels: self.labels, tokens: self.tokens, now: now() };
        let decision = decide(write, &writer, known);
        self.is_guarded(&writer, &decision);
        if let Decision::Refuse(refusal) | Decision::Rehearse(refusal) | Decision::Tolerate(refusal) = &decision {
            let (response, _) = self.said(&Answer::refuse(refusal.to_string()));
            assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(403)));
            assert_eq!(response["status"]["message"], json!(refusal.to_string()));
        }
        let steps = self.steps(write, &decision, 1);
        let patched = self.is_patched(&steps);
        let (Some(patched), Decision::Admit { token, .. }) = (patched, &decision) else { return };
        let text = raw(&patched);
        let after = write.after.as_ref().map(|_| Object::new(&text));
        let write = Write { after, ..write.clone() };
        self.is_kept(&write, token, &decision);
    }

    /// Nothing is written to prod without a token, but for what robots do all the time.
    fn is_guarded(&self, writer: &Writer, decision: &Decision<'_>) {
        let write = &self.asked.write;
        let subresource = write.resource.subresource.as_deref();
        let robots = subresource == Some("status") || write.resource.is_credential();
        if *writer == Writer::Direct && write.namespace.as_deref() == Some("prod") && self.tokens.is_empty() && !robots
        {
            match decision {
                Decision::Refuse(_) => assert!(!write.dry_run),
                Decision::Rehearse(_) => assert!(write.dry_run),
                other => panic!("{other:?}"),
            }
        }
    }

    fn steps(&self, write: &Write<'_>, decision: &Decision<'_>, random: u32) -> Vec<Step> {
        let ink = Ink { key: self.key, now: now(), random };
        let keys = mark::wanted_keys(write, decision, ink, Past::default());
        keys.zip(write.after.as_ref()).map(|(keys, after)| patch(&after.metadata, &keys)).unwrap_or_default()
    }

    /// What the API server reads of an answer: its response, and the patch in it.
    fn said(&self, answer: &Answer) -> (Value, Value) {
        let bytes = answer.write(&self.asked.uid).expect("every answer can be written");
        let review: Value = serde_json::from_slice(&bytes).expect("every answer is JSON");
        assert_eq!(
            (&review["apiVersion"], &review["kind"]),
            (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
        );
        let response = review["response"].clone();
        assert_eq!(response["uid"], json!(self.asked.uid));
        assert_eq!(response.get("patch").is_some(), response["patchType"] == json!("JSONPatch"));
        let patch = response["patch"].as_str().map(|text| STANDARD.decode(text).expect("the patch is in base 64"));
        let patch = patch.map_or(json!([]), |bytes| serde_json::from_slice(&bytes).expect("the patch is JSON"));
        (response, patch)
    }

    /// The object as the API server has it after the mutating call; `None` where another reader cannot read it.
    fn is_patched(&self, steps: &[Step]) -> Option<Value> {
        let answer = Answer { patch: steps.iter().cloned().map(Patch::Stamp).collect(), ..Answer::allow() };
        let (response, patch) = self.said(&answer);
        assert_eq!(response["allowed"], json!(true));
        let Some(after) = &self.asked.write.after else {
            assert_eq!(patch, json!([]), "there is nothing to patch");
            return Some(Value::Null);
        };
        let object: Value = serde_json::from_str(after.raw.get()).ok()?;
        // Two fields of one name are read as the last of them by one reader, and not at all by another.
        if !has_sound_metadata(&object) || metadata_of(&object) != after.metadata {
            return None;
        }
        let patched = applied(&object, &patch);
        assert_eq!(without_ours(patched.clone()), without_ours(object), "{patch}");
        Some(patched)
    }

    /// What the validating call finds: a stamp that is true, and a record that says what is stored.
    fn is_kept(&self, write: &Write<'_>, token: &BreakglassToken, decision: &Decision<'_>) {
        assert!(self.steps(write, decision, 2 << 20).is_empty(), "a second pass changes something");
        let untouched = mark::changes_nothing(write) && mark::keeps_keys(write);
        let elsewhere = !write.can_carry_stamp() && mark::keeps_keys(write);
        let stamped = write.can_carry_stamp() && mark::is_true(write, Some(token), self.key, now());
        let written = matches!(write.verb, Verb::Create | Verb::Update);
        assert!(!written || stamped || untouched || elsewhere, "the gate would not take what the first call made");
        let keys = Keys::of_object(write.after.as_ref());
        let name = keys.annotation(stamp::CHANGE).filter(|_| stamped).unwrap_or("inc-123-0000000000000000");
        let Decision::Admit { environment, .. } = decision else { return };
        let (rules, key, time) = (self.rules, self.key, Timestamp::new(now()));
        let change = record(write, name, Circumstances { token, environment, rules, key, time, undoes: &[] });
        let spec = &change.spec;
        assert!(json!(spec.before).to_string().len() + json!(spec.patch).to_string().len() <= BODY_LIMIT);
        if write.resource.group.is_empty() && write.resource.kind == "Secret" {
            is_hidden(write, &change);
        } else if !spec.truncated {
            let gone = matches!(spec.operation, Operation::Delete | Operation::Evict);
            let after = write.after.as_ref().filter(|_| !gone);
            let [before, after] =
                [write.before.as_ref(), after].map(|object| object.map(|object| trimmed(object, write)));
            assert_eq!(spec.before, before);
            assert_eq!(applied(&before.unwrap_or_default(), &json!(spec.patch)), after.unwrap_or_default());
        }
    }
}

/// An object as a record is to hold it.
fn trimmed(object: &Object<'_>, write: &Write<'_>) -> Value {
    let mut object: Value = serde_json::from_str(object.raw.get()).expect("what was recorded can be read");
    if write.resource.subresource.as_deref() != Some("status")
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for noise in ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"] {
            metadata.remove(noise);
        }
    }
    object
}

/// No value of a Secret is in its record, unless it stands elsewhere in the review too, or names a field.
fn is_hidden(write: &Write<'_>, change: &BreakglassChange) {
    let record = json!(change).to_string();
    let mut rest = change.clone();
    (rest.spec.before, rest.spec.patch) = (None, Vec::new());
    let mut elsewhere = json!(rest).to_string();
    let mut values = Vec::new();
    for object in [&write.before, &write.after].into_iter().flatten() {
        let Ok(mut object) = serde_json::from_str::<Value>(object.raw.get()) else { continue };
        for field in ["data", "stringData"] {
            if let Some(secret) = object.as_object_mut().and_then(|fields| fields.remove(field)) {
                texts_in(&secret, &mut values, &mut elsewhere);
            }
        }
        elsewhere.push_str(&object.to_string());
    }
    for value in values.iter().map(|value| Value::from(value.as_str()).to_string()) {
        assert!(value.len() < 10 || elsewhere.contains(&value) || !record.contains(&value), "{value} is in {record}");
    }
}

fn texts_in(value: &Value, texts: &mut Vec<String>, names: &mut String) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts_in(item, texts, names)),
        Value::Object(fields) => {
            for (name, field) in fields {
                names.push_str(&Value::from(name.as_str()).to_string());
                texts_in(field, texts, names);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
