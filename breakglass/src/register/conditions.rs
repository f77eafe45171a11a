//! Which writes reach us, as CEL that the API server evaluates. Robots are kept inside it: they never wait for us, and never
//! stop because of us.
//!
//! The names are those of `crate::writer`, which takes the second look. A test evaluates both on a real API server.

use crate::api::{ENVIRONMENT_LABEL, GROUP, Gate, OVERRIDE_GROUP, Proof};
use crate::cover::OUR_ROLES;
use crate::rules::Rules;
use crate::writer::{
    API_SERVER, CLOUD_CONTROLLER_MANAGER, COMPONENTS, CONTROLLER_PREFIX, CONTROLLERS, CREDENTIAL_ID, MASTERS_GROUP,
    NODE_GROUP, NODE_PREFIX, POD_NAME, SERVICE_ACCOUNT_PREFIX, WEBHOOK_USER,
};
use crate::{engine, glob, stamp};

const USER: &str = "request.userInfo.username";

/// True where a write is looked at: by nobody of whom we know without looking that they write untouched.
///
/// One expression with the likeliest robots first: every condition is evaluated, and `||` stops at the first that holds.
pub(super) fn is_looked_at(rules: &Rules) -> String {
    let mut robots = vec![unguarded_kinds(), control_plane(), status_alone(), itself(), in_group(OVERRIDE_GROUP)];
    let writers = &rules.spec().writers;
    for engine in &writers.engines {
        let keeps = all(vec![is_kept(), named(&engine.keepers)]);
        robots.push(all(vec![proven(engine.proof), any(vec![named(&engine.users), keeps])]));
    }
    for trusted in &writers.trusted {
        let mut who = vec![named(&trusted.users)];
        who.extend(trusted.groups.iter().map(|group| in_group(group)));
        let mut conditions = vec![proven(trusted.proof), any(who)];
        if !trusted.namespaces.is_empty() {
            conditions.push(in_namespaces(&trusted.namespaces));
        }
        robots.push(all(conditions));
    }
    format!("!{}", any(robots))
}

/// True where a write to one of our own kinds is looked at: everybody's but ours. Nobody else is a robot here.
pub(super) fn is_not_ours() -> String {
    format!("!{}", any(vec![itself(), in_group(OVERRIDE_GROUP)]))
}

/// True for kinds of our own group.
pub(super) fn is_own_kind() -> String {
    format!("request.resource.group == {}", text(GROUP))
}

/// True for an engine's own object, in a namespace where these are guarded for what they deploy.
pub(super) fn is_engine_object(rules: &Rules) -> String {
    let except = &rules.spec().engine_objects.except_namespaces;
    let mut parts = vec![any(engine_objects())];
    if !except.is_empty() {
        parts.push(format!("!{}", in_namespaces(except)));
    }
    all(parts)
}

/// True where an object carries a stamp that it did not have, and that a write without a token cannot have: see
/// `crate::mark::is_false`.
pub(super) fn is_stamped_falsely() -> String {
    let of = |side: &str, key: &str| {
        format!(
            "({side} != null && has({side}.metadata.annotations) ? {side}.metadata.annotations[?{key}] : optional.none())"
        )
    };
    let differs = |key: &str| format!("{} != {}", of("object", &text(key)), of("oldObject", &text(key)));
    let user = of("object", &text(stamp::USER));
    let somebody_else = format!("({user}.hasValue() && {user}.value() != {USER} && {})", differs(stamp::USER));
    let tokens = [stamp::INCIDENT, stamp::TOKEN, stamp::CHANGE]
        .map(|key| format!("({}.hasValue() && {})", of("object", &text(key)), differs(key)));
    any(std::iter::once(somebody_else).chain(tokens).collect())
}

/// True for a request for a token of a service account.
pub(super) fn is_credential() -> String {
    "(request.resource.group == '' && request.resource.resource == 'serviceaccounts' && has(request.subResource) && \
     request.subResource == 'token')"
        .to_owned()
}

/// True where that service account's writes pass untouched.
pub(super) fn is_exempt_credential(rules: &Rules) -> String {
    let writers = &rules.spec().writers;
    let engines = writers.engines.iter().flat_map(|engine| engine.users.iter().chain(&engine.keepers));
    let policy = engines.chain(writers.trusted.iter().flat_map(|trusted| &trusted.users)).cloned();
    let controllers = CONTROLLERS.iter().map(|name| format!("{CONTROLLER_PREFIX}{name}"));
    let users: Vec<String> = policy.chain(controllers).chain([WEBHOOK_USER.to_owned()]).collect();
    let account = format!("({} + request.namespace + ':' + request.name)", text(SERVICE_ACCOUNT_PREFIX));
    all(vec!["has(request.namespace) && has(request.name)".to_owned(), named_as(&account, &users)])
}

/// True for the definitions of our own kinds, and for the rights that we have in the whole cluster.
pub(super) fn is_part_of_us() -> String {
    let definition = "request.resource.group == 'apiextensions.k8s.io' && oldObject.metadata.name.endsWith";
    let role = "request.resource.group == 'rbac.authorization.k8s.io' && oldObject.metadata.name.startsWith";
    format!("(oldObject != null && ({definition}({}) || {role}({})))", text(&format!(".{GROUP}")), text(OUR_ROLES))
}

/// True where the namespace's name alone says that it is guarded.
pub(super) fn is_guarded_by_name(rules: &Rules) -> String {
    in_namespaces(&guarded_patterns(rules))
}

/// True where a Namespace object is guarded, before or after the write.
pub(super) fn is_guarded_namespace(rules: &Rules) -> String {
    let labels = guarded_labels(rules);
    let mut ways = vec![is_guarded_by_name(rules)];
    // With generateName there is no name yet; what the gate sees in `object` has one.
    ways.push(format!("(object != null && {})", matches_any("object.metadata.name", &guarded_patterns(rules))));
    for side in ["object", "oldObject"] {
        let key = text(ENVIRONMENT_LABEL);
        ways.push(format!(
            "({side} != null && has({side}.metadata.labels) && {key} in {side}.metadata.labels && \
             {side}.metadata.labels[{key}] in {})",
            list(&labels)
        ));
    }
    any(ways)
}

/// True where the write is to this namespace, or in it.
pub(super) fn is_namespace(name: &str) -> String {
    all(vec!["has(request.namespace)".to_owned(), format!("request.namespace == {}", text(name))])
}

/// The values of the environment label that guard a namespace.
pub(super) fn guarded_labels(rules: &Rules) -> Vec<String> {
    guarded(rules).filter_map(|environment| environment.namespace_label.clone()).collect()
}

/// The patterns of names that guard a namespace.
pub(super) fn guarded_patterns(rules: &Rules) -> Vec<String> {
    guarded(rules).flat_map(|environment| environment.namespaces.clone()).collect()
}

fn guarded(rules: &Rules) -> impl Iterator<Item = &crate::api::Environment> {
    rules
        .spec()
        .environments
        .iter()
        .filter(|environment| environment.writes == Gate::RequireToken || environment.exec == Some(Gate::RequireToken))
}

/// Kinds that are written all the time, say nothing about what runs, or are questions and not objects: Leases, Events, and
/// reviews of authentication and authorization.
fn unguarded_kinds() -> String {
    let group = "request.resource.group";
    let plural = "request.resource.resource";
    any(vec![
        format!("({group} == 'coordination.k8s.io' && {plural} == 'leases')"),
        format!("({plural} == 'events' && {group} in ['', 'events.k8s.io'])"),
        format!("{group} in ['authentication.k8s.io', 'authorization.k8s.io']"),
    ])
}

/// A name alone proves nothing: see `crate::writer`.
fn control_plane() -> String {
    let controllers: Vec<String> = CONTROLLERS.iter().map(|name| format!("{CONTROLLER_PREFIX}{name}")).collect();
    let components = COMPONENTS.map(str::to_owned);
    let node = all(vec![format!("{USER}.startsWith({})", text(NODE_PREFIX)), in_group(NODE_GROUP)]);
    let component = all(vec![any(vec![node, format!("{USER} in {}", list(&components))]), has_credential()]);
    let cloud = format!("{CONTROLLER_PREFIX}{CLOUD_CONTROLLER_MANAGER}");
    let process = any(vec![format!("!{}", names(POD_NAME)), format!("{USER} == {}", text(&cloud))]);
    let minted = all(vec![has_uid(), names(CREDENTIAL_ID), process]);
    let controller = all(vec![format!("{USER} in {}", list(&controllers)), minted]);
    let api_server = all(vec![format!("{USER} == {}", text(API_SERVER)), in_group(MASTERS_GROUP), has_uid()]);
    all(vec![format!("{USER}.startsWith('system:')"), any(vec![component, controller, api_server])])
}

/// The status of an object and nothing besides, by a service account with a token of its own: what operators write all day.
fn status_alone() -> String {
    let same = ["labels", "annotations", "finalizers", "ownerReferences"]
        .map(|field| format!("object.metadata.?{field} == oldObject.metadata.?{field}"));
    let mut parts = vec![
        "has(request.subResource) && request.subResource == 'status'".to_owned(),
        format!("{USER}.startsWith({})", text(SERVICE_ACCOUNT_PREFIX)),
        has_uid(),
        names(CREDENTIAL_ID),
        "object != null && oldObject != null".to_owned(),
        format!("!{}", any(engine_objects())),
    ];
    parts.extend(same);
    all(parts)
}

/// What an engine's other controllers keep.
fn is_kept() -> String {
    let mut kinds = engine_objects();
    kinds.push(format!("request.resource.group.endsWith({})", text(engine::kept_suffix())));
    any(kinds)
}

fn engine_objects() -> Vec<String> {
    let kinds = engine::objects().into_iter().map(|(group, plurals)| {
        let plurals: Vec<String> = plurals.iter().map(|&plural| plural.to_owned()).collect();
        let mut parts = vec![format!("request.resource.group == {}", text(group))];
        if !plurals.is_empty() {
            parts.push(format!("request.resource.resource in {}", list(&plurals)));
        }
        all(parts)
    });
    kinds.collect()
}

fn itself() -> String {
    all(vec![format!("{USER} == {}", text(WEBHOOK_USER)), proven(Proof::PodBound)])
}

fn in_group(group: &str) -> String {
    format!("(has(request.userInfo.groups) && {} in request.userInfo.groups)", text(group))
}

/// A missing field is an error in CEL, and an error closes the gate for everybody: every one is asked for first.
fn proven(proof: Proof) -> String {
    match proof {
        Proof::Username => "true".to_owned(),
        Proof::PodBound => all(vec![has_uid(), names(POD_NAME)]),
    }
}

fn has_uid() -> String {
    "(has(request.userInfo.uid) && request.userInfo.uid != '')".to_owned()
}

/// True where the authenticator said anything besides name and groups: nobody who is impersonated by name has that.
fn has_credential() -> String {
    "(has(request.userInfo.extra) && request.userInfo.extra.exists(key, size(request.userInfo.extra[key]) > 0 && \
     request.userInfo.extra[key][0] != ''))"
        .to_owned()
}

/// True where the authenticator names this about the credential.
fn names(key: &str) -> String {
    format!(
        "(has(request.userInfo.extra) && {key} in request.userInfo.extra && size(request.userInfo.extra[{key}]) > 0 && \
         request.userInfo.extra[{key}][0] != '')",
        key = text(key)
    )
}

fn named(patterns: &[String]) -> String {
    named_as(USER, patterns)
}

fn named_as(user: &str, patterns: &[String]) -> String {
    let (stars, exact): (Vec<_>, Vec<_>) = patterns.iter().cloned().partition(|pattern| pattern.ends_with('*'));
    let mut ways: Vec<String> =
        stars.iter().map(|pattern| format!("{user}.startsWith({})", text(pattern.trim_end_matches('*')))).collect();
    if !exact.is_empty() {
        ways.insert(0, format!("{user} in {}", list(&exact)));
    }
    any(ways)
}

fn in_namespaces(patterns: &[String]) -> String {
    all(vec!["has(request.namespace)".to_owned(), matches_any("request.namespace", patterns)])
}

fn matches_any(value: &str, patterns: &[String]) -> String {
    let (globs, exact): (Vec<_>, Vec<_>) = patterns.iter().cloned().partition(|pattern| pattern.contains('*'));
    let mut ways = Vec::new();
    if !exact.is_empty() {
        ways.push(format!("{value} in {}", list(&exact)));
    }
    if !globs.is_empty() {
        let regex: Vec<String> = globs.iter().map(|pattern| glob::to_regex(pattern)).collect();
        ways.push(format!("{value}.matches({})", text(&regex.join("|"))));
    }
    any(ways)
}

fn any(parts: Vec<String>) -> String {
    join(parts, " || ", "false")
}

fn all(parts: Vec<String>) -> String {
    join(parts, " && ", "true")
}

fn join(parts: Vec<String>, operator: &str, none: &str) -> String {
    if parts.is_empty() { none.to_owned() } else { format!("({})", parts.join(operator)) }
}

fn list(values: &[String]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| text(value)).collect();
    format!("[{}]", quoted.join(", "))
}

/// A CEL string. Names come from the policy: a quote in one must not end the string.
fn text(value: &str) -> String {
    let escaped: String = value
        .chars()
        .map(|c| match c {
            '\\' => "\\\\".to_owned(),
            '\'' => "\\'".to_owned(),
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            c => c.to_string(),
        })
        .collect();
    format!("'{escaped}'")
}
