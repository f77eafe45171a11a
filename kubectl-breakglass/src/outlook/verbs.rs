//! From kubectl's words to what the API server is asked: `label` is an update, `scale` goes to a subresource.

use breakglass::write::Verb;

/// What a word asks the API server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asks {
    /// The operation.
    pub verb: Verb,
    /// The subresource.
    pub subresource: Option<&'static str>,
    /// Whether the object is made where it is not there.
    pub creates: bool,
    /// The resource, where the word goes to one kind alone: `exec deploy/api` enters a pod.
    pub plural: Option<&'static str>,
}

/// The words, for who types another.
pub const WORDS: &str = "create, apply, update, patch, edit, replace, set, label, annotate, delete, scale, rollout, exec, \
                         attach, cp, port-forward, proxy, debug, evict, drain, status, token";

/// What a word of kubectl's, or a verb of RBAC's, asks for.
pub fn asks(word: &str) -> Option<Asks> {
    let plain = |verb| Asks { verb, subresource: None, creates: false, plural: None };
    let pod = |verb, subresource| Asks { subresource: Some(subresource), plural: Some("pods"), ..plain(verb) };
    Some(match word.to_lowercase().as_str() {
        "create" | "run" | "expose" => plain(Verb::Create),
        "apply" => Asks { creates: true, ..plain(Verb::Update) },
        "update" | "patch" | "edit" | "replace" | "set" | "label" | "annotate" | "rollout" | "cordon" | "taint" => {
            plain(Verb::Update)
        }
        "delete" | "deletecollection" => plain(Verb::Delete),
        "scale" => Asks { subresource: Some("scale"), ..plain(Verb::Update) },
        "status" => Asks { subresource: Some("status"), ..plain(Verb::Update) },
        "exec" | "cp" => pod(Verb::Connect, "exec"),
        "attach" => pod(Verb::Connect, "attach"),
        "port-forward" | "portforward" => pod(Verb::Connect, "portforward"),
        "proxy" => Asks { subresource: Some("proxy"), ..plain(Verb::Connect) },
        "debug" => pod(Verb::Update, "ephemeralcontainers"),
        "evict" | "drain" => pod(Verb::Create, "eviction"),
        "token" => Asks { subresource: Some("token"), plural: Some("serviceaccounts"), ..plain(Verb::Create) },
        _ => return None,
    })
}
