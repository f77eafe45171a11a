//! The policy in force: the object `default`, or what is built in.

use breakglass::api::{BreakglassPolicy, POLICY_NAME};
use breakglass::rules::Rules;
use kube::api::Api;

use crate::connect::Connection;
use crate::error::{CommandError, Result};
use crate::explain::{Doing, nothing_by_name};

/// The policy in force, and where it comes from.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The policy.
    pub rules: Rules,
    /// Where it comes from.
    pub source: Source,
}

/// Where a policy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The object named default.
    Object,
    /// There is no such object.
    BuiltIn,
    /// It may not be read, so that the built-in one stands in; the webhook knows better.
    Guessed,
}

/// Reads the policy in force.
///
/// # Errors
/// When the cluster does not answer, breakglass is not installed, or the object contradicts itself.
pub async fn policy_in_force(cluster: &Connection) -> Result<InForce> {
    let api = Api::<BreakglassPolicy>::all(cluster.client.clone());
    let doing = Doing::Reading("the policy");
    let read = async {
        match api.get(POLICY_NAME).await {
            Ok(policy) => Ok(Some(Ok(policy))),
            Err(kube::Error::Api(status)) if status.is_not_found() && !nothing_by_name(&status) => Ok(None),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(Some(Err(()))),
            Err(error) => Err(error),
        }
    };
    let built_in = || Rules::built_in().map_err(|error| CommandError::failed(error.to_string()));
    Ok(match cluster.ask(doing, read).await? {
        Some(Ok(policy)) => {
            let rules = Rules::new(policy.spec).map_err(|error| {
                CommandError::failed(format!("the policy {POLICY_NAME} contradicts itself: {error}"))
                    .hint(format!("kubectl edit breakglasspolicy {POLICY_NAME}"))
            })?;
            InForce { rules, source: Source::Object }
        }
        Some(Err(())) => InForce { rules: built_in()?, source: Source::Guessed },
        None => InForce { rules: built_in()?, source: Source::BuiltIn },
    })
}
