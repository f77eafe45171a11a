//! Waiting for the webhook to see that changes have come to their end.

use std::time::{Duration, Instant};

use crate::ctx::Ctx;
use crate::error::Result;
use crate::ledger::{self, Keep};

/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(300);

/// Waits until the webhook has seen how each of these changes has ended, and says how. Gives those that it has not seen by then: it
/// sees them later as well.
///
/// # Errors
/// When the cluster does not answer.
pub async fn wait_settled(ctx: &mut Ctx<'_>, mut names: Vec<String>, within: Duration) -> Result<Vec<String>> {
    let begun = Instant::now();
    while !names.is_empty() && begun.elapsed() < within {
        let mut still = Vec::new();
        for name in names {
            let found = ledger::named(&ctx.cluster, &name, Keep::Lines).await?;
            let status = found.and_then(|record| record.change.status);
            match status.and_then(|status| status.outcome) {
                Some(outcome) => ctx.printer.say(&format!("settled: {name} ({outcome:?})")),
                None => still.push(name),
            }
        }
        names = still;
        if !names.is_empty() {
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
    Ok(names)
}
