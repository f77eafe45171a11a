//! What the API server counted: writes that it let in unseen because nobody answered, and writes that it refused for that.

use super::{Finding, HOME, Level};

const CHECK: &str = "unanswered";

/// Counts writes let in because the webhook could not be asked (apiserver pkg/admission/metrics).
const OPEN: &str = "apiserver_admission_webhook_fail_open_count";
/// Counts writes refused, by the reason for it.
const REJECTED: &str = "apiserver_admission_webhook_rejection_count";

/// What is found in the API server's metrics; nothing given: they may not be read.
pub fn metrics(text: Option<&str>) -> Vec<Finding> {
    let Some(text) = text else {
        let message = "the API server's metrics may not be read by you: whether it let writes in unseen is not known";
        return vec![Finding::new(Level::Note, CHECK, message)];
    };
    let mut findings = Vec::new();
    let open = count(text, OPEN, "");
    if open > 0 {
        let message = format!(
            "the API server let {} in without asking the webhook, which did not answer, since the API server started: their \
             objects may lack a stamp",
            writes(open)
        );
        findings.push(Finding::new(Level::Note, CHECK, message).hint("kubectl breakglass list"));
    }
    let closed = count(text, REJECTED, "error_type=\"calling_webhook_error\"");
    if closed > 0 {
        let message = format!(
            "the API server refused {} because the webhook did not answer, since the API server started",
            writes(closed)
        );
        let hint = format!("kubectl -n {HOME} get pods");
        findings.push(Finding::new(Level::Note, CHECK, message).hint(hint));
    }
    if findings.is_empty() {
        findings.push(Finding::new(
            Level::Ok,
            CHECK,
            "the webhook has answered every time since this API server started",
        ));
    }
    findings
}

fn writes(number: u64) -> String {
    if number == 1 { "1 write".to_owned() } else { format!("{number} writes") }
}

/// The sum over our webhooks of a metric whose labels hold `label`.
fn count(text: &str, metric: &str, label: &str) -> u64 {
    let ours = text.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix('{')?.split_once("} "));
    let ours = ours.filter(|(labels, _)| labels.contains(".breakglass.dev\"") && labels.contains(label));
    ours.filter_map(|(_, value)| value.trim().parse::<f64>().ok()).map(whole).sum()
}

/// A counter as a number: metrics are written as floating point.
fn whole(value: f64) -> u64 {
    format!("{:.0}", value.max(0.0)).parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_webhooks_and_only_calls_that_failed_are_counted() {
        let text = format!(
            "# HELP {OPEN} x\n{OPEN}{{name=\"stamp.breakglass.dev\",type=\"admit\"}} 3\n\
             {OPEN}{{name=\"home.breakglass.dev\",type=\"validating\"}} 1\n{OPEN}{{name=\"other.example.com\",type=\"admit\"}} 9\n\
             {REJECTED}{{error_type=\"no_error\",name=\"gate.breakglass.dev\",operation=\"UPDATE\",rejection_code=\"403\"}} 7\n\
             {REJECTED}{{error_type=\"calling_webhook_error\",name=\"gate.breakglass.dev\",operation=\"UPDATE\"}} 1\n"
        );
        let found = metrics(Some(&text));
        assert!(found[0].message.starts_with("the API server let 4 writes in"), "{found:#?}");
        assert!(found[1].message.starts_with("the API server refused 1 write because"), "{found:#?}");
        assert_eq!(metrics(Some(""))[0].level, Level::Ok);
        assert_eq!(metrics(None)[0].level, Level::Note);
    }
}
