//! From an error of the API server to a sentence, and what to do about it.

use std::error::Error;
use std::fmt;

use kube::core::Status;

use crate::error::CommandError;

/// What was being done, for the sentence; and which role allows it, for the hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Asking for something that needs no right of ours: `asking who you are`.
    Asking(&'static str),
    /// Opening a token.
    Opening,
    /// Closing a token.
    Closing,
    /// Giving a verdict.
    Deciding,
    /// Writing to an object what was there before.
    PuttingBack,
    /// Reading tokens, records or the policy.
    Reading(&'static str),
}

impl Doing {
    /// The role that comes with our manifests and allows this.
    pub fn role(self) -> Option<&'static str> {
        match self {
            Self::Asking(_) | Self::PuttingBack => None,
            Self::Opening | Self::Closing | Self::Deciding => Some("breakglass-opener"),
            Self::Reading(_) => Some("breakglass-viewer"),
        }
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asking(what) => write!(f, "asking {what}"),
            Self::Opening => f.write_str("opening a token"),
            Self::Closing => f.write_str("closing a token"),
            Self::Deciding => f.write_str("giving a verdict"),
            Self::PuttingBack => f.write_str("putting it back"),
            Self::Reading(what) => write!(f, "reading {what}"),
        }
    }
}

/// The fields of a token that only the webhook fills in.
const FILLED_BY_WEBHOOK: [&str; 3] = ["spec.user", "spec.openedAt", "spec.expiresAt"];

/// Where to look when the webhook does not answer.
const LOOK_AT_WEBHOOK: &str = "kubectl -n breakglass-system get pods";

/// How a cluster admin writes to prod when the webhook cannot be repaired in time.
const LAST_RESORT: &str = "a cluster admin can write past the webhook, with: kubectl --as <you> --as-group \
                           system:masters --as-group breakglass.dev:override …";

/// Says what went wrong.
pub fn explain(error: &kube::Error, doing: Doing, server: &str) -> CommandError {
    match error {
        kube::Error::Api(status) => explain_status(status, doing),
        kube::Error::Service(_) | kube::Error::HyperError(_) => {
            let message = format!("the cluster at {server} could not be reached while {doing}: {}", root_cause(error));
            CommandError::failed(message).hint("kubectl cluster-info")
        }
        kube::Error::Auth(_) => {
            let message = format!("the kubeconfig's login for {server} does not work: {}", root_cause(error));
            CommandError::failed(message).hint("kubectl auth whoami")
        }
        kube::Error::SerdeError(_) => {
            let message = format!("an answer was not understood while {doing}: {}", root_cause(error));
            CommandError::failed(message).hint("kubectl breakglass version")
        }
        other => CommandError::failed(format!("{doing} failed: {}", root_cause(other))),
    }
}

fn explain_status(status: &Status, doing: Doing) -> CommandError {
    if let Some(words) = refusal(&status.message) {
        return CommandError::failed(words);
    }
    let message = status.message.trim();
    match status.code {
        401 => CommandError::failed(format!("the cluster does not know who you are ({message}) while {doing}"))
            .hint("kubectl auth whoami"),
        403 => forbidden(message, doing),
        404 if nothing_by_name(status) && doing.role().is_some() => not_installed(),
        422 if doing == Doing::Opening && nobody_filled_in(status) => {
            let message = "nobody filled in the token's user and times: the breakglass webhook is not installed, or \
                           was not asked";
            CommandError::failed(message)
                .hint(LOOK_AT_WEBHOOK)
                .hint("kubectl get mutatingwebhookconfigurations breakglass")
                .hint(LAST_RESORT)
        }
        500 if message.contains("failed calling webhook") => {
            CommandError::failed(format!("the breakglass webhook did not answer while {doing}: {message}"))
                .hint(LOOK_AT_WEBHOOK)
                .hint(LAST_RESORT)
        }
        429 | 503 | 504 => CommandError::failed(format!("the cluster is too busy while {doing}: {message}"))
            .hint("kubectl get --raw /readyz?verbose"),
        _ => CommandError::failed(format!("{doing} failed: {message}")),
    }
}

/// Its kinds are unknown to the server.
pub fn not_installed() -> CommandError {
    CommandError::failed("breakglass is not installed in this cluster: its kinds are unknown here")
        .hint("kubectl breakglass install")
}

fn forbidden(message: &str, doing: Doing) -> CommandError {
    // `impersonate`, or `impersonate-on:…` where impersonation is constrained: the only mark is in the words.
    if message.contains(" cannot impersonate") {
        return CommandError::failed(format!("you may not act as somebody else: {message}"))
            .hint("kubectl auth can-i impersonate users");
    }
    let Some(role) = doing.role() else { return CommandError::failed(format!("{doing} is forbidden: {message}")) };
    CommandError::failed(format!("{doing} is forbidden: {message}; ask to be bound to the ClusterRole {role}"))
        .hint(format!("kubectl create clusterrolebinding <name> --clusterrole={role} --user=<you>"))
}

/// The words of a webhook that said no, without the API server's frame around them.
///
/// The frame is the only mark of such an answer: ToStatusErr in k8s.io/apiserver's webhook/errors/statuserror.go.
pub fn refusal(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("admission webhook \"")?;
    let (_, words) = rest.split_once("\" denied the request: ")?;
    Some(words.trim())
}

/// Whether it is the kind that was not found, and not one object of it.
pub fn nothing_by_name(status: &Status) -> bool {
    status.details.as_ref().is_none_or(|details| details.name.is_empty())
}

fn nobody_filled_in(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| FILLED_BY_WEBHOOK.contains(&cause.field.as_str()))
}

/// The innermost reason: the outer ones repeat it with their own names in front.
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    /// Errors nest a handful deep; one that is its own source must not hang us.
    const MOST: usize = 16;
    let mut innermost = error;
    for _ in 0..MOST {
        match innermost.source() {
            Some(source) => innermost = source,
            None => break,
        }
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: serde_json::Value) -> kube::Error {
        kube::Error::Api(Box::new(serde_json::from_value(json).unwrap()))
    }

    #[track_caller]
    fn check(json: serde_json::Value, doing: Doing, message: &str, hint: Option<&str>) {
        let explained = explain(&status(json), doing, "https://cluster");
        assert_eq!(explained.message, message);
        assert_eq!(explained.hints.first().map(String::as_str), hint);
        assert_eq!(explained.kind.code(), 1);
    }

    #[test]
    fn a_refusal_is_said_in_the_webhooks_own_words() {
        check(
            serde_json::json!({"code": 403, "reason": "Forbidden",
                "message": "admission webhook \"validate.breakglass.dev\" denied the request: bob is not the holder"}),
            Doing::Closing,
            "bob is not the holder",
            None,
        );
    }

    #[test]
    fn a_missing_right_names_the_role() {
        check(
            serde_json::json!({"code": 403, "reason": "Forbidden", "message": "User \"eve\" cannot create resource",
                "details": {"group": "breakglass.dev", "kind": "breakglasstokens"}}),
            Doing::Opening,
            "opening a token is forbidden: User \"eve\" cannot create resource; \
             ask to be bound to the ClusterRole breakglass-opener",
            Some("kubectl create clusterrolebinding <name> --clusterrole=breakglass-opener --user=<you>"),
        );
    }

    #[test]
    fn kinds_that_are_missing_are_told_from_objects_that_are() {
        let not_installed = "breakglass is not installed in this cluster: its kinds are unknown here";
        for missing in [
            serde_json::json!({"code": 404, "message": "404 page not found", "reason": "Failed to parse error data"}),
            serde_json::json!({"code": 404, "message": "the server could not find the requested resource",
                "reason": "NotFound", "details": {}}),
        ] {
            check(missing, Doing::Reading("the records"), not_installed, Some("kubectl breakglass install"));
        }
        check(
            serde_json::json!({"code": 404, "message": "breakglasstokens.breakglass.dev \"x\" not found",
                "reason": "NotFound", "details": {"name": "x", "kind": "breakglasstokens"}}),
            Doing::Closing,
            "closing a token failed: breakglasstokens.breakglass.dev \"x\" not found",
            None,
        );
    }

    #[test]
    fn a_webhook_that_is_absent_is_told_from_one_that_is_broken() {
        check(
            serde_json::json!({"code": 422, "reason": "Invalid", "message": "BreakglassToken is invalid",
                "details": {"name": "x", "causes": [{"reason": "FieldValueRequired", "field": "spec.user"}]}}),
            Doing::Opening,
            "nobody filled in the token's user and times: the breakglass webhook is not installed, or was not asked",
            Some(LOOK_AT_WEBHOOK),
        );
        check(
            serde_json::json!({"code": 500, "reason": "InternalError",
                "message": "Internal error occurred: failed calling webhook \"x\": connection refused"}),
            Doing::Opening,
            "the breakglass webhook did not answer while opening a token: Internal error occurred: \
             failed calling webhook \"x\": connection refused",
            Some(LOOK_AT_WEBHOOK),
        );
    }

    #[test]
    fn a_stranger_is_told_to_log_in() {
        check(
            serde_json::json!({"code": 401, "reason": "Unauthorized", "message": "Unauthorized"}),
            Doing::Reading("your tokens"),
            "the cluster does not know who you are (Unauthorized) while reading your tokens",
            Some("kubectl auth whoami"),
        );
    }
}
