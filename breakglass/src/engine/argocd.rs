//! Answers for Argo CD.

use std::collections::BTreeMap;

use super::{Engine, Owner};

/// Argo CD's group, which it shares with other projects of Argo.
pub(super) const GROUP: &str = "argoproj.io";

/// The kinds in it that say what Argo CD applies, and to where.
pub(super) const PLURALS: [&str; 3] = ["applications", "applicationsets", "appprojects"];

/// The field manager of its application controller, whether it applies on the client's side or the server's
/// (common/common.go, ArgoCDSSAManager).
pub(super) const MANAGERS: [&str; 1] = ["argocd-controller"];

/// Argo CD's tracking id is `<application>:<group>/<kind>:<namespace>/<name>`; an Application in another namespace than
/// Argo CD's own is written `<namespace>_<application>`.
pub(super) fn owner(annotations: &BTreeMap<String, String>) -> Option<Owner> {
    let (application, _) = annotations.get("argocd.argoproj.io/tracking-id")?.split_once(':')?;
    let (namespace, name) = match application.split_once('_') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, application),
    };
    Some(Owner { engine: Engine::ArgoCd, kind: "Application", namespace, name: name.to_owned() })
}
